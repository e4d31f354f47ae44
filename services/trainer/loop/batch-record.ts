/**
 * @file The record of a batch, `records/batch-NNNNNNNN.json`: all that the learner's step was made of besides the weights, and
 * what each token was worth. With it and a checkpoint before it, the step can be repeated.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RunStateError } from "../errors.js";
import { readJson, writeFileAtomic } from "../runs/files.js";
import type { StoredExperience } from "./recorded-experience.js";
import type { ScoredBatch } from "./rollout-stage.js";
import { decodeBatch, encodeBatch } from "./scored-batch.js";

const schema = z.object({
  step: z.number().int(),
  /** Version of the learner's weights before the step. */
  version: z.number().int(),
  /** What may change when a run is resumed, and decides about the last bits or the learning rate. */
  learner: z.object({
    device: z.enum(["cpu", "cuda", "webgpu"]),
    threads: z.number().int(),
    totalSteps: z.number().int(),
  }),
  /** Weights after the step. */
  published: z.object({ version: z.number().int(), digest: z.string() }).optional(),
  /** Why the step ended without new weights. */
  failure: z.string().optional(),
  batch: z.unknown(),
});

/** What is kept of a step. */
export interface BatchRecord extends Omit<z.output<typeof schema>, "batch"> {
  readonly batch: ScoredBatch;
}

/** Where and with how many threads a learner computes, and how long its schedule is. */
export type LearnerSetup = BatchRecord["learner"];

const folderOf = (runDirectory: string) => join(runDirectory, "records");
const nameOf = (step: number) => `batch-${String(step).padStart(8, "0")}.json`;

/** Writes the record of a batch; `experience` is for the dashboard alone. */
export function writeBatchRecord(
  runDirectory: string,
  record: BatchRecord,
  experience: StoredExperience,
): void {
  mkdirSync(folderOf(runDirectory), { recursive: true });
  const stored = { ...record, batch: encodeBatch(record.batch), experience };
  writeFileAtomic(join(folderOf(runDirectory), nameOf(record.step)), JSON.stringify(stored));
}

/** Reads the record of a batch; undefined if there is none. Throws RunStateError where it is of a version that kept too little. */
export function readBatchRecord(runDirectory: string, step: number): BatchRecord | undefined {
  const path = join(folderOf(runDirectory), nameOf(step));
  const stored = readJson(path);
  if (stored === undefined) return undefined;
  const parsed = schema.safeParse(stored);
  if (!parsed.success) throw new RunStateError(`${path}: ${z.prettifyError(parsed.error)}`);
  return { ...parsed.data, batch: decodeBatch(parsed.data.batch) };
}

/** Steps that have a record, rising. */
export function recordedSteps(runDirectory: string): number[] {
  let names: string[];
  try {
    names = readdirSync(folderOf(runDirectory));
  } catch {
    return [];
  }
  return names
    .flatMap((name) => /^batch-(\d{8,})\.json$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}
