/**
 * @file A first-come, first-served queue that lets a fixed number of jobs run at once.
 *
 * A run of a graph holds one libuv thread and, through the engine's own threads, all the cores it was given. Two heavy
 * runs at once finish no sooner than one after the other, and four would leave no libuv thread for files and crypto.
 * So each engine runs one graph at a time, and all engines of a process together leave two libuv threads free.
 */

/** Runs jobs in order of arrival, at most `limit` at a time. */
export class RunQueue {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Jobs running or waiting. */
  get depth(): number {
    return this.#running + this.#waiting.length;
  }

  /** Runs `job` when its turn comes and returns what it returns. */
  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#limit) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      return await job();
    } finally {
      // hand the place to the next in line, or give it up
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }
}

/** Libuv threads that are never given to runs: files and crypto want some. */
const SPARED_THREADS = 2;

/** Environment of a process in which this many graphs are to run at once. */
export function runsEnvironment(runs: number): Record<string, string> {
  return runs <= 4 - SPARED_THREADS ? {} : { UV_THREADPOOL_SIZE: String(runs + SPARED_THREADS) };
}

/** Threads of libuv's pool in this process: UV_THREADPOOL_SIZE, else 4. */
function libuvThreads(): number {
  const configured = Number(process.env.UV_THREADPOOL_SIZE);
  return Number.isInteger(configured) && configured > 0 ? configured : 4;
}

/** Shared by every engine of this process: native runs that may hold a libuv thread at once. */
export const processRuns = new RunQueue(Math.max(1, libuvThreads() - SPARED_THREADS));
