/** @file Runs and events of the trainer as the messages of rlhf.trainer.v1. Pure. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DiffRunsResponseSchema,
  EvaluateResponseSchema,
  ReplayRunResponseSchema,
  WatchRunResponseSchema,
} from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { RunKind, type RunSchema, RunState } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import type { ComparisonRow, VariantSummary } from "./evaluate/comparison.js";
import type { RunDifference } from "./replay/diff.js";
import type { ReplayedBatch } from "./replay/replay.js";
import type { RunEvent } from "./runs/events.js";
import type { RunRecord } from "./runs/record.js";

const KINDS = {
  ppo: RunKind.PPO,
  sft: RunKind.SFT,
  reward: RunKind.REWARD,
  encoder: RunKind.ENCODER,
} as const;

/** A run as a message. */
export function toRun(record: RunRecord, directory: string): MessageInitShape<typeof RunSchema> {
  return {
    id: record.id,
    kind: KINDS[record.kind],
    state: RunState[record.state],
    step: BigInt(record.step),
    totalSteps: BigInt(record.totalSteps),
    ...(record.weights
      ? { weights: { version: BigInt(record.weights.version), digest: record.weights.digest } }
      : {}),
    reason: record.reason,
    directory,
    startedAt: record.startedAt,
    metrics: Object.fromEntries(
      Object.entries(record.metrics).map(([name, value]) => [name, value ?? Number.NaN]),
    ),
    modelDirectory: record.modelDirectory,
    weightsBus: record.weightsBus,
  };
}

/** An event as a message. `run` is asked for when the event is a change of state. */
export function toEvent(
  event: RunEvent,
  run: () => MessageInitShape<typeof RunSchema>,
): MessageInitShape<typeof WatchRunResponseSchema> {
  return { event: BigInt(event.event), time: event.time, body: bodyOf(event, run) };
}

function bodyOf(
  event: RunEvent,
  run: () => MessageInitShape<typeof RunSchema>,
): MessageInitShape<typeof WatchRunResponseSchema>["body"] {
  switch (event.kind) {
    case "state":
      return {
        case: "run",
        value: { ...run(), state: RunState[event.state], reason: event.reason ?? "" },
      };
    case "step":
      return {
        case: "step",
        value: {
          step: BigInt(event.step),
          totalSteps: BigInt(event.totalSteps),
          metrics: { ...event.metrics },
          secondsLeft: event.secondsLeft,
        },
      };
    case "phase":
      return { case: "phase", value: { step: BigInt(event.step), phase: event.phase, done: event.done } };
    case "log":
      return {
        case: "log",
        value: { level: event.level, message: event.message, fields: { ...event.fields } },
      };
  }
}

/** A comparison as a message. */
export function toEvaluation(
  variants: readonly VariantSummary[],
  rows: readonly ComparisonRow[],
  paths: { csv: string; markdown: string; report: string },
): MessageInitShape<typeof EvaluateResponseSchema> {
  return {
    variants: variants.map((variant) => ({ ...variant })),
    rows: rows.map((row) => ({
      question: row.question,
      answer: row.answer,
      responses: row.responses.map((response) => response.response),
      f1: row.responses.map((response) => response.f1),
      rewards: row.responses.map((response) => response.reward),
    })),
    csvPath: paths.csv,
    markdownPath: paths.markdown,
    reportPath: paths.report,
  };
}

/** A batch of a replay as a message. */
export function toReplayed(batch: ReplayedBatch): MessageInitShape<typeof ReplayRunResponseSchema> {
  return {
    step: BigInt(batch.step),
    fromStep: BigInt(batch.fromStep),
    compared: batch.compared,
    differences: batch.differences.map((difference) => ({ ...difference })),
    failure: batch.failure,
  };
}

/** Where two runs part, as a message. */
export function toDifference(difference: RunDifference): MessageInitShape<typeof DiffRunsResponseSchema> {
  const { configuration, steps, parted } = difference;
  return {
    configuration: configuration.map((field) => ({ ...field })),
    ...(parted ? { step: BigInt(parted.step) } : {}),
    differences: (parted?.differences ?? []).map((each) => ({ ...each })),
    steps: BigInt(steps.first),
    otherSteps: BigInt(steps.second),
    commonSteps: BigInt(steps.both),
  };
}
