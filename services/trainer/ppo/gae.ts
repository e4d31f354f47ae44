/**
 * @file Generalized Advantage Estimation (arXiv:1506.02438) for one response.
 * In: rewards and values, [T]. Out: advantages and returns, [T]. Pure: no engine, no I/O.
 * Every step is rounded to float32 in the order of TRL's compute_advantages, so that results agree to the last digits.
 */
import { expectLength } from "./errors.js";

const { fround } = Math;

/** Discounting of GAE. */
export interface GaeOptions {
  /** Discount per token, 0 to 1. */
  gamma: number;
  /** GAE's λ, 0 to 1: 0 is one-step, 1 is Monte Carlo. */
  lambda: number;
}

/**
 * Advantages: δ_t = r_t + γ·v_{t+1} − v_t, A_t = δ_t + γλ·A_{t+1}; nothing is bootstrapped after the last token.
 * Throws ShapeError where the lengths differ. No tokens give no advantages.
 */
export function computeGae(
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  { gamma, lambda }: GaeOptions,
): Float32Array {
  expectLength("values", values.length, rewards.length);
  const discount = fround(gamma);
  const decay = fround(gamma * lambda);
  const advantages = new Float32Array(rewards.length);
  let next = 0; // advantage of token t + 1; nothing follows the last token
  for (let t = rewards.length - 1; t >= 0; t--) {
    const target = fround(rewards[t] + fround(discount * (values[t + 1] ?? 0)));
    const delta = fround(target - values[t]);
    next = fround(delta + fround(decay * next));
    advantages[t] = next;
  }
  return advantages;
}

/** Returns R_t = A_t + v_t, from the advantages before whitening. Throws ShapeError where the lengths differ. */
export function computeReturns(advantages: ArrayLike<number>, values: ArrayLike<number>): Float32Array {
  expectLength("values", values.length, advantages.length);
  return Float32Array.from(advantages, (advantage, t) => advantage + values[t]);
}
