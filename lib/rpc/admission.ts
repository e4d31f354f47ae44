/**
 * @file Dynamic batching behind one bounded queue. Items of many calls are run together, up to a budget of items and of
 * padded tokens (longest × count); a call is admitted whole or refused at once, also where it would wait too long for its
 * deadline, and what nobody waits for any more is never run.
 */

import { counter, histogram, observe } from "../telemetry/instruments.js";
import { injectTraceparent, withSpan } from "../telemetry/tracing.js";
import { worthQueueing } from "./deadlines.js";
import { CancelledError, DeadlineError, DrainingError, QueueFullError } from "./errors.js";
import { Pace } from "./pace.js";

/** How a batcher batches. */
export interface BatcherOptions<Item, Result> {
  /** Name in metrics: `rlhf.queue`. */
  name: string;
  /** Most items in a batch. */
  maxItems: number;
  /** Most tokens in a batch, padding included; a longer single item still runs, alone. */
  maxTokens: number;
  /** How long the first item of a batch waits for company, in milliseconds. 0 runs whatever is there. */
  delayMs: number;
  /** Most items that wait. */
  maxQueueItems: number;
  /** Most tokens that wait. */
  maxQueueTokens: number;
  /** Tokens of one item. Must not throw. */
  cost: (item: Item) => number;
  /** False counts tokens without padding: sum instead of longest × count. Default: true. */
  padded?: boolean;
  /** Batches that may run at the same time. Default: 1. */
  concurrency?: number;
  /**
   * Runs a batch. results[i] belongs to items[i]; an Error in a place fails that item alone, a rejection fails all. The
   * signal aborts once nobody waits for any item of the batch.
   */
  run: (items: Item[], batch: BatchContext) => Promise<readonly (Result | Error)[]>;
}

/** What a running batch knows. */
export interface BatchContext {
  /** Aborts once every call in the batch has gone. */
  readonly signal: AbortSignal;
  /** Latest deadline in the batch, epoch milliseconds; undefined if one item has none. */
  readonly deadline: number | undefined;
  /** Tokens of the batch, padding included. */
  readonly tokens: number;
}

/** Places in a queue for items that are still being prepared. */
export interface Reservation {
  /** Gives the places up, once; after that it does nothing. */
  release(): void;
}

/** Runs `work` with a reservation, and gives up what it has not used. */
export async function holding<T>(place: Reservation, work: (place: Reservation) => Promise<T>): Promise<T> {
  try {
    return await work(place);
  } finally {
    place.release();
  }
}

/** Who waits, and how long. */
export interface SubmitOptions {
  /** Places that were reserved for the items: they are admitted even if the queue has become too long for the deadline. */
  place?: Reservation | undefined;
  /** Takes the items out of the queue. */
  signal?: AbortSignal | undefined;
  /** Epoch milliseconds. */
  deadline?: number | undefined;
}

/** What became of one call's items. */
export interface Batched<Result> {
  /** One result an item, in order. */
  results: Result[];
  /** Longest wait of an item in the queue, in milliseconds. */
  queueMs: number;
  /** Longest run of a batch with an item of the call, in milliseconds. */
  runMs: number;
}

interface Entry<Item, Result> {
  readonly item: Item;
  readonly tokens: number;
  readonly index: number;
  readonly call: Call<Result>;
  readonly queuedAt: number;
}

/** One submit: settled once, by its last result, its first failure or its caller. */
interface Call<Result> {
  readonly deadline: number | undefined;
  readonly traceparent: string | undefined;
  readonly results: Result[];
  missing: number;
  settled: boolean;
  queueMs: number;
  runMs: number;
  resolve: (batched: Batched<Result>) => void;
  reject: (error: unknown) => void;
}

const queueDurations = histogram("rlhf.queue.duration");
const batchSizes = histogram("rlhf.batch.size");
const batchTokens = histogram("rlhf.batch.tokens");
const refused = counter("rlhf.queue.refused");

/** How many waiting items are looked at to fill a batch: bounds the work of one batch, keeps it first come, first served. */
const scanAhead = 4;

