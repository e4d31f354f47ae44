/**
 * @file The tensors of a run's checkpoint: the model directory (weights, value head, tokenizer) and the optimizer's moments.
 * What comes out of a folder is what went in, bit for bit.
 */
import { join } from "node:path";
import {
  type JsonObject,
  SafetensorsFile,
  saveCheckpoint,
  writeSafetensors,
} from "../../../lib/checkpoint/index.js";
import type { AdamState } from "../learner/adam.js";
import type { HostParameter } from "../learner/parameter-store.js";
import type { LearnerState } from "../learner/trainable-model.js";

/** Folder of the model within a checkpoint. */
export const MODEL_FOLDER = "model";
const OPTIMIZER_FILE = "optimizer.safetensors";
const MOMENTS = ["moment1", "moment2"] as const;

/** The part of a learner's state that is no tensor. */
export type OptimizerCounters = Pick<LearnerState, "step" | "scheduleStep">;

/** What a checkpoint holds of a model that learns. */
export interface LearnedModel {
  readonly config: JsonObject;
  readonly generationConfig?: JsonObject | undefined;
  readonly weights: ReadonlyMap<string, HostParameter>;
  readonly weightVersion: number;
  /** The tokenizer's files by name. Kept in memory: the directory that they came from may be a checkpoint that is gone by then. */
  readonly tokenizerFiles: Readonly<Record<string, string>>;
}

/** Writes a model directory that our servers and transformers load. Returns the digest of its weights. */
export async function saveModel(directory: string, model: LearnedModel): Promise<string> {
  const { config, generationConfig, weights, weightVersion, tokenizerFiles } = model;
  const { digest } = await saveCheckpoint(directory, {
    config,
    ...(generationConfig ? { generationConfig } : {}),
    tensors: weights,
    weightVersion,
    files: tokenizerFiles,
  });
  return digest;
}

/** Writes model and optimizer into a checkpoint's folder. */
export async function writeLearned(folder: string, model: LearnedModel, state: AdamState): Promise<void> {
  await saveModel(join(folder, MODEL_FOLDER), model);
  await writeOptimizer(folder, state);
}

/** Writes the optimizer's moments into a checkpoint's folder. */
export async function writeOptimizer(folder: string, state: AdamState): Promise<void> {
  const tensors = new Map(
    MOMENTS.flatMap((moment) =>
      [...state[moment]].map(([name, { shape, data }]) => [
        `${moment}.${name}`,
        { dtype: "F32" as const, shape, data },
      ]),
    ),
  );
  await writeSafetensors(join(folder, OPTIMIZER_FILE), tensors, { step: String(state.step) });
}

/** Reads the optimizer's state back from a checkpoint's folder. */
export async function readOptimizer(folder: string, counters: OptimizerCounters): Promise<LearnerState> {
  const state = { moment1: new Map<string, HostParameter>(), moment2: new Map<string, HostParameter>() };
  const file = await SafetensorsFile.open(join(folder, OPTIMIZER_FILE));
  try {
    for (const info of file.header.tensors.values()) {
      const moment = MOMENTS.find((name) => info.name.startsWith(`${name}.`));
      if (!moment) continue;
      const data = await file.readFloat32(info);
      state[moment].set(info.name.slice(moment.length + 1), { shape: [...info.shape], data });
    }
  } finally {
    await file.close();
  }
  return { ...counters, ...state };
}
