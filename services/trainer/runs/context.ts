/**
 * @file What a run's work gets from its manager: its directory, its configuration, and ways to say what happens.
 */
import type { RunConfig } from "../run-config.js";
import type { CheckpointStore, StoredCheckpoint } from "./checkpoint-store.js";
import type { Phase } from "./events.js";

/** A step's metrics: numbers by name; docs/metrics.md defines each. */
export type Metrics = Readonly<Record<string, number>>;

/** What the work of one run may use. */
export interface RunContext<C extends RunConfig = RunConfig> {
  readonly id: string;
  readonly directory: string;
  readonly config: C;
  readonly checkpoints: CheckpointStore;
  /** The checkpoint to go on from, if the run was interrupted, paused or stopped. */
  readonly resumeFrom: StoredCheckpoint | undefined;
  /** Aborts when the run must end at once. */
  readonly signal: AbortSignal;
  /** What was asked for at the end of the step. */
  requested(): "paused" | "stopped" | undefined;
  /** A line for people; also goes to the process's log. */
  log(level: "info" | "warn" | "error", message: string, fields?: Readonly<Record<string, string>>): void;
  /** The run is set up; says how many steps it will have and which weights bus it uses. */
  running(totalSteps: number, weightsBus?: string): void;
  phase(step: number, phase: Phase, done: number): void;
  /** A step is done: its metrics are kept and shown. Steps count from 1. */
  step(step: number, metrics: Metrics): void;
  /** Newest weights that the run had published when it was begun or resumed; undefined where it had not. */
  readonly publishedBefore: { readonly version: number; readonly digest: string } | undefined;
  /** Newest published weights. */
  published(weights: { version: number; digest: string }): void;
  /** Value of the metric that decides which checkpoint is best, at the newest step; null without one. */
  bestScore(): number | null;
  /** Length of metrics.jsonl, which is on the disk by then; for a checkpoint. */
  metricsBytes(): number;
}

/** What a run leaves behind. */
export interface RunResult {
  /** Directory of the final model. */
  readonly modelDirectory: string;
}

/** The work of one kind of run. Throws RunInterrupted after a requested pause or stop. */
export type Runner<C extends RunConfig = RunConfig> = (context: RunContext<C>) => Promise<RunResult>;
