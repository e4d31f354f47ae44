/** @file Runs on a trainer: the run file of a tiny PPO run, waiting for its end, and what it left behind. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Run,
  RunState,
  type TrainerService,
  type WatchRunResponse,
} from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import type { Client } from "../../lib/rpc/index.js";
import { isTime } from "../../services/trainer/replay/quantities.js";
import type { TinyModels } from "./models.js";

/** A client of a trainer. */
export type TrainerClient = Client<(typeof TrainerService)["method"]>;

const AT_WORK = [RunState.STARTING, RunState.RUNNING];

/** Waits until a run has ended, however; `onEvent` sees what happens meanwhile. Rejects after `timeoutMs`. */
export async function awaitRun(
  client: TrainerClient,
  runId: string,
  options: { onEvent?: (event: WatchRunResponse) => void; timeoutMs?: number } = {},
): Promise<Run> {
  const { onEvent, timeoutMs = 90_000 } = options;
  for await (const event of client.watchRun({ runId }, { deadlineMs: timeoutMs })) onEvent?.(event);
  const { run } = await client.getRun({ runId });
  if (!run || AT_WORK.includes(run.state)) throw new Error(`run ${runId} is still at work`);
  return run;
}

/** One line of metrics.jsonl. */
export type MetricsLine = Readonly<Record<string, number>> & { readonly step: number };

/** The metrics of a run directory, a step each. */
export function metricsOf(runDirectory: string): MetricsLine[] {
  return readFileSync(join(runDirectory, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as MetricsLine);
}

/** What a metric was in each step. */
export function series(lines: readonly MetricsLine[], name: string): number[] {
  return lines.map((line) => {
    const value = line[name];
    if (value === undefined) throw new Error(`step ${line.step} has no ${name}`);
    return value;
  });
}

/** Metrics without what a clock says. */
export function withoutTimes(lines: readonly MetricsLine[]): object[] {
  return lines.map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !isTime(name))));
}

/** Addresses of a run's servers. */
export interface RunAddresses {
  readonly policy: readonly string[];
  readonly reference: readonly string[];
  readonly reward: readonly string[];
  readonly bertscore?: readonly string[];
}

/** Servers of a run file from their addresses. */
export function serversOf(addresses: RunAddresses): object {
  return Object.fromEntries(Object.entries(addresses).map(([name, list]) => [name, { addresses: list }]));
}

/** The run file of a tiny PPO run; `change` wins over it, and `ppo` is merged. */
export function ppoRunFile(
  models: TinyModels,
  change: Readonly<Record<string, unknown>> & { ppo?: object } = {},
): string {
  return JSON.stringify({
    kind: "ppo",
    seed: 1,
    threads: 1,
    model: models.policy,
    data: { train: models.train, test: models.test },
    generation: { maxNewTokens: 16 },
    rewards: [{ type: "classifier", weight: 4, signed: false }],
    batches: 4,
    checkpoint: { every: 1000 },
    evaluation: { rows: 4 },
    ...change,
    ppo: {
      batchSize: 16,
      minibatchSize: 8,
      epochs: 2,
      learningRate: 1e-3,
      initialKlCoef: 0.1,
      earlyStopping: false,
      ...change.ppo,
    },
  });
}
