/**
 * @file Sequences of different lengths as one padded array, and where in it the tokens of interest lie.
 * Rows are padded on the right: a causal model never sees the padding from a real token. Rows of hidden states are gathered by
 * index before the output layer, so logits are computed where they are read and nowhere else.
 */
import { LearnerInputError } from "./errors.js";
import type { HostFeed } from "./run-program.js";

/** What a sequence may hold at most. */
export interface SequenceLimits {
  /** Positions of the model. */
  readonly positions: number;
  /** Entries of the vocabulary. */
  readonly vocabSize: number;
}

/** Token ids [B, T] int64, padded on the right with 0. */
export function padTokens(sequences: readonly ArrayLike<number>[], time: number): HostFeed {
  const data = new BigInt64Array(new ArrayBuffer(8 * sequences.length * time));
  for (const [row, ids] of sequences.entries()) {
    for (let t = 0; t < Math.min(ids.length, time); t++) data[row * time + t] = BigInt(ids[t]);
  }
  return { dtype: "int64", dims: [sequences.length, time], data };
}

/** Numbers as an int64 vector. */
export function int64Feed(values: readonly number[]): HostFeed {
  const data = new BigInt64Array(new ArrayBuffer(8 * values.length));
  for (const [i, value] of values.entries()) data[i] = BigInt(value);
  return { dtype: "int64", dims: [values.length], data };
}

/** Rows of numbers one after another, as a float32 vector. */
export function float32Feed(rows: readonly ArrayLike<number>[]): HostFeed {
  const length = rows.reduce((total, row) => total + row.length, 0);
  const data = new Float32Array(new ArrayBuffer(4 * length));
  let at = 0;
  for (const row of rows) {
    data.set(row, at);
    at += row.length;
  }
  return { dtype: "float32", dims: [length], data };
}

/** Places row · time + position of windows, one window per row. */
export function places(windows: readonly { start: number; count: number }[], time: number): number[] {
  return windows.flatMap(({ start, count }, row) =>
    Array.from({ length: count }, (_, t) => row * time + start + t),
  );
}

/** Throws LearnerInputError naming `field` when a sequence is longer than the model's positions. */
export function checkLength(length: number, { positions }: SequenceLimits, field: string): void {
  if (length > positions)
    throw new LearnerInputError(field, `expected at most ${positions} tokens, got ${length}`);
}

/** Throws LearnerInputError naming `field` when there are no ids, or one is not in the vocabulary. */
export function checkIds(ids: ArrayLike<number>, { vocabSize }: SequenceLimits, field: string): void {
  if (ids.length === 0) throw new LearnerInputError(field, "expected at least 1 token, got 0");
  for (let t = 0; t < ids.length; t++) {
    const id = ids[t];
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new LearnerInputError(`${field}[${t}]`, `expected an id from 0 to ${vocabSize - 1}, got ${id}`);
    }
  }
}
