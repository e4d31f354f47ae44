/**
 * @file The runs of one trainer: starts, resumes, pauses, stops, lists and watches them. Holds no mathematics; each kind of
 * run hands in its work.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { ConfigError } from "../../../lib/config/index.js";
import {
  RunInterrupted,
  RunLockedError,
  RunStateError,
  TrainerBusyError,
  UnknownRunError,
} from "../errors.js";
import { parseRunConfig, type RunConfig, type RunDefaults } from "../run-config.js";
import { checkRunInputs } from "../run-inputs.js";
import { EventFile } from "../tensorboard/event-file.js";
import { checkResumeConfig } from "./changed-config.js";
import { CheckpointStore } from "./checkpoint-store.js";
import type { Runner } from "./context.js";
import { diskFullCause, SpareRoom } from "./disk-full.js";
import { EventLog, type RunEvent, type RunState } from "./events.js";
import { writeFileAtomic } from "./files.js";
import { Journal, readJournal } from "./journal.js";
import { isLocked, lockOwner, lockRun } from "./lock.js";
import { type RunRecord, readRunRecord, writeRunRecord } from "./record.js";

/** A logger in pino's manner. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What a manager needs. */
export interface RunManagerOptions {
  readonly runsDirectory: string;
  readonly runners: { readonly [K in RunConfig["kind"]]: Runner<Extract<RunConfig, { kind: K }>> };
  readonly log: Log;
  /** Most runs at a time. */
  readonly maxActive?: number;
  /** What a run file gets that does not say it. */
  readonly defaults?: RunDefaults;
}

interface ActiveRun {
  readonly events: EventLog;
  readonly spare: SpareRoom;
  readonly abort: AbortController;
  request: "paused" | "stopped" | undefined;
  /** The process is told to end; nobody asked for a pause. */
  draining: boolean;
  record: RunRecord;
  readonly done: Promise<void>;
}

/** What the name of a run may be, for people. */
export const RUN_ID_RULE = "letters, digits, '.', '_' and '-', first a letter or digit, at most 100";
/** The same for machines. */
export const RUN_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const RESUMABLE: readonly RunState[] = ["PAUSED", "STOPPED", "FAILED", "INTERRUPTED"];

/** The runs below one directory. */
export class RunManager {
  readonly #active = new Map<string, ActiveRun>();
  /** How runs ended that could not write it down. */
  readonly #unwritten = new Map<string, RunRecord>();

  constructor(private readonly options: RunManagerOptions) {
    mkdirSync(options.runsDirectory, { recursive: true });
  }

  /** A run file with this trainer's defaults. Throws ConfigError naming every problem. */
  parse(configText: string, baseDirectory: string): RunConfig {
    return parseRunConfig(configText, baseDirectory, this.options.defaults);
  }

