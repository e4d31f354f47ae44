/**
 * @file What one row holds so far: prompt and generated ids, in order, with the set of distinct ids that the repetition
 * penalty needs. A row is never padded here, so padding never takes part in a rule.
 */

/** Ids of one row. `ids` grows by `push`; nothing is ever removed. */
export class TokenHistory {
  /** Prompt, then generated ids. */
  readonly ids: number[];
  /** Every id that occurs in `ids`. */
  readonly distinct: Set<number>;
  /** Number of prompt ids, Q. */
  readonly promptLength: number;

  constructor(promptIds: Iterable<number>) {
    this.ids = [...promptIds];
    this.distinct = new Set(this.ids);
    this.promptLength = this.ids.length;
  }

  /** Prompt and generated ids together. */
  get length(): number {
    return this.ids.length;
  }

  /** Number of generated ids, G. */
  get generated(): number {
    return this.ids.length - this.promptLength;
  }

  /** Appends a generated id. */
  push(id: number): void {
    this.ids.push(id);
    this.distinct.add(id);
  }
}
