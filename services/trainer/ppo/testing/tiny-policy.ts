/**
 * @file The tiny GPT-2 of the golden PPO runs, for tests: its configuration, weights, batch, and what the reference says of it.
 */
import type { Engine } from "../../../../lib/engine/index.js";
import { type Gpt2Config, parseModelConfig } from "../../../../lib/models/config.js";
import { learnerOptionsOf, PolicyLearner } from "../../learner/policy-learner.js";
import type { LearnerOptions } from "../../learner/trainable-model.js";
import type { PpoOptions } from "../options.js";
import type { PpoBatch, PpoSequence } from "../types.js";
import { golden021 } from "./golden.js";

/** The architecture that the golden file describes in words. */
export function tinyConfig(): Gpt2Config {
  const config = parseModelConfig({
    model_type: "gpt2",
    vocab_size: 24,
    n_positions: 48,
    n_embd: 8,
    n_layer: 1,
    n_head: 2,
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
  });
  return config as Gpt2Config;
}

/** Weights of the golden file's `policy_before`, `reference` or `policy_after`. */
export function tinyWeights(
  which: "policy_before" | "reference" | "policy_after",
): Map<string, Float32Array> {
  return new Map(
    Object.entries(golden021()[which]).map(([name, { data }]) => [name, Float32Array.from(data)]),
  );
}

/** Queries and responses of the golden file. */
export function tinySequences(): PpoSequence[] {
  const { queries, responses } = golden021();
  return queries.map((query, i) => ({ query, response: responses[i] }));
}

/** A learner over the golden policy. */
export function tinyLearner(
  engine: Engine,
  ppo: PpoOptions,
  learner: Partial<LearnerOptions> = {},
): Promise<PolicyLearner> {
  return PolicyLearner.create(engine, tinyConfig(), tinyWeights("policy_before"), {
    ppo,
    learner: { ...learnerOptionsOf(ppo), ...learner },
  });
}

/** The golden batch, its reference logprobs computed with the golden reference; `full` adds the whole distributions. */
export async function tinyBatch(engine: Engine, ppo: PpoOptions, full = false): Promise<PpoBatch> {
  const reference = await PolicyLearner.create(engine, tinyConfig(), tinyWeights("reference"), {
    ppo: { ...ppo, valueIndexShift: 0, valueHeadDropout: 0 },
    learner: { learningRate: 0 },
  });
  const sequences = tinySequences();
  const said = await reference.forwardPass(sequences, { full });
  await reference.release();
  const { scores } = golden021();
  return {
    samples: sequences.map((sequence, i) => ({
      ...sequence,
      score: scores[i],
      refLogprobs: said[i].logprobs,
      refFullLogprobs: said[i].fullLogprobs,
    })),
  };
}
