/**
 * @file How far the policy has moved from the reference, token by token, in nats.
 * In: logprobs of the sampled tokens, [G] each; for `full` the whole distributions, [G, V]. Out: [G]. Pure.
 * k1 and k3 are the estimators of http://joschu.net/blog/kl-approx.html; abs, mse and full are TRL's `kl_penalty`.
 */
import { expectLength, ShapeError } from "./errors.js";

const { abs, exp, fround } = Math;

/**
 * The penalty per token, with ℓ the policy's and ρ the reference's logprob: `k1` ℓ−ρ (TRL calls it `kl`), `abs` |ℓ−ρ|,
 * `mse` ½(ℓ−ρ)², `full` the exact KL over the vocabulary.
 */
export const KL_PENALTIES = ["k1", "abs", "mse", "full"] as const;

/** One of KL_PENALTIES. */
export type KlPenalty = (typeof KL_PENALTIES)[number];

/** The penalty of each sampled token, for every kind but `full`. Throws ShapeError where the lengths differ. */
export function klPenalty(
  kind: Exclude<KlPenalty, "full">,
  logprobs: ArrayLike<number>,
  refLogprobs: ArrayLike<number>,
): Float32Array {
  expectLength("refLogprobs", refLogprobs.length, logprobs.length);
  return Float32Array.from(logprobs, (logprob, t) => {
    const difference = fround(logprob - refLogprobs[t]);
    if (kind === "k1") return difference;
    return kind === "abs" ? abs(difference) : fround(0.5 * fround(difference * difference));
  });
}

/**
 * Exact KL(policy ‖ reference) per token: Σ_k p_θ(k)·(log p_θ(k) − log p_ref(k)). Log-distributions [G, V] row by row.
 * A token that the policy never chooses (−∞) adds 0. Throws ShapeError where the lengths disagree.
 */
export function fullKl(logprobs: Float32Array, refLogprobs: Float32Array, tokens: number): Float32Array {
  expectLength("refFullLogprobs", refLogprobs.length, logprobs.length);
  const vocabSize = tokens === 0 ? 0 : logprobs.length / tokens;
  if (!Number.isInteger(vocabSize)) {
    throw new ShapeError(`fullLogprobs: expected ${tokens} rows, got [${logprobs.length}]`);
  }
  return Float32Array.from({ length: tokens }, (_, t) => {
    let sum = 0;
    for (let i = t * vocabSize; i < (t + 1) * vocabSize; i++) {
      if (logprobs[i] !== -Infinity) sum += exp(logprobs[i]) * (logprobs[i] - refLogprobs[i]);
    }
    return sum;
  });
}

/** The k3 estimate per token: e^d − 1 − d with d = ρ − ℓ. Never negative, and of lower variance than k1. */
export function klK3(logprobs: ArrayLike<number>, refLogprobs: ArrayLike<number>): Float32Array {
  expectLength("refLogprobs", refLogprobs.length, logprobs.length);
  return Float32Array.from(logprobs, (logprob, t) => {
    const difference = refLogprobs[t] - logprob;
    return Math.expm1(difference) - difference;
  });
}
