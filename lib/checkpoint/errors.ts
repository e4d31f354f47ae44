/**
 * @file Failures of reading and writing checkpoints: where, what was expected, what was found.
 */

/** What a {@link CheckpointError} knows about the damage. */
export interface CheckpointFacts {
  /** Path of the file (or directory) that is wrong. */
  readonly file: string;
  /** The tensor concerned, when the damage can be pinned to one. */
  readonly tensor?: string;
  /** What a sound checkpoint would have there. */
  readonly expected: string;
  /** What is there. */
  readonly found: string;
}

/**
 * A checkpoint that cannot be used: missing, damaged, or not of the expected model. Nothing was loaded from
 * it.
 */
export class CheckpointError extends Error {
  readonly code = "CHECKPOINT_CORRUPT";
  readonly file: string;
  readonly tensor: string | undefined;
  readonly expected: string;
  readonly found: string;

  constructor(facts: CheckpointFacts, options?: ErrorOptions) {
    const where = facts.tensor === undefined ? facts.file : `${facts.file}: tensor ${facts.tensor}`;
    super(`${where}: expected ${facts.expected}, found ${facts.found}`, options);
    this.name = "CheckpointError";
    this.file = facts.file;
    this.tensor = facts.tensor;
    this.expected = facts.expected;
    this.found = facts.found;
  }
}

/**
 * A checkpoint that could not be written (disk full, no permission, rename refused). What was there before
 * still is.
 */
export class CheckpointWriteError extends Error {
  readonly code = "CHECKPOINT_WRITE_FAILED";
  readonly path: string;

  constructor(path: string, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(`${path}: could not be written, what was there before is kept: ${why}`, { cause });
    this.name = "CheckpointWriteError";
    this.path = path;
  }
}
