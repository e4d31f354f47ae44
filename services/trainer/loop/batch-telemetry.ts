/**
 * @file What a PPO batch tells OpenTelemetry: the numbers of its line in metrics.jsonl, as instruments of the catalogue.
 * In: a batch, the samples learned from, the step's metrics. Out: nothing; records.
 */
import { counter, gauge, histogram } from "../../../lib/telemetry/index.js";
import type { ScoredBatch, ScoredSample } from "./rollout-stage.js";

const batches = histogram("rlhf.batch.duration");
const phases = histogram("rlhf.phase.duration");
const samples = counter("rlhf.samples");
const staleness = histogram("rlhf.staleness");
const rewards = gauge("rlhf.reward");
const statistics = gauge("rlhf.ppo.stat");

/** Phases of a batch, and the metric that has their time. */
const PHASES = {
  generate: "time/generate",
  score: "time/score",
  reference: "time/reference",
  logprobs: "time/ppo/forward_pass",
  learn: "time/learn",
  publish: "time/publish",
} as const;

/** Records a batch that was learned from. `version` is that of the learner's weights before it. */
export function recordBatch(
  batch: ScoredBatch,
  learned: readonly ScoredSample[],
  metrics: Readonly<Record<string, number>>,
  version: number,
): void {
  batches.record(metrics["time/batch"] ?? 0);
  for (const [phase, metric] of Object.entries(PHASES)) {
    const seconds = metrics[metric];
    if (seconds !== undefined) phases.record(seconds, { "rlhf.phase": phase });
  }
  samples.add(learned.length, { "rlhf.outcome": "scored" });
  const failed = batch.samples.length - learned.length;
  if (failed > 0) samples.add(failed, { "rlhf.outcome": "failed" });
  for (const { sample } of learned) staleness.record(version - sample.weightVersion);
  for (const [name, value] of Object.entries(metrics)) {
    if (!Number.isFinite(value)) continue;
    const reward = rewardOf(name);
    if (reward) rewards.record(value, reward);
    if (/^(ppo|objective)\//.test(name)) statistics.record(value, { "rlhf.ppo.stat.name": name });
  }
}

/** Control token and term of a metric that is a mean reward; undefined for any other metric. */
function rewardOf(name: string): Record<string, string> | undefined {
  const composed = /^env\/reward_(mean|good|bad)$/.exec(name)?.[1];
  if (composed) {
    return { "rlhf.control_token": composed === "mean" ? "all" : composed, "rlhf.reward.term": "all" };
  }
  const [, term, good] = /^reward\/([a-z0-9_]+)(\/good)?$/.exec(name) ?? [];
  return term ? { "rlhf.control_token": good ? "good" : "all", "rlhf.reward.term": term } : undefined;
}