/** Batches the items of many calls. */
export class Batcher<Item, Result> {
  private queue: Entry<Item, Result>[] = [];
  private tokens = 0;
  private running = 0;
  /** Tokens of the batches that run. */
  private runningTokens = 0;
  /** What reservations hold. */
  private readonly reserved = { items: 0, tokens: 0 };
  /** Smoothed tokens of an item. */
  private tokensPerItem = 1;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  private readonly pace = new Pace();
  private readonly active = new Map<Call<Result>, () => void>();
  private readonly settledListeners = new Set<() => void>();
  private readonly stopMetrics: (() => void)[];

  constructor(private readonly options: BatcherOptions<Item, Result>) {
    const attributes = { "rlhf.queue": options.name };
    this.stopMetrics = [
      observe("rlhf.queue.items", (record) => record(this.queue.length, attributes)),
      observe("rlhf.queue.tokens", (record) => record(this.tokens, attributes)),
    ];
  }

  /** Items and tokens that wait, and batches that run. */
  get load(): { items: number; tokens: number; running: number } {
    return { items: this.queue.length, tokens: this.tokens, running: this.running };
  }

  /**
   * Holds places for a call whose items are not ready yet, so that no call is prepared at a cost and then refused. Throws
   * QueueFullError where so many more items would not be admitted, or would wait too long for the deadline (epoch milliseconds),
   * and DrainingError.
   */
  reserve(items: number, deadline?: number): Reservation {
    const tokens = items * this.tokensPerItem;
    this.assertRoom(items, tokens, deadline);
    const { reserved } = this;
    reserved.items += items;
    reserved.tokens += tokens;
    let held = true;
    return {
      release: () => {
        if (!held) return;
        held = false;
        reserved.items -= items;
        reserved.tokens -= tokens;
      },
    };
  }

  private assertRoom(items: number, tokens: number, deadline: number | undefined): void {
    if (this.closed) throw new DrainingError();
    const { maxQueueItems, maxQueueTokens } = this.options;
    const waiting = this.queue.length + this.reserved.items;
    // an empty queue admits any one call: whether it is too large in itself is for its validation to say
    if (waiting === 0) return;
    const waitingTokens = this.tokens + this.reserved.tokens;
    const fits = waiting + items <= maxQueueItems && waitingTokens + tokens <= maxQueueTokens;
    const waitMs = this.millisecondsOf(waitingTokens + this.runningTokens);
    if (fits && worthQueueing(waitMs, this.millisecondsOf(tokens), deadline)) return;
    this.refuse(items, "queue_full");
    const why = fits
      ? `the queue is too long for the deadline: what waits takes about ${Math.round(waitMs)} ms`
      : `the queue is full: ${waiting} items and ${Math.round(waitingTokens)} tokens wait, at most ${maxQueueItems} and ` +
        `${maxQueueTokens} may`;
    throw new QueueFullError(why, this.retryAfterMs());
  }

  /** Runs one item. Rejects as submitAll does. */
  async submit(
    item: Item,
    options: SubmitOptions = {},
  ): Promise<{ result: Result; queueMs: number; runMs: number }> {
    const { results, queueMs, runMs } = await this.submitAll([item], options);
    return { result: results[0] as Result, queueMs, runMs };
  }

