/**
 * @file Which positions of a sequence belong to its response. A sequence is query ++ response, x[0 … Q+G-1]; the logits
 * at position p score token x[p + 1], so the choice of response token t is made at position Q - 1 + t.
 * In: lengths. Out: positions. Pure.
 */
import { expectLength, ShapeError } from "./errors.js";

const { exp, fround, log } = Math;

/** A run of positions: `start`, `start + 1`, … `start + count - 1`. */
export interface Window {
  start: number;
  count: number;
}

/** Positions whose logits and values belong to the response: Q-1 … Q+G-2. Throws ShapeError on an empty part. */
export function responseWindow(queryLength: number, responseLength: number): Window {
  if (queryLength < 1) throw new ShapeError(`query: expected at least 1 token, got ${queryLength}`);
  if (responseLength < 1) throw new ShapeError(`response: expected at least 1 token, got ${responseLength}`);
  return { start: queryLength - 1, count: responseLength };
}

/**
 * Positions of the rollout values. `shift` 0 is the state before each token, as responseWindow; -1 is one position too
 * far left, which is what TRL v0.2.1 stored (and never used in its loss). Throws ShapeError where that leaves the sequence.
 */
export function valueWindow(queryLength: number, responseLength: number, shift: 0 | -1): Window {
  const { start, count } = responseWindow(queryLength, responseLength);
  if (start + shift < 0) {
    throw new ShapeError(
      `query: expected at least 2 tokens with values shifted by ${shift}, got ${queryLength}`,
    );
  }
  return { start: start + shift, count };
}

/**
 * log softmax(logits)[label] per row. Logits [N, V] row by row, labels [N]. Out: [N]. Throws ShapeError where the lengths
 * disagree or a label is not in the vocabulary.
 */
export function gatherLogprobs(logits: Float32Array, labels: ArrayLike<number>): Float32Array {
  const vocabSize = widthOf(logits, labels.length);
  return Float32Array.from(labels, (label, row) => {
    if (!(label >= 0 && label < vocabSize)) {
      throw new ShapeError(`labels[${row}]: expected 0 to ${vocabSize - 1}, got ${label}`);
    }
    const z = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    return z[label] - logSumExp(z);
  });
}

/** log softmax of each of `rows` rows. Logits [N, V]. Out: [N, V]. */
export function logSoftmaxRows(logits: Float32Array, rows: number): Float32Array {
  const vocabSize = widthOf(logits, rows);
  const logprobs = new Float32Array(logits.length);
  for (let row = 0; row < rows; row++) {
    const z = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    const norm = logSumExp(z);
    for (let k = 0; k < vocabSize; k++) logprobs[row * vocabSize + k] = z[k] - norm;
  }
  return logprobs;
}

/** Entropy of each row's softmax in nats: logsumexp(z) − Σ_k softmax(z)_k·z_k. Logits [N, V]. Out: [N]. */
export function entropyRows(logits: Float32Array, rows: number): Float32Array {
  const vocabSize = widthOf(logits, rows);
  return Float32Array.from({ length: rows }, (_, row) => {
    const z = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    const norm = logSumExp(z);
    let expected = 0;
    for (let k = 0; k < vocabSize; k++) if (z[k] !== -Infinity) expected += exp(z[k] - norm) * z[k];
    return fround(norm - expected);
  });
}

function widthOf(logits: Float32Array, rows: number): number {
  if (rows === 0) {
    expectLength("logits", logits.length, 0);
    return 0;
  }
  const width = logits.length / rows;
  if (!Number.isInteger(width)) throw new ShapeError(`logits: expected ${rows} rows, got [${logits.length}]`);
  return width;
}

function logSumExp(z: Float32Array): number {
  let max = -Infinity;
  for (let k = 0; k < z.length; k++) if (z[k] > max) max = z[k];
  let sum = 0;
  for (let k = 0; k < z.length; k++) sum += exp(z[k] - max);
  return max + log(sum);
}
