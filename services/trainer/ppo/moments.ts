/**
 * @file Mean, variance and whitening of response tokens, plain (TRL v0.2.1: one sample) and masked (v0.7.11: a batch).
 * In: values [N], optionally a mask [N] of zeros and ones. Out: numbers or [N]. Pure.
 * Sums run in float64 and are rounded once; everything elementwise is rounded to float32, as torch has it.
 */
import { expectLength, ShapeError } from "./errors.js";

const { fround, sqrt } = Math;

/** Added to the variance before the square root, as upstream does. */
const WHITEN_EPSILON = fround(1e-8);

/** Mean of the values whose mask is not 0 (all of them without a mask): Σ(x·m)/Σm. Throws ShapeError on no values. */
export function mean(values: ArrayLike<number>, mask?: ArrayLike<number>): number {
  const count = countOf(values, mask);
  let sum = 0;
  for (let i = 0; i < values.length; i++) if (mask?.[i] !== 0) sum += values[i];
  return fround(sum / count);
}

/**
 * Unbiased variance of the values whose mask is not 0: mean of squared deviations × n/(n−1). One value alone has
 * variance 0 (torch says NaN, which would poison a batch of one-token responses). Throws ShapeError on no values.
 */
export function variance(values: ArrayLike<number>, mask?: ArrayLike<number>): number {
  const count = countOf(values, mask);
  if (count === 1) return 0;
  const centre = mean(values, mask);
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    if (mask?.[i] !== 0) sum += fround(values[i] - centre) ** 2;
  }
  return fround(sum / (count - 1));
}

/** Options of `whiten`. */
export interface WhitenOptions {
  /** Which values count for mean and variance, [N]; all by default. Every value is transformed, masked or not. */
  mask?: ArrayLike<number>;
  /** Whether the result has mean 0 (default) or keeps the mean of the input. */
  shiftMean?: boolean;
}

/** (x − mean) · 1/√(variance + 1e-8), plus the mean again where `shiftMean` is false. Throws ShapeError on no values. */
export function whiten(values: ArrayLike<number>, options: WhitenOptions = {}): Float32Array {
  const { mask, shiftMean = true } = options;
  const centre = mean(values, mask);
  const scale = fround(1 / fround(sqrt(fround(variance(values, mask) + WHITEN_EPSILON))));
  const whitened = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const unit = fround(fround(values[i] - centre) * scale);
    whitened[i] = shiftMean ? unit : unit + centre;
  }
  return whitened;
}

/** Whitens ragged rows together, as one batch: `rows` of any lengths, e.g. one per response. */
export function whitenRows(rows: readonly Float32Array[], options: WhitenOptions = {}): Float32Array[] {
  return splitLike(whiten(concatRows(rows), options), rows);
}

/** Rows one after another, [ΣN]. */
export function concatRows(rows: readonly ArrayLike<number>[]): Float32Array {
  const flat = new Float32Array(rows.reduce((length, row) => length + row.length, 0));
  let at = 0;
  for (const row of rows) {
    flat.set(row, at);
    at += row.length;
  }
  return flat;
}

/** The inverse of concatRows: copies of `flat` with the lengths of `rows`. */
export function splitLike(flat: Float32Array, rows: readonly ArrayLike<number>[]): Float32Array[] {
  let at = 0;
  const split = rows.map((row) => {
    at += row.length;
    return flat.slice(at - row.length, at);
  });
  expectLength("flat", flat.length, at);
  return split;
}

function countOf(values: ArrayLike<number>, mask?: ArrayLike<number>): number {
  let count = values.length;
  if (mask) {
    expectLength("mask", mask.length, values.length);
    count = 0;
    for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) count += 1;
  }
  if (count === 0) throw new ShapeError("moments: expected at least 1 value, got 0");
  return count;
}
