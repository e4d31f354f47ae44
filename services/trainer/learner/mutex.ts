/**
 * @file One at a time, in order of arrival: the weights must not change under a forward pass.
 */

/** Runs pieces of asynchronous work one after another. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` after everything queued before it, whether that failed or not, and returns its result. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
