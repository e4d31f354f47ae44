/**
 * @file A data file that cannot be used: which file, row and column, what was expected and what is there.
 */

/** Where a {@link DatasetError} happened. */
export interface DatasetFacts {
  readonly file: string;
  /** Data row from 1, the header not counted. */
  readonly row?: number;
  /** Line of the file from 1, for formats that have lines. */
  readonly line?: number;
  readonly column?: string;
  readonly expected: string;
  readonly found: string;
}

/** A missing, damaged or unsuitable data file. No rows of it are used. */
export class DatasetError extends Error {
  readonly code = "DATASET_INVALID";
  readonly file: string;
  readonly row: number | undefined;
  readonly column: string | undefined;
  readonly expected: string;
  readonly found: string;

  constructor(facts: DatasetFacts, options?: ErrorOptions) {
    const line = facts.line === undefined ? "" : ` (line ${facts.line})`;
    const row = facts.row === undefined ? "" : `: row ${facts.row}${line}`;
    const column = facts.column === undefined ? "" : `${row ? "," : ":"} column ${facts.column}`;
    super(`${facts.file}${row}${column}: expected ${facts.expected}, found ${facts.found}`, options);
    this.name = "DatasetError";
    this.file = facts.file;
    this.row = facts.row;
    this.column = facts.column;
    this.expected = facts.expected;
    this.found = facts.found;
  }
}
