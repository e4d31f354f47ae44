/**
 * @file Picks the next token from a processed row of logits, [V]. −∞ marks what must not be picked.
 */
import { unnormalized } from "./distribution.js";

/** The first index of the largest logit; −1 where every token is banned. NaN never wins. */
export function chooseGreedy(logits: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > max) {
      max = logits[i];
      best = i;
    }
  }
  return best;
}

/**
 * Draws from softmax(logits) by the inverse of its cumulative distribution in the order of ids: the first id whose
 * cumulative probability exceeds `uniform`, which is in [0, 1). −1 where every token is banned.
 */
export function chooseSample(logits: Float32Array, uniform: number): number {
  const { count, ids, weights, total } = unnormalized(logits);
  const target = uniform * total;
  let reached = 0;
  let last = -1;
  for (let n = 0; n < count; n++) {
    if (weights[n] === 0) continue;
    reached += weights[n];
    last = ids[n];
    if (reached > target) return last;
  }
  return last; // rounding left the sum at or below the target: the last token that had any weight
}
