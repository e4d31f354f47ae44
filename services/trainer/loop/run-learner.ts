/**
 * @file The learner of a PPO run, at its start or at a checkpoint: weights, value head, optimizer, PPO's memory. What a run and a
 * replay begin with is the same, bit for bit.
 */
import { join } from "node:path";
import { loadCheckpoint } from "../../../lib/checkpoint/index.js";
import type { Engine } from "../../../lib/engine/index.js";
import { initParameters, parameterSpecs, parseModelConfig } from "../../../lib/models/index.js";
import { RunFailedError } from "../errors.js";
import { learnerOptionsOf, PolicyLearner } from "../learner/policy-learner.js";
import type { PpoRunConfig } from "../run-config.js";
import type { StoredCheckpoint } from "../runs/checkpoint-store.js";
import { tokenizerFiles } from "../supervised/model-files.js";
import { type LearnedModel, MODEL_FOLDER, readOptimizer } from "./policy-checkpoint.js";
import { type PpoRunState, ppoStateOf } from "./ppo-state.js";

/** The part of the run file that makes a learner. */
export type LearnerConfig = Pick<
  PpoRunConfig,
  "model" | "seed" | "ppo" | "weightDecay" | "schedule" | "batches"
>;

/** A learner and where it comes from. */
export interface RunLearner {
  readonly learner: PolicyLearner;
  /** Directory that the model was read from; its tokenizer is the run's. */
  readonly folder: string;
  /** What a saved model has besides its weights. */
  readonly files: Pick<LearnedModel, "config" | "generationConfig" | "tokenizerFiles">;
  readonly vocabSize: number;
  readonly weightVersion: number;
  /** Version of the weights that the run started from. */
  readonly firstVersion: number;
  /** Digest that a policy server reports for these weights. */
  readonly servedDigest: string;
  /** What the checkpoint holds besides tensors. */
  readonly resumed: PpoRunState | undefined;
}

/** Loads the model of a run, or of a checkpoint with its optimizer. A value head that the directory lacks starts from the seed. */
export async function openRunLearner(
  engine: Engine,
  config: LearnerConfig,
  checkpoint: StoredCheckpoint | undefined,
): Promise<RunLearner> {
  const resumed = checkpoint && ppoStateOf(checkpoint);
  const folder = checkpoint ? join(checkpoint.folder, MODEL_FOLDER) : config.model;
  const { modelConfig, weights, weightVersion, servedDigest, files } = await loadPolicy(folder, config.seed);
  const learner = await PolicyLearner.create(engine, modelConfig, weights, learnerSettings(config));
  if (checkpoint && resumed) {
    await learner.importState(await readOptimizer(checkpoint.folder, resumed.optimizer));
  }
  return {
    learner,
    folder,
    files,
    vocabSize: modelConfig.vocabSize,
    weightVersion: resumed?.weightVersion ?? weightVersion,
    firstVersion: resumed?.firstVersion ?? weightVersion - (checkpoint?.step ?? 0),
    servedDigest: resumed?.digest ?? servedDigest,
    resumed,
  };
}

/** How the learner of a run file learns. */
export function learnerSettings({
  ppo,
  weightDecay,
  schedule,
  batches,
}: Omit<LearnerConfig, "model" | "seed">) {
  const learner = {
    ...learnerOptionsOf(ppo),
    weightDecay,
    schedule: { kind: schedule, totalSteps: batches },
  };
  return { ppo, learner };
}

async function loadPolicy(folder: string, seed: number) {
  const load = (task: "causal-lm" | "causal-lm-with-value") =>
    loadCheckpoint(folder, (json) => parameterSpecs(parseModelConfig(json), task), { optional: ["v_head."] });
  const checkpoint = await load("causal-lm-with-value");
  const modelConfig = parseModelConfig(checkpoint.config);
  if (modelConfig.modelType !== "gpt2") {
    throw new RunFailedError(
      "WRONG_MODEL",
      `model: ${folder} holds a ${modelConfig.modelType}, expected a gpt2`,
    );
  }
  const missing = parameterSpecs(modelConfig, "causal-lm-with-value").filter(
    ({ name }) => !checkpoint.tensors.has(name),
  );
  return {
    modelConfig,
    weights: new Map([...checkpoint.tensors, ...initParameters(missing, seed)]),
    weightVersion: checkpoint.weightVersion,
    /** It reads no value head. */
    servedDigest: (await load("causal-lm")).digest,
    files: {
      config: checkpoint.config,
      generationConfig: checkpoint.generationConfig,
      tokenizerFiles: await tokenizerFiles(folder),
    },
  };
}
