/**
 * @file Advantages and returns of a batch: reward whitening, GAE per response, advantage whitening.
 * In: rewards and values, one [G_i] per response. Out: the same shapes. Pure.
 */
import { expectLength } from "./errors.js";
import { computeGae, computeReturns } from "./gae.js";
import { concatRows, whiten, whitenRows } from "./moments.js";

/** Over which tokens advantages are whitened: all responses together, each response alone, or not at all. */
export const ADVANTAGE_WHITENINGS = ["batch", "sample", "none"] as const;

/**
 * Whether token rewards are brought to unit variance, keeping their mean. `response` does it over the response tokens.
 * `padded` is TRL v0.7.11: the transformation also reaches the padding behind shorter responses, whose reward then is no
 * longer 0 and flows back into the response through GAE. For parity only.
 */
export const REWARD_WHITENINGS = ["none", "response", "padded"] as const;

/** How rewards become advantages. */
export interface AdvantageOptions {
  /** Discount per token. */
  gamma: number;
  /** GAE's λ. */
  lambda: number;
  advantageWhitening: (typeof ADVANTAGE_WHITENINGS)[number];
  rewardWhitening: (typeof REWARD_WHITENINGS)[number];
}

/** Advantages and returns of a batch, one [G_i] per response. */
export interface Advantages {
  /** Whitened as the options say. */
  advantages: Float32Array[];
  /** Before whitening. */
  rawAdvantages: Float32Array[];
  /** Raw advantages plus values. */
  returns: Float32Array[];
}

/**
 * Advantages of a batch. `queryLengths` (one per response) are needed for `padded` reward whitening alone, where they say how
 * much padding follows each response. Throws ShapeError where the lengths disagree.
 */
export function computeAdvantages(
  rewards: readonly Float32Array[],
  values: readonly Float32Array[],
  options: AdvantageOptions,
  queryLengths: readonly number[] = [],
): Advantages {
  expectLength("values", values.length, rewards.length);
  const { rewardWhitening, advantageWhitening } = options;
  const padding = rewardWhitening === "padded" ? paddedRewards(rewards, queryLengths) : undefined;
  const effective =
    rewardWhitening === "none" || rewards.length === 0 ? rewards : whitenRows(rewards, { shiftMean: false });
  const rawAdvantages = effective.map((row, i) => {
    if (!padding) return computeGae(row, values[i], options);
    // the padding behind the response has value 0 and this reward
    const trailing = new Float32Array(padding.lengths[i]).fill(padding.reward);
    const paddedValues = concatRows([values[i], new Float32Array(trailing.length)]);
    return computeGae(concatRows([row, trailing]), paddedValues, options).slice(0, row.length);
  });
  const returns = rawAdvantages.map((row, i) => computeReturns(row, values[i]));
  return { advantages: whitenAdvantages(rawAdvantages, advantageWhitening), rawAdvantages, returns };
}

function whitenAdvantages(
  rows: Float32Array[],
  scope: AdvantageOptions["advantageWhitening"],
): Float32Array[] {
  if (scope === "none" || rows.length === 0) return rows;
  return scope === "sample" ? rows.map((row) => whiten(row)) : whitenRows(rows);
}

/** The reward of a padding position after whitening, and how many such positions follow each response. */
function paddedRewards(
  rewards: readonly Float32Array[],
  queryLengths: readonly number[],
): { reward: number; lengths: number[] } {
  expectLength("queryLengths", queryLengths.length, rewards.length);
  if (rewards.length === 0) return { reward: 0, lengths: [] };
  const flat = concatRows(rewards);
  // one more value, outside the mask, goes through the same transformation: a padding position before it is 0
  const mask = new Uint8Array(flat.length + 1).fill(1, 0, flat.length);
  const whitened = whiten(concatRows([flat, [0]]), { mask, shiftMean: false });
  const sequenceLengths = rewards.map((row, i) => row.length + queryLengths[i]);
  const longest = Math.max(...sequenceLengths);
  return { reward: whitened[flat.length], lengths: sequenceLengths.map((length) => longest - length) };
}
