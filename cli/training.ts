/**
 * @file Runs a run file to its end: on the trainer of an address, or embedded, with everything it needs started here.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Run, RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { type Client, createClient } from "../lib/rpc/index.js";
import { type ConnectionOptions, clientOptions } from "./connection.js";
import { Embedded } from "./embedded.js";
import { comparisonText } from "./evaluation.js";
import { CliError, EXIT } from "./exit-codes.js";
import { onInterrupt } from "./interrupts.js";
import type { Output } from "./output.js";
import { COMMAND_OF, type RunKindName, readRunFile } from "./run-file.js";
import { assertEnded, watchRun } from "./watch.js";

/** Options of the commands that run a run file. */
export interface TrainingOptions extends ConnectionOptions {
  readonly runsDir: string;
  readonly runId?: string;
  readonly trainer?: string;
  readonly nats?: string;
  readonly logLevel?: string;
  /** False leaves out the comparison at the end. */
  readonly eval?: boolean;
}

type TrainerClient = Client<(typeof TrainerService)["method"]>;

/** `rlhf train`, `sft`, `train-reward` and `train-encoder`. `kind` is what the run file must say. */
export async function trainFile(
  path: string,
  kind: RunKindName,
  options: TrainingOptions,
  output: Output,
): Promise<void> {
  const { config, baseDirectory } = readRunFile(path);
  const said = /^\s*["']?kind["']?\s*:\s*["']?(\w+)/m.exec(config)?.[1];
  if (said !== undefined && said !== kind) {
    const command = Object.hasOwn(COMMAND_OF, said) ? COMMAND_OF[said as RunKindName] : undefined;
    const hint = command ? `; \`rlhf ${command} ${path}\` runs it` : "";
    throw new CliError(`${path}: kind is ${said}, expected ${kind}${hint}`, EXIT.usage);
  }
  if (options.trainer) {
    await trainRemote(options.trainer, { config, baseDirectory, kind }, options, output);
    return;
  }
  const session = new TrainingSession(options, output);
  try {
    const run = await session.run({
      config,
      baseDirectory,
      kind,
      ...(options.runId ? { runId: options.runId } : {}),
    });
    if (kind === "ppo" && run.state === RunState.FINISHED && options.eval !== false)
      await session.evaluate(run.id);
  } finally {
    await session.close();
  }
}

async function trainRemote(
  address: string,
  file: { config: string; baseDirectory: string; kind: string },
  options: TrainingOptions,
  output: Output,
): Promise<void> {
  const client = createClient(TrainerService, address, clientOptions(options));
  try {
    const { run } = await client.startRun({
      config: file.config,
      baseDirectory: file.baseDirectory,
      ...(options.runId ? { runId: options.runId } : {}),
    });
    const id = run?.id ?? "";
    output.say(`run ${id} started on ${address}; it goes on there if you leave with Ctrl-C`);
    const leave = new AbortController();
    const remove = onInterrupt(
      () => leave.abort(),
      () => {},
    );
    try {
      reportEnd(await watchRun(client, id, output, { signal: leave.signal }), output);
    } catch (error) {
      if (!leave.signal.aborted) throw error;
      throw new CliError(
        `left run ${id}; \`rlhf runs watch ${id} --trainer ${address}\` shows it`,
        EXIT.interrupted,
      );
    } finally {
      remove();
    }
  } finally {
    client.close();
  }
}

/** Runs one after another with one embedded trainer; Ctrl-C pauses the run at work and ends the session. */
export class TrainingSession {
  readonly #embedded: Embedded;
  #client: TrainerClient | undefined;
  #active: string | undefined;
  #interrupted = false;
  readonly #remove: () => void;

  constructor(
    private readonly options: TrainingOptions,
    private readonly output: Output,
  ) {
    this.#embedded = new Embedded((name, how) => output.warn(`${name} ${how}`));
    this.#remove = onInterrupt(
      () => this.#pause(),
      () => this.#embedded.kill(),
    );
  }

  /** Starts what the run needs, runs it and shows it. Returns the run as it ended; throws CliError if it failed. */
  async run(file: {
    config: string;
    baseDirectory: string;
    kind: RunKindName;
    runId?: string;
    resume?: boolean;
  }): Promise<Run> {
    const runsDirectory = resolve(this.options.runsDir);
    const runId = file.runId ?? newRunId(file.kind, runsDirectory);
    const started = await this.#embedded.start({
      config: file.config,
      baseDirectory: file.baseDirectory,
      runId,
      runsDirectory,
      ...(this.options.nats ? { nats: this.options.nats } : {}),
      ...(this.options.logLevel ? { logLevel: this.options.logLevel } : {}),
    });
    this.#throwIfInterrupted();
    if (started.bus) this.output.say(`weights travel by ${started.bus}`);
    const client = this.#connect(started.trainer.address);
    const { run } = file.resume
      ? await client.resumeRun({ runId, config: started.config, baseDirectory: file.baseDirectory })
      : await client.startRun({ config: started.config, baseDirectory: file.baseDirectory, runId });
    this.#active = runId;
    this.output.say(`run ${runId} in ${run?.directory}`);
    const end = await watchRun(client, runId, this.output, { title: file.kind });
    this.#active = undefined;
    reportEnd(end, this.output);
    this.#throwIfInterrupted(end);
    return end;
  }

  /** Compares before and after, and prints the table. */
  async evaluate(runId: string, options: { rows?: number; seed?: bigint } = {}): Promise<void> {
    if (!this.#client) throw new CliError("no run to evaluate", EXIT.usage);
    const reply = await this.#client.evaluate({ runId, ...options }, { deadlineMs: 3600_000 });
    this.output.result(reply, comparisonText(reply));
  }

  /** Stops everything that was started. */
  async close(): Promise<void> {
    this.#client?.close();
    await this.#embedded.stop();
    this.#remove();
  }

  #connect(address: string): TrainerClient {
    this.#client ??= createClient(TrainerService, address, clientOptions(this.options));
    return this.#client;
  }

  #pause(): void {
    this.#interrupted = true;
    const runId = this.#active;
    if (!runId || !this.#client) {
      // still starting: what runs is ended, and whoever waits for it sees that
      void this.#embedded.stop();
      return;
    }
    this.output.warn("pausing at the end of this step (Ctrl-C again ends at once)");
    this.#client.pauseRun({ runId }).catch((error: Error) => this.output.warn(error.message));
  }

  #throwIfInterrupted(run?: Run): void {
    if (!this.#interrupted) return;
    const hint = run ? `; \`rlhf runs resume ${run.id} --runs-dir ${this.options.runsDir}\` goes on` : "";
    throw new CliError(`interrupted${hint}`, EXIT.interrupted);
  }
}

/** Says where a run's results are; throws CliError if it failed. */
function reportEnd(run: Run, output: Output): void {
  assertEnded(run);
  if (run.modelDirectory) output.say(`model: ${run.modelDirectory}`);
}

/** `ppo-2026-11-24-10-20-30`, with a number behind it if that is taken. */
function newRunId(kind: string, runsDirectory: string): string {
  const stamp = new Date()
    .toISOString()
    .replace(/\.\d+Z$/, "")
    .replace(/[:T]/g, "-");
  for (let n = 1; ; n++) {
    const id = n === 1 ? `${kind}-${stamp}` : `${kind}-${stamp}-${n}`;
    if (!existsSync(join(runsDirectory, id))) return id;
  }
}