  /**
   * Checks a run file and starts the run. Throws ConfigError (every problem named), RunStateError if the name is taken,
   * TrainerBusyError if enough runs are active.
   */
  start(configText: string, baseDirectory: string, runId?: string): RunRecord {
    const config = this.parse(configText, baseDirectory);
    checkRunInputs(config);
    const id = runId ?? this.#newId(config.kind);
    if (!RUN_ID.test(id)) {
      throw new RunStateError(`run_id: ${JSON.stringify(id)} → ${RUN_ID_RULE}`);
    }
    this.#admit();
    const directory = join(this.options.runsDirectory, id);
    if (existsSync(join(directory, "run.json"))) {
      throw new RunStateError(`run_id: ${id} exists already; resume it, or choose another name`);
    }
    const found = existsSync(directory); // the command line keeps logs of the servers it started there
    mkdirSync(directory, { recursive: true });
    const record: RunRecord = {
      id,
      kind: config.kind,
      state: "STARTING",
      step: 0,
      totalSteps: 0,
      startedAt: new Date().toISOString(),
      reason: "",
      weightsBus: "",
      modelDirectory: "",
      metrics: {},
    };
    try {
      return this.#launch(directory, config, record, false);
    } catch (error) {
      if (!found) rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /**
   * Goes on with a run from its newest good checkpoint. `configText` may differ from the run's own only in fields that
   * may change; RunStateError names those that may not. Its relative paths start from `baseDirectory`, or from the run's.
   */
  resume(id: string, configText?: string, baseDirectory?: string): RunRecord {
    const { directory, record } = this.#find(id);
    this.#refuseElsewhere(id, directory);
    if (!RESUMABLE.includes(record.state) && record.state !== "FINISHED") {
      throw new RunStateError(
        `run ${id} is ${record.state}; only ${RESUMABLE.join(", ")} runs can be resumed, and FINISHED ones with more batches`,
      );
    }
    this.#admit();
    const own = readFileSync(join(directory, "run.yaml"), "utf8"); // somebody may have changed it by hand
    const config = this.parse(configText ?? own, baseDirectory ?? directory);
    checkResumeConfig(learnedUnder(directory) ?? parseRunConfig(own, directory), config);
    if (record.state === "FINISHED" && !(config.kind === "ppo" && config.batches > record.step)) {
      const more = config.kind === "ppo" ? `; more than ${record.step} batches go on with it` : "";
      throw new RunStateError(`run ${id} is FINISHED${more}, and \`rlhf eval ${id}\` compares it once more`);
    }
    return this.#launch(directory, config, { ...record, state: "STARTING", reason: "" }, true);
  }

  /** Asks a run to pause or stop at the end of its step. */
  request(id: string, how: "paused" | "stopped"): RunRecord {
    const active = this.#active.get(id);
    if (!active) {
      const { directory, record } = this.#find(id);
      this.#refuseElsewhere(id, directory);
      if (how === "stopped" && (record.state === "PAUSED" || record.state === "INTERRUPTED")) {
        const stopped: RunRecord = { ...record, state: "STOPPED" };
        writeRunRecord(join(this.options.runsDirectory, id), stopped);
        return stopped;
      }
      throw new RunStateError(`run ${id} is ${record.state}; only a run at work can be ${how}`);
    }
    active.request = how;
    return active.record;
  }

  /** One run. Throws UnknownRunError. */
  get(id: string): { record: RunRecord; directory: string; config: string } {
    const { directory, record } = this.#find(id);
    const path = join(directory, "run.yaml");
    return { directory, record, config: existsSync(path) ? readFileSync(path, "utf8") : "" };
  }

  /** All runs, newest first. A directory whose run.json can't be read is left out, with a warning. */
  list(): RunRecord[] {
    const records = readdirSync(this.options.runsDirectory, { withFileTypes: true }).flatMap((entry) => {
      if (!entry.isDirectory() || !RUN_ID.test(entry.name)) return [];
      try {
        return [this.#find(entry.name).record];
      } catch (error) {
        if (!(error instanceof UnknownRunError)) {
          this.options.log.warn({ run: entry.name, err: error }, "run.json can't be read");
        }
        return [];
      }
    });
    return records.sort((a, b) => b.startedAt.localeCompare(a.startedAt) || a.id.localeCompare(b.id));
  }

  /** Events of a run from number `from` on; live while it is at work. */
  async *watch(id: string, from: number, signal: AbortSignal): AsyncGenerator<RunEvent> {
    const active = this.#active.get(id);
    if (active) {
      yield* active.events.follow(from, signal);
      return;
    }
    const { directory } = this.#find(id);
    for (const event of readJournal(join(directory, "events.jsonl")) as RunEvent[]) {
      if (event.event >= from) yield event;
    }
  }

  /**
   * Goes on with runs that were interrupted, newest first, as many as may be at work; for a service that was restarted. What can't be
   * resumed is logged.
   */
  resumeInterrupted(): RunRecord[] {
    const interrupted = this.list().filter(({ state }) => state === "INTERRUPTED");
    return interrupted.slice(0, this.options.maxActive ?? 1).flatMap(({ id }) => {
      try {
        const record = this.resume(id);
        this.options.log.info({ run: id }, "interrupted: going on with it");
        return [record];
      } catch (err) {
        this.options.log.error({ run: id, err }, "interrupted, and can't be resumed");
        return [];
      }
    });
  }

  /** Interrupts every run at the end of its step, with a checkpoint; after `graceMs` aborts what still works. */
  async drain(graceMs: number): Promise<void> {
    const working = [...this.#active.values()];
    for (const run of working) {
      run.draining = run.request === undefined;
      run.request ??= "paused";
    }
    const timer = setTimeout(() => {
      for (const run of working) run.abort.abort(new Error("the trainer is shutting down"));
    }, graceMs);
    await Promise.all(working.map((run) => run.done));
    clearTimeout(timer);
  }

  /** Resolves when the run has ended, for tests and one-shot use. */
  async finished(id: string): Promise<RunRecord> {
    await this.#active.get(id)?.done;
    return this.#find(id).record;
  }

  /** Throws RunLockedError where another process works on the run: only that one can pause it or go on with it. */
  #refuseElsewhere(id: string, directory: string): void {
    const owner = this.#active.has(id) ? undefined : lockOwner(directory);
    if (owner) throw new RunLockedError(directory, owner);
  }

  /** Runs at work now, and how many may be. */
  get load(): { readonly active: number; readonly most: number } {
    return { active: this.#active.size, most: this.options.maxActive ?? 1 };
  }

  #admit(): void {
    const { active, most } = this.load;
    if (active >= most) throw new TrainerBusyError([...this.#active.keys()], most);
  }

  #newId(kind: string): string {
    const stamp = new Date()
      .toISOString()
      .replace(/\.\d+Z$/, "")
      .replace(/[:T]/g, "-");
    for (let n = 1; ; n++) {
      const id = n === 1 ? `${kind}-${stamp}` : `${kind}-${stamp}-${n}`;
      if (!existsSync(join(this.options.runsDirectory, id))) return id;
    }
  }

  #find(id: string): { directory: string; record: RunRecord } {
    const directory = join(this.options.runsDirectory, id);
    const active = this.#active.get(id);
    if (active) return { directory, record: active.record };
    const record = RUN_ID.test(id) ? readRunRecord(directory) : undefined;
    if (!record) throw new UnknownRunError(id);
    const atWork = record.state === "STARTING" || record.state === "RUNNING";
    const unwritten = this.#unwritten.get(id);
    if (unwritten) return { directory, record: unwritten };
    if (atWork && !isLocked(directory)) {
      return {
        directory,
        record: {
          ...record,
          state: "INTERRUPTED",
          reason: record.reason || "its process ended without a word",
        },
      };
    }
    return { directory, record };
  }

  #launch(directory: string, config: RunConfig, record: RunRecord, resuming: boolean): RunRecord {
    let release = () => {};
    let events: EventLog | undefined;
    let spare: SpareRoom | undefined;
    try {
      release = lockRun(directory);
      spare = new SpareRoom(directory);
      events = new EventLog(directory);
      writeFileAtomic(join(directory, "run.yaml"), stringify(config));
      writeRunRecord(directory, record);
    } catch (error) {
      events?.close();
      spare?.free();
      release();
      if (!diskFullCause(error)) throw error;
      throw new RunStateError(`run directory ${directory}: the disk is full`, { cause: error });
    }
    this.#unwritten.delete(record.id);
    const abort = new AbortController();
    let settle = () => {};
    const done = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const run: ActiveRun = { events, spare, abort, request: undefined, draining: false, record, done };
    this.#active.set(record.id, run);
    void this.#work(run, directory, config, resuming).finally(() => {
      this.#active.delete(record.id);
      run.spare.free();
      release();
      settle();
    });
    return record;
  }

