/**
 * @file From rollouts and scores to token rewards. In: a batch and what the policy said of it. Out: one array per sample.
 * Pure, but that the running moments of the scores move on.
 */
import { fullKl, klPenalty } from "./kl.js";
import type { PpoOptions } from "./options.js";
import { tokenRewards } from "./rewards.js";
import { processScores, type RunningMoments } from "./scores.js";
import type { PpoSample, Rollout } from "./types.js";

/** What PPO learns from; one [G_i] per sample where nothing else is said. */
export interface Experience {
  /** Scores after scaling and clipping, [B]. */
  scores: Float32Array;
  /** Logprobs of the rollout. */
  logprobs: Float32Array[];
  /** Values of the rollout. */
  values: Float32Array[];
  /** KL penalties, before the coefficient. */
  kl: Float32Array[];
  /** −β·kl. */
  nonScoreRewards: Float32Array[];
  /** The same with the score on the last token. */
  rewards: Float32Array[];
}

/** Penalties and rewards of a batch. `moments` is updated where scores are scaled. */
export function makeExperience(
  samples: readonly PpoSample[],
  rollouts: readonly Rollout[],
  klCoef: number,
  moments: RunningMoments,
  options: Pick<PpoOptions, "klPenalty" | "scoreScaling" | "scoreNorm" | "scoreClip">,
): Experience {
  const scores = processScores(
    samples.map(({ score }) => score),
    options,
    moments,
  );
  const kl = samples.map((sample, i) => penalties(sample, rollouts[i], options.klPenalty));
  const rewards = kl.map((row, i) => tokenRewards(row, klCoef, scores[i]));
  return {
    scores,
    logprobs: rollouts.map(({ logprobs }) => logprobs),
    values: rollouts.map(({ values }) => values),
    kl,
    nonScoreRewards: rewards.map(({ nonScoreRewards }) => nonScoreRewards),
    rewards: rewards.map((row) => row.rewards),
  };
}

function penalties(sample: PpoSample, rollout: Rollout, kind: PpoOptions["klPenalty"]): Float32Array {
  if (kind !== "full") return klPenalty(kind, rollout.logprobs, sample.refLogprobs);
  // checkBatch has seen to it that both are there
  return fullKl(rollout.fullLogprobs!, sample.refFullLogprobs!, sample.response.length);
}
