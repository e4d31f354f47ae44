/**
 * @file Work that takes a server visible time: what it does with its time is seen from outside, by how long the next call takes, and
 * by what it refuses when there is too much of it.
 */
import { setMaxListeners } from "node:events";
import type { RpcError } from "../../lib/rpc/index.js";
import { must, needs } from "./check.js";
import { errorOf, type Target } from "./target.js";

/** Work must take this long for a stop to be seen, in milliseconds. */
export const VISIBLE_MS = 60;
/** Work is made larger until it takes this long. */
const WANTED_MS = 250;
/** How many times as much work is cancelled as is measured. */
export const CANCELLED_TIMES = 5;
/** Items that are sent to a full queue, as a multiple of those that it has room for. */
const FILL_TIMES = 3;
/** How long a server may hold more items than it has room for: the time that the calls take to arrive and to be read. */
const ARRIVAL_MS = 5000;

/** Measured work. */
export interface Work {
  /** Items of each call. */
  readonly size: number;
  /** Calls at once. */
  readonly calls: number;
  /** How long all of them take when nothing else runs. */
  readonly ms: number;
}

const measured = new WeakMap<Target, Promise<Work>>();

/** Work of about a quarter of a second, or as much as the limits allow. Measured once per target. */
export function measuredWork(target: Target): Promise<Work> {
  let known = measured.get(target);
  if (!known) {
    known = measure(target);
    measured.set(target, known);
  }
  return known;
}

/** The same, where it takes long enough for a stop to be seen. */
export async function visibleWork(target: Target): Promise<Work> {
  const work = await measuredWork(target);
  needs(
    work.ms >= VISIBLE_MS,
    `${work.calls * work.size} items take ${Math.round(work.ms)} ms: too quick to see whether they were stopped`,
  );
  return work;
}

async function measure(target: Target): Promise<Work> {
  const items = target.limit(target.subject.itemsLimit) ?? 64;
  // all that is cancelled at once must find room in the queue
  const room = Math.floor((target.limit(target.subject.queueLimit) ?? 1024) / (CANCELLED_TIMES + 1));
  let work = { size: 1, calls: 1, ms: Number.POSITIVE_INFINITY };
  await timed(target, work); // the first run of a shape is slow
  for (let next: typeof work | undefined = work; next; next = larger(work, items, room)) {
    try {
      work = { ...next, ms: await timed(target, next) };
    } catch (error) {
      if ((error as RpcError).status !== "RESOURCE_EXHAUSTED" || next.calls === 1) throw error;
      break; // its queue is bounded in another measure too
    }
    if (work.ms >= WANTED_MS) break;
  }
  return { ...work, ms: Math.min(work.ms, await timed(target, work), await timed(target, work)) };
}

/** More items, then more calls; undefined where the limits allow no more. */
function larger({ size, calls, ms }: Work, items: number, room: number): Work | undefined {
  const most = Math.max(1, Math.min(items, room));
  if (size < most) return { size: Math.min(most, size * 4), calls, ms };
  return 2 * calls * size <= room ? { size, calls: 2 * calls, ms } : undefined;
}

/** Starts work; the calls. */
export function start(target: Target, { size, calls }: Work, signal?: AbortSignal): Promise<unknown>[] {
  return Array.from({ length: calls }, () => target.send(target.subject.work(size), { signal }));
}

/** Does work; how long it took in milliseconds. */
export async function timed(target: Target, work: Work): Promise<number> {
  const began = performance.now();
  await Promise.all(start(target, work));
  return performance.now() - began;
}

/** Makes one call while the other calls of the work run, and cancels those when it has ended. */
export async function withCompany<T>(target: Target, work: Work, call: () => Promise<T>): Promise<T> {
  const stop = stopper();
  const company = start(target, { ...work, calls: work.calls - 1 }, stop.signal);
  try {
    return await call();
  } finally {
    stop.abort();
    await Promise.allSettled(company);
  }
}

/** Cancels any number of calls. */
export function stopper(): AbortController {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  return stop;
}

/**
 * Sends more than may wait, until something is refused; then cancels it all. The refusal; undefined if the server did the work as
 * fast as it came. Fails the check where the server holds more than its limits say.
 */
export async function fillQueue(target: Target): Promise<RpcError | undefined> {
  const { itemsLimit, queueLimit, runningLimit } = target.subject;
  const items = target.neededLimit(itemsLimit);
  const waiting = target.neededLimit(queueLimit);
  const running = target.limit(runningLimit) ?? items;
  const calls = Math.ceil((FILL_TIMES * (waiting + running)) / items) + 1;
  const stop = stopper();
  let refusal: RpcError | undefined;
  let held = calls * items;
  const sent = Array.from({ length: calls }, async () => {
    const call = target.send(target.subject.work(items), { signal: stop.signal });
    const error = await errorOf(call, "a call").catch(() => undefined);
    held -= items;
    if (stop.signal.aborted || !error) return;
    refusal = error;
    stop.abort();
  });
  await Promise.race([Promise.all(sent), sleep(ARRIVAL_MS, stop.signal)]);
  const tooMany = refusal === undefined && held > waiting + running ? held : 0;
  if (tooMany > 0 || held === 0) stop.abort(); // nothing more to see
  await Promise.all(sent);
  must(
    tooMany === 0,
    `${ARRIVAL_MS} ms after ${calls} calls of ${items} items the server holds ${tooMany} and has refused none; ` +
      `limits: ${waiting} wait (${queueLimit}) and ${running} run`,
  );
  must(
    refusal === undefined || refusal.status === "RESOURCE_EXHAUSTED",
    `a full queue: expected RESOURCE_EXHAUSTED, got ${refusal?.message}`,
  );
  return refusal;
}

/** Resolves after so many milliseconds, or once the signal fires. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}
