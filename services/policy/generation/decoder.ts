/**
 * @file The loop that generates: continuous batching. Between two steps requests join as rows and cache have room, in
 * order of arrival; cancelled and finished rows have left by then. A request keeps the weights it began with, so rows on
 * different weights step in lanes of their own.
 */

import type { Engine } from "../../../lib/engine/index.js";
import { DeadlineError, DrainingError, QueueFullError } from "../../../lib/rpc/errors.js";
import { cancellation } from "../cancellation.js";
import { CacheTooSmallError } from "../errors.js";
import { type CacheGeometry, cacheBytes, KvCache } from "../model/kv-cache.js";
import type { WeightStore } from "../model/weight-store.js";
import type { TokenBytes } from "../sampling/stop-rules.js";
import { GenerateJob, type GenerateJobOptions, type GenerateOutcome } from "./generate-job.js";
import { Lane, type Row, type StepModel } from "./lane.js";
import type { Sequence } from "./sequence.js";

/** Limits of a decoder. */
export interface DecoderLimits {
  /** Sequences that run at once. */
  readonly maxRows: number;
  /** Bytes of all caches together; at least what one row of the longest kind takes. */
  readonly maxCacheBytes: number;
  /** Prompt tokens, padding included, that are read between two steps: more delays rows that run. */
  readonly maxPromptTokens: number;
  /**
   * Whether a sequence's numbers must not depend, to the bit, on how many run with it. Costs about twice the time where a
   * single sequence runs. Default false: they agree to float noise.
   */
  readonly batchInvariant?: boolean;
  /** Sequences that wait at most, beyond those for which there are rows. */
  readonly maxWaiting: number;
  /** Tokens that wait at most, each sequence with all that it may come to; what finds nobody waiting is taken whatever its size. */
  readonly maxWaitingTokens: number;
}

/** What runs and waits now. */
export interface DecoderStats {
  /** Sequences that hold a row of a cache. */
  readonly active: number;
  /** Sequences that wait for one. */
  readonly waiting: number;
  /** Requests not yet answered. */
  readonly jobs: number;
  /** Sets of weights in use by rows. */
  readonly lanes: number;
  /** Bytes of caches, an idle one kept for the next request included. */
  readonly cacheBytes: number;
}

/** What a decoder tells whoever measures. */
export interface DecoderObserver {
  /** After each run of the model. */
  ran?(phase: "prefill" | "decode", ms: number, rows: number): void;
  /** When an unexpected error failed a lane. */
  failed?(error: unknown): void;
}

/** An idle cache above this size is given back at once instead of being kept for the next request. */
const KEPT_CACHE_BYTES = 512 * 2 ** 20;

/** Generates for many requests at once. */
export class Decoder {
  readonly #queue: GenerateJob[] = [];
  readonly #jobs = new Set<GenerateJob>();
  readonly #lanes: Lane[] = [];
  readonly #geometry: CacheGeometry;
  #idleCache: KvCache | undefined;
  #running: Promise<void> | undefined;
  #closed = false;
  /** Running mean of how long a request takes, for the advice to come back later. */
  #meanJobMs = 1000;
  /** About the shortest time of a decode step, in milliseconds: what a sequence takes at least for each token. */
  #leastStepMs = 0;

