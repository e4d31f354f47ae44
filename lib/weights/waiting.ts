/** @file Waits that always end: by result, by deadline, or by the caller's signal. */

/** `work`, or the error of `late()` after `ms`, or that of `cancelled()` when `signal` aborts first. The loser is ignored. */
export async function withDeadline<T>(
  work: Promise<T>,
  ms: number,
  late: () => Error,
  signal?: AbortSignal,
  cancelled: () => Error = late,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let abort: (() => void) | undefined;
  const bound = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
    abort = () => reject(cancelled());
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([work, bound]);
  } finally {
    clearTimeout(timer);
    if (abort) signal?.removeEventListener("abort", abort);
    work.catch(() => {}); // it may still fail after we gave up on it
  }
}

/** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Something that may happen while nobody looks: `next()` resolves at once when it did since the last look. */
export class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  /** Marks that it happened. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves when it happened, after `ms`, or when `signal` aborts. */
  async next(ms: number, signal?: AbortSignal): Promise<void> {
    if (!this.#rung && !signal?.aborted) {
      const timeout = new AbortController();
      this.#wake = () => timeout.abort();
      await pause(ms, signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal);
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}

/** Repeats `attempt` until `signal` aborts: again after it ends or fails, with a pause that grows from 0.1 s to 5 s. */
export async function keepDoing(
  attempt: () => Promise<void>,
  signal: AbortSignal,
  onFailure: (error: Error) => void,
): Promise<void> {
  let wait = 100;
  while (!signal.aborted) {
    const start = performance.now();
    try {
      await attempt();
    } catch (error) {
      if (!signal.aborted) onFailure(error as Error);
    }
    wait = performance.now() - start > 10_000 ? 100 : Math.min(wait * 2, 5000);
    await pause(wait, signal);
  }
}
