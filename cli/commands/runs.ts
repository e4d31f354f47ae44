/** @file `rlhf runs …` and `rlhf eval`: runs of a trainer, or of a runs directory through an embedded one. */
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type Run, RunKind, RunState, TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import type { Client } from "../../lib/rpc/index.js";
import { type ConnectionOptions, withClient } from "../connection.js";
import { Embedded, withoutEmbeddedServers } from "../embedded.js";
import { comparisonText } from "../evaluation.js";
import { CliError, EXIT } from "../exit-codes.js";
import { type Output, printable, table } from "../output.js";
import { type RunKindName, readRunFile } from "../run-file.js";
import { TrainingSession } from "../training.js";
import { assertEnded, watchRun } from "../watch.js";

/** Options of the commands about runs. */
export interface RunsOptions extends ConnectionOptions {
  readonly trainer?: string;
  readonly runsDir: string;
  readonly nats?: string;
  readonly logLevel?: string;
}

type TrainerClient = Client<(typeof TrainerService)["method"]>;

/** `rlhf runs list` */
export async function listRuns(options: RunsOptions, output: Output): Promise<void> {
  await withTrainer(options, async (client) => {
    const runs: Run[] = [];
    for (let pageToken = ""; ; ) {
      const page = await client.listRuns({ pageToken, pageSize: 1000 });
      runs.push(...page.runs);
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    const rows = runs.map((run) => [
      run.id,
      RunKind[run.kind].toLowerCase(),
      RunState[run.state].toLowerCase(),
      `${run.step}/${run.totalSteps}`,
      run.startedAt.replace(/\.\d+Z$/, "Z"),
      printable(run.reason.split("\n")[0] ?? ""),
    ]);
    output.result(
      runs.map(plainRun),
      runs.length === 0 ? "no runs" : table([["run", "kind", "state", "step", "started", "reason"], ...rows]),
    );
  });
}

/** `rlhf runs watch RUN` */
export async function watch(runId: string, options: RunsOptions, output: Output): Promise<void> {
  await withTrainer(options, async (client) => {
    const run = await watchRun(client, runId, output);
    output.say(
      `run ${run.id}: ${RunState[run.state].toLowerCase()}${run.reason ? ` (${printable(run.reason)})` : ""}`,
    );
    assertEnded(run);
  });
}

/** `rlhf runs pause RUN` and `rlhf runs stop RUN` */
export async function request(
  runId: string,
  what: "pause" | "stop",
  options: RunsOptions,
  output: Output,
): Promise<void> {
  await withTrainer(options, async (client) => {
    const { run } = what === "pause" ? await client.pauseRun({ runId }) : await client.stopRun({ runId });
    output.result(run && plainRun(run), `run ${runId} will ${what} at the end of its step`);
  });
}

/**
 * `rlhf runs resume RUN`: on the trainer of an address, or embedded, with its servers started here. `file` is a run file to go on with
 * instead of the run's own; the trainer refuses what must not change.
 */
export async function resume(
  runId: string,
  options: RunsOptions & { file?: string },
  output: Output,
): Promise<void> {
  const given = options.file === undefined ? undefined : readRunFile(options.file);
  if (options.trainer) {
    await withTrainer(options, async (client) => {
      const { run } = await client.resumeRun({ runId, ...given });
      output.result(run && plainRun(run), `run ${runId} goes on`);
    });
    return;
  }
  const { config, kind } = storedRun(runId, options);
  const session = new TrainingSession(options, output);
  try {
    const { config: text, baseDirectory } = given ?? { config, baseDirectory: process.cwd() };
    const run = await session.run({ config: text, baseDirectory, kind, runId, resume: true });
    if (kind === "ppo" && run.state === RunState.FINISHED) await session.evaluate(run.id);
  } finally {
    await session.close();
  }
}

/** `rlhf eval RUN`: before and after once more, embedded or on a trainer whose servers still run. */
export async function evaluate(
  runId: string,
  options: RunsOptions & { rows?: number; seed?: number },
  output: Output,
): Promise<void> {
  const choice = {
    ...(options.rows === undefined ? {} : { rows: options.rows }),
    ...(options.seed === undefined ? {} : { seed: BigInt(options.seed) }),
  };
  if (options.trainer) {
    await withTrainer(options, async (client) => {
      const reply = await client.evaluate({ runId, ...choice }, { deadlineMs: 3600_000 });
      output.result(reply, comparisonText(reply));
    });
    return;
  }
  const { config, kind } = storedRun(runId, options);
  if (kind !== "ppo")
    throw new CliError(`run ${runId} is of kind ${kind}; only ppo runs are compared`, EXIT.usage);
  const runsDirectory = resolve(options.runsDir);
  const embedded = new Embedded((name, how) => output.warn(`${name} ${how}`));
  try {
    const started = await embedded.start({
      config,
      baseDirectory: process.cwd(),
      runId,
      runsDirectory,
      tunedModel: join(runsDirectory, runId, "model"),
      ...(options.logLevel ? { logLevel: options.logLevel } : {}),
    });
    await withClient(TrainerService, started.trainer.address, options, async (client) => {
      const reply = await client.evaluate(
        { runId, ...choice, config: started.config },
        { deadlineMs: 3600_000 },
      );
      output.result(reply, comparisonText(reply));
    });
  } finally {
    await embedded.stop();
  }
}

/** Calls `work` with a client of the trainer of an address, or of one that is started for it on the runs directory. */
export async function withTrainer(
  options: RunsOptions,
  work: (client: TrainerClient) => Promise<void>,
): Promise<void> {
  if (options.trainer) return withClient(TrainerService, options.trainer, options, work);
  const embedded = new Embedded();
  try {
    const trainer = await embedded.trainer(resolve(options.runsDir), options.logLevel);
    await withClient(TrainerService, trainer.address, options, work);
  } finally {
    await embedded.stop();
  }
}

/** The run file kept in a run directory, without the addresses of servers that were started for it. */
function storedRun(runId: string, options: RunsOptions): { config: string; kind: RunKindName } {
  const path = join(resolve(options.runsDir), runId, "run.yaml");
  let config: string;
  try {
    config = readFileSync(path, "utf8");
  } catch (error) {
    throw new CliError(`run ${runId}: ${(error as Error).message}`, EXIT.usage, { cause: error });
  }
  const kind = /^kind: (\w+)/m.exec(config)?.[1] as RunKindName;
  return { config: withoutEmbeddedServers(dirname(path), config), kind };
}

function plainRun(run: Run): unknown {
  return {
    id: run.id,
    kind: RunKind[run.kind].toLowerCase(),
    state: RunState[run.state].toLowerCase(),
    step: Number(run.step),
    totalSteps: Number(run.totalSteps),
    startedAt: run.startedAt,
    reason: run.reason,
    directory: run.directory,
    modelDirectory: run.modelDirectory,
    metrics: run.metrics,
  };
}
