/**
 * @file Repeats learned batches from their records, with no model server: from the newest good checkpoint before a batch up to it,
 * comparing every number with what the run wrote. In: a run directory. Out: one comparison per batch.
 */
import { join } from "node:path";
import { weightsDigest } from "../../../lib/checkpoint/index.js";
import { RunStateError } from "../errors.js";
import { AlarmError } from "../health/alarm.js";
import { HealthMonitor } from "../health/monitor.js";
import { policyMismatch } from "../health/policy-agreement.js";
import { stepMetrics } from "../loop/batch-metrics.js";
import { type BatchRecord, readBatchRecord, recordedSteps } from "../loop/batch-record.js";
import { learnBatch } from "../loop/learn-batch.js";
import { policyTensors } from "../loop/publishing.js";
import { PpoState } from "../ppo/state.js";
import type { PpoRunConfig } from "../run-config.js";
import { CheckpointStore } from "../runs/checkpoint-store.js";
import { readJournal } from "../runs/journal.js";
import { asWritten, compareMetrics, type MetricsLine, type QuantityDifference } from "./quantities.js";
import { ReplayLearner } from "./replay-learner.js";

/** A batch that was learned from once more. */
export interface ReplayedBatch {
  readonly step: number;
  /** Step of the checkpoint that the replay began from; 0 is the model that the run started with. */
  readonly fromStep: number;
  /** Quantities that were compared. */
  readonly compared: number;
  /** First what the run wrote, second what came out now; none where every number is the same. */
  readonly differences: readonly QuantityDifference[];
  /** Why the step ended without new weights, now as in the run; "" where it did not. */
  readonly failure: string;
}

/** What a replay is told. */
export interface ReplayOptions {
  /** Checked between batches. */
  readonly signal: AbortSignal;
  /** Told of each damaged checkpoint that is passed over. */
  readonly warn: (message: string) => void;
}

/**
 * Repeats the steps from the newest good checkpoint before `batch` up to it; ends after the first batch that differs or fails.
 * Throws RunStateError where a record is missing.
 */
export async function* replayBatches(
  directory: string,
  config: PpoRunConfig,
  batch: number,
  { signal, warn }: ReplayOptions,
): AsyncGenerator<ReplayedBatch> {
  const checkpoints = new CheckpointStore(directory, config.checkpoint);
  const checkpoint = await checkpoints.latest(
    (folder, why) => warn(`checkpoint ${folder} is damaged: ${why}`),
    batch - 1,
  );
  const fromStep = checkpoint?.step ?? 0;
  assertRecorded(directory, fromStep, batch);
  const lines = readJournal(join(directory, "metrics.jsonl")) as (MetricsLine & { step: number })[];
  const written = new Map(lines.map((line) => [line.step, line]));
  const first = readBatchRecord(directory, fromStep + 1) as BatchRecord;
  const replaying = await ReplayLearner.open(config, checkpoint, first.learner);
  try {
    const state = new PpoState(config.ppo, replaying.resumed?.ppo);
    for (let step = fromStep + 1; step <= batch; step++) {
      signal.throwIfAborted();
      const record = readBatchRecord(directory, step) as BatchRecord;
      await replaying.moveTo(record.learner);
      const repeated = await repeat(replaying.learner, config, state, record, written.get(step));
      yield { step, fromStep, ...repeated };
      if (repeated.differences.length > 0 || repeated.failure !== "") return;
    }
  } finally {
    await replaying.close();
  }
}

/** One step, and how its numbers compare. */
async function repeat(
  learner: ReplayLearner["learner"],
  config: PpoRunConfig,
  state: PpoState,
  record: BatchRecord,
  line: MetricsLine | undefined,
): Promise<Omit<ReplayedBatch, "step" | "fromStep">> {
  const { step, version, batch, published, failure = "" } = record;
  const learned = batch.samples.filter(({ reward }) => reward.outcome.kind === "scored");
  const onPolicy = (logprobs: readonly Float32Array[]) => {
    if (config.ppo.responseIncludesQuery) return;
    const finding = policyMismatch(config.alarms.logprobMismatch, learned, logprobs, version);
    const alarm = finding && new HealthMonitor(config).alarm("logprobMismatch", step, finding);
    if (alarm?.action === "stop") throw new AlarmError(alarm);
  };
  try {
    const learnt = await learnBatch(learner, config, state, { step, version, learned }, { onPolicy });
    if (failure !== "") return failed(failure, "none");
    const metrics = asWritten(stepMetrics(config, batch, learned, learnt, version));
    const { compared, differences } = compareMetrics(line ?? {}, metrics);
    const digest = await weightsDigest(policyTensors(await learner.readWeights()));
    const moved =
      published && published.digest !== digest
        ? [{ quantity: "digest of the weights after the step", first: published.digest, second: digest }]
        : [];
    return {
      compared: compared + (published ? 1 : 0),
      differences: [...differences, ...moved],
      failure: "",
    };
  } catch (error) {
    return failed(failure === "" ? "none" : failure, (error as Error).message);
  }
}

function failed(then: string, now: string): Omit<ReplayedBatch, "step" | "fromStep"> {
  const differences = then === now ? [] : [{ quantity: "failure of the step", first: then, second: now }];
  return { compared: 1, differences, failure: now === "none" ? "" : now };
}

function assertRecorded(directory: string, fromStep: number, batch: number): void {
  const recorded = new Set(recordedSteps(directory));
  const missing: number[] = [];
  for (let step = fromStep + 1; step <= batch; step++) if (!recorded.has(step)) missing.push(step);
  if (missing.length === 0) return;
  const kept = recorded.size === 0 ? "none" : `${Math.min(...recorded)} to ${Math.max(...recorded)}`;
  throw new RunStateError(
    `batch ${missing[0]} has no record, and the replay of batch ${batch} goes from checkpoint ${fromStep} through it (recorded: ${kept}); \`record: true\` in the run file keeps them`,
  );
}