  /**
   * Runs the items of one call, together with those of others. Rejects at once with QueueFullError or DrainingError;
   * later with CancelledError (or the signal's own reason), DeadlineError, or what `run` threw.
   */
  submitAll(
    items: readonly Item[],
    { signal, deadline, place }: SubmitOptions = {},
  ): Promise<Batched<Result>> {
    const costs = items.map((item) => Math.max(1, this.options.cost(item)));
    return new Promise((resolve, reject) => {
      if (items.length === 0) return resolve({ results: [], queueMs: 0, runMs: 0 });
      if (signal?.aborted) return reject(reasonOf(signal));
      const total = costs.reduce((sum, tokens) => sum + tokens, 0);
      place?.release();
      this.assertRoom(items.length, total, place ? undefined : deadline);
      this.tokensPerItem = 0.9 * this.tokensPerItem + (0.1 * total) / items.length;
      const traceparent = injectTraceparent();
      const results: Result[] = new Array(items.length);
      const call: Call<Result> = {
        ...{ deadline, traceparent, results, missing: items.length, settled: false, queueMs: 0, runMs: 0 },
        resolve,
        reject,
      };
      const abort = () => {
        const waiting = this.remove(call);
        if (waiting > 0) this.refuse(waiting, "cancelled");
        this.settle(call, signal && reasonOf(signal));
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.active.set(call, () => signal?.removeEventListener("abort", abort));
      const queuedAt = performance.now();
      items.forEach((item, index) => {
        this.queue.push({ item, tokens: costs[index] ?? 1, index, call, queuedAt });
      });
      this.tokens += total;
      this.schedule();
    });
  }

  /** Refuses new calls and fails those that wait with DRAINING. What runs is finished. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const stop of this.stopMetrics) stop();
    for (const { call } of [...this.queue]) {
      const waiting = this.remove(call);
      if (waiting > 0) this.refuse(waiting, "draining");
      this.settle(call, new DrainingError());
    }
  }

  private schedule(): void {
    const { concurrency = 1, delayMs } = this.options;
    if (this.queue.length === 0 || this.running >= concurrency) return;
    const first = this.queue[0];
    const waited = first ? performance.now() - first.queuedAt : 0;
    if (waited >= delayMs || this.isBatchFull()) {
      clearTimeout(this.timer);
      this.timer = undefined;
      this.start();
      return;
    }
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.schedule();
    }, delayMs - waited);
  }

  /** True if waiting longer could not make the next batch larger. */
  private isBatchFull(): boolean {
    const { maxItems, maxTokens } = this.options;
    return this.queue.length >= maxItems || this.tokens >= maxTokens;
  }

  private start(): void {
    const batch = this.take();
    if (batch.length > 0) {
      this.running++;
      void this.runBatch(batch).finally(() => {
        this.running--;
        this.schedule();
      });
    }
    this.schedule();
  }

  /**
   * The next batch: the first in the queue, and behind it whatever fits the budget and lets the most urgent one be in time. Drops
   * what cannot be in time.
   */
  private take(): Entry<Item, Result>[] {
    const { maxItems, maxTokens, padded = true } = this.options;
    const batch: Entry<Item, Result>[] = [];
    const left: Entry<Item, Result>[] = [];
    let longest = 0;
    let sum = 0;
    let looked = 0;
    let remainingMs = Number.POSITIVE_INFINITY; // until the earliest deadline in the batch
    const now = Date.now();
    for (const entry of this.queue) {
      if (entry.call.settled) continue; // dropped a moment ago, with another item of its call
      if (this.isTooLate(entry)) {
        this.refuse(entry.call.missing, "deadline");
        this.settle(
          entry.call,
          new DeadlineError("the deadline passed, or would, before the call could be computed"),
        );
        continue;
      }
      const nextLongest = Math.max(longest, entry.tokens);
      const next = padded ? nextLongest * (batch.length + 1) : sum + entry.tokens;
      const nextRemainingMs = Math.min(remainingMs, (entry.call.deadline ?? Number.POSITIVE_INFINITY) - now);
      const fits =
        batch.length === 0 ||
        (batch.length < maxItems && next <= maxTokens && this.pace.ofBatch(next) <= nextRemainingMs);
      if (!fits || ++looked > scanAhead * maxItems) {
        left.push(entry);
        continue;
      }
      batch.push(entry);
      remainingMs = nextRemainingMs;
      longest = nextLongest;
      sum += entry.tokens;
    }
    // items of a call that turned out too late may have been taken before: they are dropped too
    const kept = batch.filter(({ call }) => !call.settled);
    this.queue = left.filter(({ call }) => !call.settled);
    this.tokens = this.queue.reduce((total, { tokens }) => total + tokens, 0);
    return kept;
  }

  /** Whether the item could not be done by its deadline even if it ran now and alone. */
  private isTooLate({ call, tokens }: Entry<Item, Result>): boolean {
    return call.deadline !== undefined && Date.now() + this.pace.ofBatch(tokens) > call.deadline;
  }

  private async runBatch(batch: Entry<Item, Result>[]): Promise<void> {
    const { name, run, padded = true } = this.options;
    const attributes = { "rlhf.queue": name };
    const startedAt = performance.now();
    const leavesOthers = this.queue.length > 0;
    const sizes = batch.map(({ tokens }) => tokens);
    const tokens = padded ? Math.max(...sizes) * batch.length : sizes.reduce((a, b) => a + b, 0);
    this.runningTokens += tokens;
    batchSizes.record(batch.length, attributes);
    batchTokens.record(tokens, attributes);
    for (const { queuedAt } of batch) queueDurations.record((startedAt - queuedAt) / 1000, attributes);

    const calls = [...new Set(batch.map(({ call }) => call))];
    const abort = new AbortController();
    const stopListening = this.whenAllSettled(calls, () => abort.abort(new CancelledError()));
    const deadlines = calls.map(({ deadline }) => deadline ?? Number.POSITIVE_INFINITY);
    const latest = Math.max(...deadlines);
    const deadline = Number.isFinite(latest) ? latest : undefined;
    let results: readonly (Result | Error)[];
    try {
      const items = batch.map(({ item }) => item);
      const options = {
        attributes: { ...attributes, "rlhf.batch.size": batch.length, "rlhf.batch.tokens": tokens },
        // a batch has many parents and a span one: the first call's, with links to them all
        parent: calls[0]?.traceparent ?? ("root" as const),
        links: calls.map(({ traceparent }) => traceparent),
      };
      results = await withSpan("rlhf.model.run", options, () =>
        run(items, { signal: abort.signal, deadline, tokens }),
      );
      if (results.length !== batch.length) {
        throw new Error(`queue ${name}: ${batch.length} items were run, ${results.length} results came back`);
      }
    } catch (error) {
      for (const { call } of batch) {
        this.remove(call);
        this.settle(call, error);
      }
      return;
    } finally {
      this.runningTokens -= tokens;
      stopListening();
    }
    const runMs = performance.now() - startedAt;
    this.pace.note(tokens, runMs, leavesOthers);
    batch.forEach((entry, i) => {
      this.deliver(entry, results[i] as Result | Error, startedAt - entry.queuedAt, runMs);
    });
  }

  private deliver(
    { call, index }: Entry<Item, Result>,
    result: Result | Error,
    queueMs: number,
    runMs: number,
  ): void {
    if (call.settled) return;
    if (result instanceof Error) {
      this.remove(call);
      this.settle(call, result);
      return;
    }
    call.results[index] = result;
    call.queueMs = Math.max(call.queueMs, queueMs);
    call.runMs = Math.max(call.runMs, runMs);
    if (--call.missing === 0) this.settle(call);
  }

  private settle(call: Call<Result>, error?: unknown): void {
    if (call.settled) return;
    call.settled = true;
    this.active.get(call)?.();
    this.active.delete(call);
    if (error === undefined)
      call.resolve({ results: call.results, queueMs: call.queueMs, runMs: call.runMs });
    else call.reject(error);
    for (const listener of [...this.settledListeners]) listener();
  }

  private whenAllSettled(calls: readonly Call<Result>[], done: () => void): () => void {
    const check = () => {
      if (calls.every(({ settled }) => settled)) done();
    };
    this.settledListeners.add(check);
    return () => this.settledListeners.delete(check);
  }

  /** Takes a call's waiting items out of the queue; their number. */
  private remove(call: Call<Result>): number {
    const before = this.queue.length;
    this.queue = this.queue.filter((entry) => entry.call !== call);
    this.tokens = this.queue.reduce((total, { tokens }) => total + tokens, 0);
    return before - this.queue.length;
  }

  private refuse(items: number, why: string): void {
    refused.add(items, { "rlhf.queue": this.options.name, "rlhf.refusal": why });
  }

  /** How long tokens take when many wait, in milliseconds; 0 before that was seen. */
  private millisecondsOf(tokens: number): number {
    return this.pace.ofQueue(tokens) / (this.options.concurrency ?? 1);
  }

  /** About the time that half of the queue takes, between 50 ms and 5 s, with jitter so that not all come back at once. */
  private retryAfterMs(): number {
    const half = this.millisecondsOf(this.tokens + this.reserved.tokens) / 2;
    return Math.round(Math.min(5000, Math.max(50, half)) * (0.75 + Math.random() / 2));
  }
}

function reasonOf(signal: AbortSignal): unknown {
  const reason: unknown = signal.reason;
  return reason instanceof Error && "code" in reason && typeof reason.code === "string"
    ? reason
    : new CancelledError();
}
