/** @file The metrics of one PPO batch beside those of the PPO step: rewards, lengths, staleness, times. Pure. */

import { meanOf } from "../evaluate/statistics.js";
import { logprobGap } from "../health/policy-agreement.js";
import type { MinibatchStats, Statistics } from "../ppo/stats.js";
import type { PpoRunConfig } from "../run-config.js";
import type { LearnedBatch } from "./learn-batch.js";
import type { ScoredBatch, ScoredSample } from "./rollout-stage.js";

/** Numbers of a PPO step's statistics; vectors stay out of metrics.jsonl. */
export function scalarsOf(statistics: Statistics): Record<string, number> {
  return Object.fromEntries(
    Object.entries(statistics).filter(([, value]) => typeof value === "number"),
  ) as Record<string, number>;
}

/** All metrics of a step but the loop's own times. `version` is that of the learner's weights before it. */
export function stepMetrics(
  config: Pick<PpoRunConfig, "control" | "ppo">,
  batch: ScoredBatch,
  learned: readonly ScoredSample[],
  { result, policyLogprobs }: LearnedBatch,
  version: number,
): Record<string, number> {
  return {
    ...scalarsOf(result.stats),
    ...ratioBounds(result.minibatches),
    ...rolloutMetrics(config, batch, learned, version),
    // a response that repeats its query is seen by the learner in another context than the sampler's
    ...(config.ppo.responseIncludesQuery
      ? {}
      : { "rollout/logprob_gap": logprobGap(learned, policyLogprobs) }),
  };
}

/** The smallest and the largest ratio of any token in any minibatch of the step. */
function ratioBounds(minibatches: readonly MinibatchStats[]): Record<string, number> {
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const { ratio } of minibatches) {
    for (const value of ratio) {
      low = Math.min(low, value); // NaN stays NaN
      high = Math.max(high, value);
    }
  }
  return { "ppo/policy/ratio_min": low, "ppo/policy/ratio_max": high };
}

/** Metrics of the rollout. A control token that no sample drew has no metric in this batch. */
export function rolloutMetrics(
  config: Pick<PpoRunConfig, "control">,
  batch: ScoredBatch,
  learned: readonly ScoredSample[],
  version: number,
): Record<string, number> {
  const rewardOf = ({ reward }: ScoredSample) =>
    reward.outcome.kind === "scored" ? reward.outcome.score : Number.NaN;
  const rewards = learned.map(rewardOf);
  const metrics: Record<string, number> = {
    "env/reward_mean": meanOf(rewards),
    "env/reward_std": deviation(rewards),
    "rollout/failed": batch.samples.length - learned.length,
    "rollout/score_retries": batch.retries,
    "rollout/response_tokens_mean": meanOf(learned.map(({ sample }) => sample.responseIds.length)),
    "rollout/eos_fraction": meanOf(learned.map(({ sample }) => (sample.finish === "eos" ? 1 : 0))),
    "rollout/staleness_max": Math.max(...learned.map(({ sample }) => version - sample.weightVersion)),
    "time/generate": batch.seconds.generate,
    "time/score": batch.seconds.score,
    "time/reference": batch.seconds.reference,
  };
  const [good, bad] = config.control.tokens;
  for (const [name, token] of [
    ["env/reward_good", good],
    ["env/reward_bad", bad],
  ] as const) {
    const own = learned.filter(({ sample }) => token !== undefined && sample.control === token);
    if (own.length > 0) metrics[name] = meanOf(own.map(rewardOf));
  }
  for (const name of Object.keys(batch.samples[0]?.reward.terms ?? {})) {
    const scoreOf = ({ reward }: ScoredSample) => reward.terms[name] as number;
    const scores = batch.samples.map(scoreOf).filter((score) => !Number.isNaN(score));
    metrics[`reward/${name}`] = meanOf(learned.map(scoreOf));
    metrics[`reward/${name}/std`] = deviation(scores);
    metrics[`reward/${name}/failed`] = batch.samples.length - scores.length;
    const asked = learned.filter(({ sample }) => good !== undefined && sample.control === good);
    if (asked.length > 0) metrics[`reward/${name}/good`] = meanOf(asked.map(scoreOf));
  }
  const tokens = batch.samples.reduce((sum, { sample }) => sum + sample.responseIds.length, 0);
  metrics["time/tokens_per_second"] = tokens / Math.max(batch.seconds.generate, 1e-9);
  return metrics;
}

function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const mean = meanOf(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}
