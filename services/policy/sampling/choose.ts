/**
 * @file Picks the next token from a processed row of logits, [V]. −∞ marks what must not be picked.
 */

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

let expScratch = new Float64Array(0);

/**
 * Draws from softmax(logits) by the inverse of its cumulative distribution in the order of ids: the first id whose
 * cumulative probability exceeds `uniform`, which is in [0, 1). −1 where every token is banned.
 */
export function chooseSample(logits: Float32Array, uniform: number): number {
  if (expScratch.length < logits.length) expScratch = new Float64Array(logits.length);
  const exps = expScratch;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) if (logits[i] > max) max = logits[i];
  if (max === Number.NEGATIVE_INFINITY) return -1;
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const e = logits[i] === Number.NEGATIVE_INFINITY ? 0 : Math.exp(logits[i] - max);
    exps[i] = e;
    total += e;
  }
  const target = uniform * total;
  let reached = 0;
  let last = -1;
  for (let i = 0; i < logits.length; i++) {
    if (exps[i] === 0) continue;
    reached += exps[i];
    last = i;
    if (reached > target) return i;
  }
  return last; // rounding left `reached` at or below the target: the last token that had any weight
}
