/**
 * @file The statistics of a PPO step, under TRL's names. In: per-token arrays of the rollout and of each minibatch. Out: one
 * map. Pure. docs/metrics.md gives each name its sentence.
 */
import { klK3 } from "./kl.js";
import { concatRows, mean, variance } from "./moments.js";
import type { PpoOptions } from "./options.js";
import type { PpoSample } from "./types.js";

const { fround } = Math;

/** Pads ragged rows in TRL v0.2.1's vectors. */
const VECTOR_PADDING = -1;

/** A statistic: a number, a vector, or one vector per sample. */
export type Statistic = number | Float32Array | readonly Float32Array[];

/** Statistics by name. */
export type Statistics = Record<string, Statistic>;

/** What one minibatch's forward pass and loss gave; all [N] over its response tokens unless said otherwise. */
export interface MinibatchTokens {
  /** L_p, a scalar. */
  policyLoss: number;
  /** L_v without its coefficient, a scalar. */
  valueLoss: number;
  /** L_p + c_v·L_v, a scalar. */
  loss: number;
  /** New logprobs. */
  logprobs: Float32Array;
  /** New values. */
  values: Float32Array;
  /** Ratio of the new to the old probability. */
  ratio: Float32Array;
  /** Entropies; over the positions that `entropyScope` says, so perhaps more than N. */
  entropy: Float32Array;
  /** Rollout logprobs. */
  oldLogprobs: Float32Array;
  /** Rollout values. */
  oldValues: Float32Array;
  advantages: Float32Array;
  returns: Float32Array;
}

/** Statistics of one minibatch: scalars under TRL's names without the prefix `ppo/`, and two vectors. */
export interface MinibatchStats {
  scalars: Record<string, number>;
  /** Whitened advantages, [N]. */
  advantages: Float32Array;
  /** Ratios, [N]. */
  ratio: Float32Array;
}

/** Means, clip fractions and the like over the response tokens of one minibatch. */
export function minibatchStats(
  tokens: MinibatchTokens,
  options: Pick<PpoOptions, "clipRange" | "clipRangeValue" | "policyKlSign">,
): MinibatchStats {
  const { logprobs, oldLogprobs, values, oldValues, ratio, advantages, returns } = tokens;
  const { square, difference } = elementwise;
  const change = difference(logprobs, oldLogprobs);
  const policyKl = mean(change);
  const error = mean(square(difference(values, returns)));
  return {
    scalars: {
      "loss/policy": tokens.policyLoss,
      "loss/value": tokens.valueLoss,
      "loss/total": tokens.loss,
      "policy/entropy": mean(tokens.entropy),
      "policy/approxkl": fround(0.5 * mean(square(change))),
      "policy/policykl": options.policyKlSign === "new-old" ? policyKl : 0 - policyKl,
      "policy/clipfrac": policyClipFraction(ratio, advantages, options.clipRange),
      "policy/advantages_mean": mean(advantages),
      "returns/mean": mean(returns),
      "returns/var": variance(returns),
      "val/vpred": mean(values),
      "val/error": error,
      "val/clipfrac": valueClipFraction(values, oldValues, returns, options.clipRangeValue),
      "val/mean": mean(oldValues),
      "val/var": variance(oldValues),
    },
    advantages,
    ratio,
  };
}

/** Share of tokens whose clipped policy loss is strictly the larger. Ratios and advantages [N]. */
export function policyClipFraction(ratio: Float32Array, advantages: Float32Array, clipRange: number): number {
  const [low, high] = [fround(1 - clipRange), fround(1 + clipRange)];
  let clipped = 0;
  for (let t = 0; t < ratio.length; t++) {
    const plain = fround(-advantages[t] * ratio[t]);
    if (fround(-advantages[t] * Math.min(Math.max(ratio[t], low), high)) > plain) clipped += 1;
  }
  return clipped / ratio.length;
}

/** Share of tokens whose clipped value error is strictly the larger. All [N]. */
export function valueClipFraction(
  values: Float32Array,
  oldValues: Float32Array,
  returns: Float32Array,
  clipRange: number,
): number {
  const range = fround(clipRange);
  let clipped = 0;
  for (let t = 0; t < values.length; t++) {
    const bounded = Math.max(Math.min(values[t], fround(oldValues[t] + range)), fround(oldValues[t] - range));
    const plainError = fround(fround(values[t] - returns[t]) ** 2);
    if (fround(fround(bounded - returns[t]) ** 2) > plainError) clipped += 1;
  }
  return clipped / values.length;
}

const elementwise = {
  difference: (a: Float32Array, b: Float32Array) => a.map((x, i) => x - b[i]),
  square: (a: Float32Array) => a.map((x) => x * x),
};

