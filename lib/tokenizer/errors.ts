/**
 * @file Failures of loading a tokenizer: which file, what was expected, what is there.
 */

/** A tokenizer that cannot be used because its files are missing, damaged or contradict each other. */
export class TokenizerError extends Error {
  readonly code = "CHECKPOINT_CORRUPT";
  readonly file: string;
  readonly expected: string;
  readonly found: string;

  constructor(facts: { file: string; expected: string; found: string }, options?: ErrorOptions) {
    super(`${facts.file}: expected ${facts.expected}, found ${facts.found}`, options);
    this.name = "TokenizerError";
    this.file = facts.file;
    this.expected = facts.expected;
    this.found = facts.found;
  }
}
