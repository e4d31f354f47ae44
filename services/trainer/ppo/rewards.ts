/**
 * @file Rewards per token: the KL penalty everywhere, the score on the last token of the response.
 * In: penalties [G], coefficient, score. Out: [G] each. Pure.
 */
import { ShapeError } from "./errors.js";

const { fround } = Math;

/** Rewards of one response. */
export interface TokenRewards {
  /** −β·kl, [G]. */
  nonScoreRewards: Float32Array;
  /** The same with the score added to the last token, [G]. */
  rewards: Float32Array;
}

/** Rewards of one response from its KL penalties [G] and score. Throws ShapeError on an empty response. */
export function tokenRewards(kl: ArrayLike<number>, klCoef: number, score: number): TokenRewards {
  if (kl.length === 0) throw new ShapeError("kl: expected at least 1 token, got 0");
  const coefficient = fround(-klCoef);
  const nonScoreRewards = Float32Array.from(kl, (penalty) => coefficient * penalty);
  const rewards = nonScoreRewards.slice();
  rewards[rewards.length - 1] += fround(score);
  return { nonScoreRewards, rewards };
}
