/** @file Small memories of detectors: the last values of a series, and how long something has been so. Pure. */

/** The newest values of a series. */
export class Recent {
  readonly #values: number[] = [];

  constructor(readonly size: number) {}

  push(value: number): void {
    this.#values.push(value);
    if (this.#values.length > this.size) this.#values.shift();
  }

  get full(): boolean {
    return this.#values.length === this.size;
  }

  get values(): readonly number[] {
    return this.#values;
  }

  clear(): void {
    this.#values.length = 0;
  }
}

/** Values of consecutive steps for as long as a condition holds. */
export class Streak {
  readonly #recent: Recent;

  constructor(
    readonly least: number,
    private readonly holds: (value: number) => boolean,
  ) {
    this.#recent = new Recent(least);
  }

  /** The newest `least` values if the condition has held that long. A step without the value is left out. */
  observe(value: number | undefined): readonly number[] | undefined {
    if (value === undefined) return undefined;
    if (!this.holds(value)) {
      this.#recent.clear();
      return undefined;
    }
    this.#recent.push(value);
    return this.#recent.full ? this.#recent.values : undefined;
  }
}