/** What a whole step gave, for `stepStats`. One array per sample where nothing else is said. */
export interface StepRecord {
  samples: readonly PpoSample[];
  /** Scores after scaling and clipping, [B]. */
  scores: Float32Array;
  logprobs: readonly Float32Array[];
  kl: readonly Float32Array[];
  nonScoreRewards: readonly Float32Array[];
  minibatches: readonly MinibatchStats[];
  /** Gradient norms before clipping, one per optimizer step. */
  gradNorms: readonly number[];
  /** β used in this step. */
  klCoef: number;
  learningRate: number;
  /** Version of the learner's weights as the step began. */
  weightVersion?: number;
}

/** The statistics of a step, without times. */
export function stepStats(record: StepRecord, options: PpoOptions): Statistics {
  const { samples, logprobs, kl, nonScoreRewards } = record;
  const legacy = options.statistics === "trl-0.2.1";
  const klSums = Float32Array.from(kl, sum);
  const stats: Statistics = {
    "objective/kl": mean(klSums),
    "objective/kl_dist": legacy ? kl : klSums,
    "objective/kl_k3": mean(samples.map((sample, i) => sum(klK3(logprobs[i], sample.refLogprobs)))),
    "objective/logprobs": logprobs,
    "objective/ref_logprobs": samples.map((sample) => sample.refLogprobs),
    "objective/kl_coef": record.klCoef,
    "objective/entropy": mean(logprobs.map((row) => -sum(row))),
    "ppo/mean_non_score_reward":
      options.nonScoreRewardStat === "sequence-sum"
        ? mean(nonScoreRewards.map(sum))
        : mean(concatRows(nonScoreRewards)),
    ...(legacy ? {} : textStats(record)),
  };
  for (const [name, value] of Object.entries(meanScalars(record.minibatches))) stats[`ppo/${name}`] = value;
  stats["ppo/policy/advantages"] = collect(record.minibatches, "advantages", legacy);
  stats["ppo/policy/ratio"] = collect(record.minibatches, "ratio", legacy);
  const variation = stats["ppo/returns/var"] as number;
  // returns that do not vary leave nothing to explain
  stats["ppo/val/var_explained"] =
    variation === 0 ? Number.NaN : 1 - (stats["ppo/val/error"] as number) / variation;
  stats["ppo/learning_rate"] = record.learningRate;
  stats["ppo/grad_norm"] = average(record.gradNorms);
  const lag = versionLag(record);
  if (lag !== undefined) stats["rollout/weight_version_lag"] = lag;
  return stats;
}

/** Scores and lengths, which v0.2.1 did not report. */
function textStats({ samples, scores }: StepRecord): Statistics {
  const queryLengths = Float32Array.from(samples, (sample) => sample.query.length);
  const responseLengths = Float32Array.from(samples, (sample) => sample.response.length);
  return {
    "ppo/mean_scores": mean(scores),
    "ppo/std_scores": deviation(scores),
    "tokens/queries_len_mean": mean(queryLengths),
    "tokens/queries_len_std": deviation(queryLengths),
    "tokens/queries_dist": queryLengths,
    "tokens/responses_len_mean": mean(responseLengths),
    "tokens/responses_len_std": deviation(responseLengths),
    "tokens/responses_dist": responseLengths,
  };
}

/** Mean of each scalar over the minibatches; each counts the same. */
function meanScalars(minibatches: readonly MinibatchStats[]): Record<string, number> {
  const names = Object.keys(minibatches[0]?.scalars ?? {});
  return Object.fromEntries(
    names.map((name) => [name, average(minibatches.map(({ scalars }) => scalars[name]))]),
  );
}

/** One vector over all minibatches. v0.2.1 pads each to the longest with −1 and turns NaN advantages into −1, too. */
function collect(
  minibatches: readonly MinibatchStats[],
  name: "advantages" | "ratio",
  padded: boolean,
): Float32Array {
  const rows = minibatches.map((minibatch) => minibatch[name]);
  if (!padded) return concatRows(rows);
  const width = Math.max(0, ...rows.map((row) => row.length));
  const flat = new Float32Array(rows.length * width).fill(VECTOR_PADDING);
  for (const [i, row] of rows.entries()) flat.set(row, i * width);
  return name === "ratio" ? flat : flat.map((value) => (Number.isNaN(value) ? VECTOR_PADDING : value));
}

/** Mean of learner version minus writer version, over the samples that say theirs; undefined where none does. */
function versionLag({ samples, weightVersion }: StepRecord): number | undefined {
  if (weightVersion === undefined) return undefined;
  const lags = samples.flatMap((sample) =>
    sample.weightVersion === undefined ? [] : [weightVersion - sample.weightVersion],
  );
  return lags.length === 0 ? undefined : average(lags);
}

function sum(row: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < row.length; i++) total += row[i];
  return fround(total);
}

function average(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

function deviation(values: Float32Array): number {
  return fround(Math.sqrt(variance(values)));
}
