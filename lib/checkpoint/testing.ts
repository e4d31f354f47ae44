/** @file For tests of work that must let the event loop turn. */

/** Counts turns of the event loop from now on; `stop` it, or the process does not end. */
export class TurnCounter {
  turns = 0;
  #stopped = false;

  constructor() {
    const count = () => {
      this.turns += 1;
      if (!this.#stopped) setImmediate(count);
    };
    setImmediate(count);
  }

  stop(): void {
    this.#stopped = true;
  }
}
