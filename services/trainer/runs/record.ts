/**
 * @file run.json: where a run stands, for whoever looks at the directory. Its checkpoints say what it is.
 */
import { join } from "node:path";
import { z } from "zod";
import { readJson, writeFileAtomic } from "./files.js";

const recordSchema = z.object({
  id: z.string(),
  kind: z.enum(["ppo", "sft", "reward", "encoder"]),
  state: z.enum(["STARTING", "RUNNING", "PAUSED", "FINISHED", "STOPPED", "FAILED", "INTERRUPTED"]),
  step: z.number().int(),
  totalSteps: z.number().int(),
  startedAt: z.string(),
  reason: z.string().default(""),
  weights: z.object({ version: z.number().int(), digest: z.string() }).optional(),
  weightsBus: z.string().default(""),
  modelDirectory: z.string().default(""),
  metrics: z.record(z.string(), z.number().nullable()).default({}),
});

/** Where a run stands. */
export type RunRecord = z.output<typeof recordSchema>;

/** Reads run.json of a run directory; undefined if it holds none. */
export function readRunRecord(directory: string): RunRecord | undefined {
  const raw = readJson(join(directory, "run.json"));
  return raw === undefined ? undefined : recordSchema.parse(raw);
}

/** Replaces run.json at once. */
export function writeRunRecord(directory: string, record: RunRecord): void {
  writeFileAtomic(join(directory, "run.json"), `${JSON.stringify(record, null, 2)}\n`);
}