  /** Works a run to its end, whatever that is; never throws. */
  async #work(run: ActiveRun, directory: string, config: RunConfig, resuming: boolean): Promise<void> {
    const { log } = this.options;
    const update = (change: Partial<RunRecord>) => {
      run.record = { ...run.record, ...change };
      writeRunRecord(directory, run.record);
    };
    const enter = (state: RunState, change: Partial<RunRecord> = {}) => {
      try {
        update({ ...change, state });
      } finally {
        // whoever watches hears of it even where nothing can be written
        run.events.add({ kind: "state", state, ...(change.reason ? { reason: change.reason } : {}) });
      }
    };
    let journal: Journal | undefined;
    let eventFile: EventFile | undefined;
    const checkpoints = new CheckpointStore(directory, config.checkpoint, stringify(config));
    try {
      enter("STARTING");
      const say = (
        level: "info" | "warn" | "error",
        message: string,
        fields?: Readonly<Record<string, string>>,
      ) => {
        log[level]({ run: run.record.id, ...fields }, message);
        try {
          run.events.add({ kind: "log", level, message, ...(fields ? { fields } : {}) });
        } catch (error) {
          // said from timers and callbacks: what cannot be kept must not end the process; the next step's metrics end the run
          log.error({ run: run.record.id, err: error }, "an event could not be kept");
        }
      };
      const damaged: string[] = [];
      const resumeFrom = resuming
        ? await checkpoints.latest((folder, why) => {
            damaged.push(folder);
            say("warn", `checkpoint ${folder} is damaged: ${why}`, { damaged: folder });
          })
        : undefined;
      for (const folder of damaged) await checkpoints.setAside(folder);
      const metrics = new Journal(join(directory, "metrics.jsonl"), resuming ? metricsBytes(resumeFrom) : 0);
      journal = metrics;
      const tensorboard = new EventFile(
        join(directory, "tensorboard"),
        resuming ? { purgeFrom: (resumeFrom?.step ?? 0) + 1 } : {},
      );
      eventFile = tensorboard;
      if (resumeFrom) say("info", `resuming after step ${resumeFrom.step}`);
      else if (resuming) say("warn", "no good checkpoint: starting from the beginning");
      let startStep = resumeFrom?.step ?? 0;
      let startTime = performance.now();
      const runner = this.options.runners[config.kind] as Runner;
      const { modelDirectory } = await runner({
        id: run.record.id,
        directory,
        config,
        checkpoints,
        resumeFrom,
        signal: run.abort.signal,
        requested: () => run.request,
        log: say,
        running: (totalSteps, weightsBus = "") => {
          startTime = performance.now();
          startStep = resumeFrom?.step ?? 0;
          enter("RUNNING", { totalSteps, weightsBus, step: startStep });
        },
        phase: (step, phase, share) => void run.events.add({ kind: "phase", step, phase, done: share }),
        step: (step, values) => {
          metrics.append({ step, ...values });
          tensorboard.step(step, values);
          const { totalSteps } = run.record;
          const each = (performance.now() - startTime) / 1000 / Math.max(1, step - startStep);
          update({ step, metrics: { ...values } });
          run.events.add({
            kind: "step",
            step,
            totalSteps,
            metrics: values,
            secondsLeft: each * (totalSteps - step),
          });
        },
        publishedBefore: run.record.weights,
        published: (weights) => update({ weights }),
        bestScore: () => {
          const { keepBest } = config.checkpoint;
          return (keepBest && run.record.metrics[keepBest.metric]) ?? null;
        },
        metricsBytes: () => {
          metrics.sync();
          return metrics.bytes;
        },
      });
      enter("FINISHED", { modelDirectory });
    } catch (error) {
      const newest = await checkpoints.newestStep().catch(() => undefined);
      this.#ended(run, error as Error, newest, enter);
    } finally {
      journal?.close();
      eventFile?.close();
      run.events.close();
    }
  }

  #ended(
    run: ActiveRun,
    error: Error,
    checkpoint: number | undefined,
    enter: (state: RunState, change?: Partial<RunRecord>) => void,
  ): void {
    const { log } = this.options;
    const full = diskFullCause(error);
    run.spare.free();
    try {
      if (error instanceof RunInterrupted && run.draining) {
        enter("INTERRUPTED", { reason: "the trainer was shut down at the end of a step" });
      } else if (error instanceof RunInterrupted) {
        enter(error.how === "paused" ? "PAUSED" : "STOPPED", { reason: error.message });
      } else if (run.abort.signal.aborted) {
        enter("INTERRUPTED", { reason: (run.abort.signal.reason as Error).message });
      } else {
        log.error({ run: run.record.id, err: error }, "run failed");
        enter("FAILED", { reason: full ? diskFullText(run.record.id, error, checkpoint) : error.message });
      }
    } catch (failure) {
      // what the directory holds says "at work", and without its lock that reads as interrupted to others
      this.#unwritten.set(run.record.id, run.record);
      log.error({ run: run.record.id, err: failure }, "the run's end could not be written");
    }
  }
}

/** The configuration that the newest checkpoint was made under; undefined where none can be read. */
function learnedUnder(directory: string): RunConfig | undefined {
  for (const text of CheckpointStore.configsOf(directory)) {
    try {
      return parseRunConfig(text, directory);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error; // damaged: the one before says it, too
    }
  }
  return undefined;
}

/** Says that the disk is full, what is left and what to do. */
function diskFullText(id: string, error: Error, checkpoint: number | undefined): string {
  const left =
    checkpoint === undefined
      ? "there is no checkpoint yet"
      : `the last good checkpoint is that of step ${checkpoint}`;
  return `the disk is full (${error.message}); ${left}; free some space, then \`rlhf runs resume ${id}\` goes on`;
}

/** How long metrics.jsonl was at a checkpoint; 0 without one. */
function metricsBytes(checkpoint: { state: unknown } | undefined): number {
  const bytes = (checkpoint?.state as { metricsBytes?: unknown } | undefined)?.metricsBytes;
  return typeof bytes === "number" ? bytes : 0;
}