  /** Throws CacheTooSmallError where not even one row of the longest kind fits. */
  constructor(
    private readonly engine: Engine,
    private readonly model: StepModel,
    private readonly store: WeightStore,
    geometry: Omit<CacheGeometry, "maxRows">,
    private readonly limits: DecoderLimits,
    private readonly tokenBytes: TokenBytes,
    private readonly observer: DecoderObserver = {},
  ) {
    const spare = limits.batchInvariant ? 1 : 0;
    this.#geometry = { ...geometry, maxRows: limits.maxRows + spare };
    const least = cacheBytes(this.#geometry, 1 + spare, geometry.maxTime);
    if (limits.maxCacheBytes < least) throw new CacheTooSmallError(limits.maxCacheBytes, least);
  }

  /**
   * Generates every sequence of a request. Rejects with QueueFullError, VersionNotHeldError, DrainingError, CancelledError
   * (or the reason of the signal where that is an Error with a `code`), DeadlineError, EverythingBannedError, NonFiniteOutputError.
   */
  async generate(options: GenerateJobOptions): Promise<GenerateOutcome> {
    if (this.#closed) throw new DrainingError();
    if (options.signal?.aborted) throw cancellation(options.signal);
    const job = new GenerateJob(options, this.tokenBytes);
    this.#assertRoom(job);
    const weights = this.store.acquire(options.demand); // refuses at once what cannot be served
    if (options.demand.version === undefined) weights.release();
    else job.weights = weights; // an exact version must not be gone when its turn comes
    const cancel = () => job.fail(cancellation(options.signal!));
    options.signal?.addEventListener("abort", cancel, { once: true });
    const started = performance.now();
    this.#queue.push(job);
    this.#jobs.add(job);
    this.#running ??= this.#loop();
    try {
      const outcome = await job.outcome;
      this.#meanJobMs += 0.2 * (performance.now() - started - this.#meanJobMs);
      return outcome;
    } finally {
      options.signal?.removeEventListener("abort", cancel);
      this.#jobs.delete(job);
    }
  }

  stats(): DecoderStats {
    return {
      active: this.#active(),
      waiting: this.#waiting(),
      jobs: this.#jobs.size,
      lanes: this.#lanes.length,
      cacheBytes: this.#lanes.reduce((sum, lane) => sum + lane.cache.bytes, this.#idleCache?.bytes ?? 0),
    };
  }

  /** Refuses new requests, fails those that run, and gives all memory back. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#jobs) job.fail(new DrainingError());
    await this.#running;
    await this.#idleCache?.close();
    this.#idleCache = undefined;
  }

  /** Throws QueueFullError where a request is one too many. */
  #assertRoom({ sequences }: GenerateJob): void {
    const { maxRows, maxWaiting, maxWaitingTokens } = this.limits;
    const refuse = (message: string): never => {
      throw new QueueFullError(message, Math.round(Math.min(30_000, Math.max(50, this.#meanJobMs))));
    };
    const present = this.#active() + this.#waiting();
    if (present + sequences.length > maxRows + maxWaiting) {
      refuse(
        `${present} sequences run or wait, ${sequences.length} more would exceed ${maxRows + maxWaiting}`,
      );
    }
    const waiting = tokensOf(this.#queue.flatMap((job) => job.waiting));
    const more = tokensOf(sequences);
    if (waiting > 0 && waiting + more > maxWaitingTokens) {
      refuse(`${waiting} tokens wait, ${more} more would exceed ${maxWaitingTokens}`);
    }
  }

  #active(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.size, 0);
  }

  #waiting(): number {
    return this.#queue.reduce((sum, job) => sum + job.waiting.length, 0);
  }

  async #loop(): Promise<void> {
    try {
      while (this.#queue.length > 0 || this.#lanes.length > 0) {
        for (const lane of this.#lanes) await this.#guard(lane, () => lane.compact());
        await this.#dropIdleLanes();
        await this.#admit();
        for (const lane of [...this.#lanes]) {
          const rows = lane.size;
          const started = performance.now();
          await this.#guard(lane, () => lane.step());
          if (rows > 0) this.#stepped(performance.now() - started, rows);
        }
        await this.#dropIdleLanes();
        // an engine may answer without leaving the microtask queue; cancellations arrive as events
        await new Promise((resume) => setImmediate(resume));
      }
    } catch (error) {
      // a broken invariant of ours: nobody may wait for ever
      this.observer.failed?.(error);
      for (const job of this.#jobs) job.fail(error);
      for (const lane of this.#lanes.splice(0)) lane.cache.release();
      this.#queue.length = 0;
    } finally {
      this.#running = undefined;
    }
  }

  #stepped(ms: number, rows: number): void {
    // creeps up, so that one step that was timed too short is forgotten
    this.#leastStepMs = this.#leastStepMs === 0 ? ms : Math.min(ms, this.#leastStepMs * 1.01);
    this.observer.ran?.("decode", ms, rows);
  }

  /** Whether a request of which nothing runs yet could not be done by its deadline even if it ran now and alone. */
  #isTooLate({ ended, begun, waiting, options: { deadline } }: GenerateJob): boolean {
    if (ended || begun || deadline === undefined) return false;
    const steps = Math.max(...waiting.map(leastTokens));
    return Date.now() + steps * this.#leastStepMs > deadline;
  }

  /** Gives rows and cache to waiting sequences, oldest request first, and reads their prompts. */
  async #admit(): Promise<void> {
    const admitted = new Map<Lane, Row[]>();
    let tokens = 0;
    let full = false;
    while (!full && this.#queue.length > 0) {
      const job = this.#queue[0];
      if (this.#isTooLate(job)) {
        job.fail(new DeadlineError("the deadline passed, or would, before the call could be computed"));
      }
      const lane = job.ended ? undefined : this.#laneFor(job);
      if (lane) {
        const rows = admitted.get(lane) ?? [];
        admitted.set(lane, rows);
        while (job.waiting.length > 0 && !full) {
          const [sequence] = job.waiting;
          const length = sequence.history.length;
          // the first of all is taken whatever its length, else a long prompt would wait for ever
          full =
            !this.#fits(lane, admitted, sequence.mostTokens) ||
            (tokens > 0 && tokens + length > this.limits.maxPromptTokens);
          if (full) break;
          rows.push({ sequence, job });
          job.waiting.shift();
          job.admitted();
          tokens += length;
        }
      }
      if (job.waiting.length === 0) this.#queue.shift();
    }
    for (const [lane, rows] of admitted) {
      if (rows.length === 0) continue;
      const started = performance.now();
      await this.#guard(lane, () => lane.admit(rows, this.limits.maxPromptTokens), rows);
      this.observer.ran?.("prefill", performance.now() - started, rows.length);
      await this.#guard(lane, () => lane.compact());
    }
  }

  /** The lane of a job's weights, which are chosen now if they were not yet. Undefined where the job had to be failed. */
  #laneFor(job: GenerateJob): Lane | undefined {
    try {
      job.weights ??= this.store.acquire(job.options.demand);
    } catch (error) {
      job.fail(error); // served when it arrived, rolled back since
      return undefined;
    }
    const { weights } = job;
    const known = this.#lanes.find((lane) => lane.weights === weights);
    if (known) return known;
    const cache = this.#idleCache ?? new KvCache(this.engine, this.#geometry);
    this.#idleCache = undefined;
    const lane = new Lane(weights, this.model, cache, this.limits.batchInvariant);
    this.#lanes.push(lane);
    return lane;
  }

  /** Whether one more sequence of at most `mostTokens` has a row and cache, besides those admitted in this round. */
  #fits(lane: Lane, admitted: ReadonlyMap<Lane, readonly Row[]>, mostTokens: number): boolean {
    const pending = [...admitted.values()].reduce((sum, rows) => sum + rows.length, 0);
    const active = this.#active() + pending;
    if (active === 0) return true; // a single row always fits: the limits were checked at start
    if (active >= this.limits.maxRows) return false;
    const bytes = () =>
      this.#lanes.reduce((sum, each) => {
        const joining = admitted.get(each) ?? [];
        const most = Math.max(0, ...joining.map(({ sequence }) => sequence.mostTokens));
        const one = each === lane ? 1 : 0;
        return sum + each.bytesWith(joining.length + one, one ? Math.max(most, mostTokens) : most);
      }, this.#idleCache?.bytes ?? 0);
    if (bytes() <= this.limits.maxCacheBytes) return true;
    // buffers kept from earlier requests may be larger than what is needed now
    this.#idleCache?.release();
    if (lane.size === 0 && !admitted.get(lane)?.length) lane.cache.release();
    return bytes() <= this.limits.maxCacheBytes;
  }

  /** Runs part of a lane's work; an error fails every request in the lane and leaves the lane empty. */
  async #guard(lane: Lane, work: () => Promise<void>, joining: readonly Row[] = []): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.observer.failed?.(error);
      lane.fail(error);
      for (const { job } of joining) job.fail(error);
      await lane.compact();
    }
  }

  async #dropIdleLanes(): Promise<void> {
    for (const lane of this.#lanes.filter(({ size }) => size === 0)) {
      this.#lanes.splice(this.#lanes.indexOf(lane), 1);
      if (!this.#idleCache && lane.cache.bytes <= KEPT_CACHE_BYTES && !this.#closed)
        this.#idleCache = lane.cache;
      else await lane.cache.close();
    }
  }
}

/** Tokens that sequences may come to. */
function tokensOf(sequences: readonly Sequence[]): number {
  return sequences.reduce((sum, { mostTokens }) => sum + mostTokens, 0);
}

/** Tokens that a sequence generates whatever the model says. */
function leastTokens({ spec: { options } }: Sequence): number {
  const mayEnd = options.eosTokenIds.length > 0 || options.stopStrings.length > 0;
  return mayEnd ? Math.max(1, options.minNewTokens) : options.maxNewTokens;
}
