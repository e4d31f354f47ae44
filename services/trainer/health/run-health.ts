/**
 * @file The health of one run at work: shows each step to the monitor, says alarms in events, log, metric and span, and stops the
 * run where the run file says so.
 */
import { join } from "node:path";
import { counter, trace } from "../../../lib/telemetry/index.js";
import type { ScoredBatch } from "../loop/rollout-stage.js";
import type { PpoRunConfig } from "../run-config.js";
import type { Metrics, RunContext } from "../runs/context.js";
import { readJournal } from "../runs/journal.js";
import { termName } from "../scoring/terms.js";
import { type Alarm, AlarmError, alarmFields, alarmText, type StepMetrics } from "./alarm.js";
import { silentTerm } from "./dead-term.js";
import { HealthMonitor } from "./monitor.js";
import { nonFiniteLearning } from "./non-finite.js";
import { policyMismatch, type Sampled } from "./policy-agreement.js";
import type { AlarmName } from "./settings.js";

const alarms = counter("rlhf.run.alarms");

/** Watches one run. Every method may throw AlarmError. */
export class RunHealth {
  readonly #monitor: HealthMonitor;
  #mismatched = false;

  /** Begins where metrics.jsonl ends: at the checkpoint that the run goes on from. */
  constructor(private readonly context: Pick<RunContext<PpoRunConfig>, "config" | "directory" | "log">) {
    this.#monitor = new HealthMonitor(context.config, readHistory(context.directory));
  }

  /** Compares sampler and learner before a batch is learned from; `logprobs` are of the responses as sampled, [G] each. */
  beforeLearning(
    step: number,
    sampled: readonly { readonly sample: Sampled }[],
    logprobs: readonly Float32Array[],
    version: number,
  ): void {
    const { logprobMismatch } = this.context.config.alarms;
    const finding = policyMismatch(logprobMismatch, sampled, logprobs, version);
    if (finding && !this.#mismatched) this.#find("logprobMismatch", step, finding);
    this.#mismatched = finding !== undefined;
  }

  /** Looks for terms that scored nothing, before the batch is given up for lack of samples. */
  scored(step: number, { samples }: ScoredBatch): void {
    for (const term of this.context.config.rewards) {
      const name = termName(term);
      if (samples.length === 0 || samples.some(({ reward }) => !Number.isNaN(reward.terms[name]))) continue;
      const failed = samples.find(({ reward }) => reward.outcome.kind === "failed")?.reward.outcome;
      const reason = failed?.kind === "failed" ? failed.reason : "";
      this.#find("deadTerm", step, silentTerm(term, samples.length, reason));
    }
  }

  /** Takes in the metrics of a step that was learned from. Says every alarm before it throws the first that stops the run. */
  learned(step: number, metrics: Metrics): void {
    const { raised, cleared } = this.#monitor.observe({ step, metrics });
    for (const { name, subject } of cleared) {
      const of = subject === "" ? name : `${name} (${subject})`;
      this.context.log("info", `alarm ${of} is over at step ${step}`, { alarm: name, step: String(step) });
    }
    for (const alarm of raised) this.#say(alarm);
    const stopping = raised.find(({ action }) => action === "stop");
    if (stopping) throw new AlarmError(stopping);
  }

  /** What to throw for an error of a step: AlarmError where a number was not finite, else the error itself. */
  failure(step: number, error: unknown): unknown {
    if ((error as { code?: unknown }).code !== "NON_FINITE") return error;
    const { config } = this.context;
    const finding = nonFiniteLearning(config, error as Error, this.#monitor.last?.metrics);
    // whatever the run file says: there is nothing to go on with
    const alarm: Alarm = { ...finding, name: "nonFinite", step, action: "stop" };
    this.#say(alarm);
    return new AlarmError(alarm, { cause: error });
  }

  #find(name: AlarmName, step: number, finding: Parameters<HealthMonitor["alarm"]>[2]): void {
    const alarm = this.#monitor.alarm(name, step, finding);
    if (!alarm) return;
    this.#say(alarm);
    if (alarm.action === "stop") throw new AlarmError(alarm);
  }

  #say(alarm: Alarm): void {
    const fields = alarmFields(alarm);
    this.context.log("warn", alarmText(alarm), fields);
    alarms.add(1, { "rlhf.alarm": alarm.name });
    trace.getActiveSpan()?.addEvent("rlhf.alarm", fields);
  }
}

/** The steps of metrics.jsonl; null stands there for what is no number. */
function readHistory(directory: string): StepMetrics[] {
  const lines = readJournal(join(directory, "metrics.jsonl")) as Record<string, number | null>[];
  return lines.map(({ step, ...values }) => ({
    step: step ?? 0,
    metrics: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value ?? Number.NaN])),
  }));
}
