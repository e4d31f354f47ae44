/**
 * @file The learner's part of a step: from a scored batch to moved weights. A function of configuration, step, weights,
 * optimizer and PPO's memory alone, so that a resumed run and a replay repeat its numbers.
 */
import { PythonRandom, Rng } from "../../../lib/dataset/index.js";
import type { PolicyLearner } from "../learner/policy-learner.js";
import { type EpochOrder, reshuffledOrder, shuffledOrder } from "../ppo/minibatches.js";
import type { PpoState } from "../ppo/state.js";
import { type PpoStepResult, ppoStep } from "../ppo/step.js";
import type { PpoSample } from "../ppo/types.js";
import type { PpoRunConfig } from "../run-config.js";
import type { ScoredSample } from "./rollout-stage.js";

/** The part of the run file that a step depends on. */
export type LearnConfig = Pick<PpoRunConfig, "ppo" | "seed" | "maxStaleness">;

/** What is learned from in one step. */
export interface LearnBatch {
  /** The step, from 1. */
  readonly step: number;
  /** Version of the learner's weights. */
  readonly version: number;
  /** Samples that have a score. */
  readonly learned: readonly ScoredSample[];
}

/** Who hears of a step. */
export interface LearnListeners {
  /**
   * The learner's log-probabilities of each trained response, [G] each, before anything is learned from them. What it throws
   * ends the step with nothing changed.
   */
  readonly onPolicy?: (logprobs: readonly Float32Array[]) => void;
  /** Share of the minibatches that are done. */
  readonly onProgress?: (share: number) => void;
}

/** What a step gave. */
export interface LearnedBatch {
  readonly result: PpoStepResult;
  /** The learner's log-probabilities of each trained response, [G] each, from before the step. */
  readonly policyLogprobs: readonly Float32Array[];
}

/** Learns from a batch; throws as ppoStep does. */
export async function learnBatch(
  learner: PolicyLearner,
  config: LearnConfig,
  state: PpoState,
  { step, version, learned }: LearnBatch,
  { onPolicy, onProgress }: LearnListeners = {},
): Promise<LearnedBatch> {
  const { ppo, seed, maxStaleness } = config;
  const dropout = Rng.from(seed, "dropout", step);
  let samples = learned.map(toPpoSample);
  let policyLogprobs: readonly Float32Array[] = [];
  const heard = (logprobs: readonly Float32Array[]) => {
    policyLogprobs = logprobs;
    onPolicy?.(logprobs);
  };
  if (maxStaleness > 0) {
    // off-policy by up to one version: the ratio is taken against the policy that sampled
    const passes = await learner.forwardPass(samples, { full: ppo.klPenalty === "full", dropout });
    heard(passes.map(({ logprobs }) => logprobs));
    samples = samples.map((sample, i) => ({
      ...sample,
      rollout: {
        ...(passes[i] as (typeof passes)[number]),
        logprobs: (learned[i] as ScoredSample).sample.samplerLogprobs,
      },
    }));
  }
  const result = await ppoStep(learner, { samples, weightVersion: version }, ppo, {
    state,
    order: epochOrder(config, step),
    dropout,
    onRollouts: (rollouts) => {
      if (maxStaleness === 0) heard(rollouts.map(({ logprobs }) => logprobs));
    },
    onMinibatch: ({ done, total }) => onProgress?.(done / total),
  });
  return { result, policyLogprobs };
}

/** The order of a step's epochs, drawn from (seed, step). */
function epochOrder({ ppo, seed }: LearnConfig, step: number): EpochOrder {
  const rng = Rng.from(seed, "minibatch-order", step);
  return ppo.profile === "default" ? shuffledOrder(rng) : reshuffledOrder(new PythonRandom(rng.int(2 ** 32)));
}

function toPpoSample({
  sample,
  reward,
  query,
  response,
  refLogprobs,
  refFullLogprobs,
}: ScoredSample): PpoSample {
  if (reward.outcome.kind !== "scored") throw new Error("a sample that failed can't be learned from");
  return {
    query,
    response,
    score: reward.outcome.score,
    refLogprobs,
    ...(refFullLogprobs ? { refFullLogprobs } : {}),
    weightVersion: sample.weightVersion,
  };
}
