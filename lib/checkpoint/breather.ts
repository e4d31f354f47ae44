/** @file Long computations on the event loop's thread, in pieces short enough that everybody else gets a turn. */

/** Bytes hashed, searched or copied between two turns of the event loop: 2 to 5 ms of work on a core of one's own. */
export const BREATH_BYTES = 4 << 20;

/** Lets the event loop turn once for every so many bytes of work. */
export class Breather {
  readonly #every: number;
  #since = 0;

  constructor(every = BREATH_BYTES) {
    this.#every = every;
  }

  /** Counts work done; after enough of it, waits for one turn of the event loop. */
  async after(bytes: number): Promise<void> {
    this.#since += bytes;
    if (this.#since < this.#every) return;
    this.#since = 0;
    await new Promise((resume) => setImmediate(resume));
  }
}
