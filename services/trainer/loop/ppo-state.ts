/** @file What a PPO run is besides tensors, as a checkpoint keeps it; everything else derives from run file and step. */
import { z } from "zod";
import type { DatasetCursor } from "../../../lib/dataset/index.js";
import type { PpoStateSnapshot } from "../ppo/state.js";
import type { StoredCheckpoint } from "../runs/checkpoint-store.js";
import type { Moments } from "../scoring/compose.js";
import type { OptimizerCounters } from "./policy-checkpoint.js";

const schema = z.object({
  kind: z.literal("ppo"),
  cursor: z.object({ epoch: z.number().int(), index: z.number().int() }),
  ppo: z.object({
    klCoef: z.number(),
    scores: z.object({ mean: z.number(), variance: z.number(), std: z.number(), count: z.number() }),
  }),
  moments: z.record(z.string(), z.object({ count: z.number(), mean: z.number(), m2: z.number() })),
  weightVersion: z.number().int(),
  firstVersion: z.number().int().optional(),
  digest: z.string(),
  optimizer: z.object({ step: z.number().int(), scheduleStep: z.number().int() }),
  ahead: z.unknown().optional(),
  metricsBytes: z.number().int(),
});

/** State of a PPO run after some step. */
export interface PpoRunState {
  readonly kind: "ppo";
  /** Rows of the dataset handed out so far. */
  readonly cursor: DatasetCursor;
  readonly ppo: PpoStateSnapshot;
  /** Running moments of the terms that normalise. */
  readonly moments: Readonly<Record<string, Moments>>;
  readonly weightVersion: number;
  /** Version of the weights that the run started from; checkpoints of earlier releases lack it. */
  readonly firstVersion?: number | undefined;
  /** Digest of the weights as the policy servers report it. */
  readonly digest: string;
  readonly optimizer: OptimizerCounters;
  /** The next step's batch, where it was generated ahead: a StoredBatch. */
  readonly ahead?: unknown;
  /** Length of metrics.jsonl; lines behind it belong to steps that will be done again. */
  readonly metricsBytes: number;
}

/** The state in a checkpoint. Throws if the checkpoint is of another kind of run. */
export function ppoStateOf(checkpoint: StoredCheckpoint): PpoRunState {
  return schema.parse(checkpoint.state);
}
