/**
 * @file Sequences of different lengths one after another, so that nothing is computed for padding, and where among them the tokens of
 * interest lie. Hidden states are gathered by index before the output layer, so logits are computed where they are read and nowhere else.
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

/** Packed sequences. */
export interface PackedTokens {
  /** For `packedInputs` of lib/models/gpt2.ts. */
  readonly feeds: Record<string, HostFeed>;
  /** Where each sequence begins among the N tokens. */
  readonly starts: readonly number[];
}

/** Packs sequences of token ids, each of at least one. */
export function packTokens(sequences: readonly ArrayLike<number>[]): PackedTokens {
  const time = Math.max(...sequences.map(({ length }) => length));
  const starts: number[] = [];
  const ids: number[] = [];
  const positions: number[] = [];
  const tokenPlaces: number[] = [];
  const rowTokens = new BigInt64Array(new ArrayBuffer(8 * sequences.length * time));
  for (const [row, sequence] of sequences.entries()) {
    const start = ids.length;
    starts.push(start);
    rowTokens.fill(BigInt(start), row * time, (row + 1) * time); // any token will do behind the end
    for (let t = 0; t < sequence.length; t++) {
      rowTokens[row * time + t] = BigInt(start + t);
      ids.push(sequence[t]);
      positions.push(t);
      tokenPlaces.push(row * time + t);
    }
  }
  return {
    feeds: {
      input_ids: int64Feed(ids),
      position_ids: int64Feed(positions),
      row_tokens: { dtype: "int64", dims: [sequences.length, time], data: rowTokens },
      token_places: int64Feed(tokenPlaces),
    },
    starts,
  };
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

/** Places of windows among packed tokens, one window per sequence. */
export function places(
  windows: readonly { start: number; count: number }[],
  starts: readonly number[],
): number[] {
  return windows.flatMap(({ start, count }, i) =>
    Array.from({ length: count }, (_, t) => starts[i] + start + t),
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
