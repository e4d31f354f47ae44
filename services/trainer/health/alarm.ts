/**
 * @file An alarm about the health of learning: what was seen, the figures, the likely cause and the remedy. Pure.
 */
import { RunFailedError } from "../errors.js";
import type { Metrics } from "../runs/context.js";
import type { AlarmName } from "./settings.js";

/** A step and its metrics. */
export interface StepMetrics {
  readonly step: number;
  readonly metrics: Metrics;
}

/** What a detector found. */
export interface Finding {
  /** Figures by name, for machines and for the text. */
  readonly figures: Readonly<Record<string, number | string>>;
  /** What is the matter, with the figures that matter; a clause without a full stop. */
  readonly says: string;
  /** A sentence. */
  readonly cause: string;
  /** A sentence. */
  readonly remedy: string;
}

/**
 * Watches one thing. A function of the steps that it was shown: shown the steps of a metrics.jsonl again, it is where it was.
 */
export interface Detector {
  readonly alarm: AlarmName;
  /** Which of several things of that kind, e.g. the reward term; "" where there is one. */
  readonly subject: string;
  /** Takes in one step; returns what is the matter as of now, if anything is. */
  observe(step: StepMetrics): Finding | undefined;
}

/** A finding under its name. */
export interface Alarm extends Finding {
  readonly name: AlarmName;
  readonly step: number;
  readonly action: "warn" | "stop";
}

/** An alarm in a line: name, step, what, cause, remedy. */
export function alarmText({ name, step, says, cause, remedy }: Alarm): string {
  return `alarm ${name} at step ${step}: ${says}. Likely cause: ${cause} Remedy: ${remedy}`;
}

/** The fields of an alarm in events and logs; figures as text. */
export function alarmFields({ name, step, action, figures, cause, remedy }: Alarm): Record<string, string> {
  const texts = Object.entries(figures).map(([key, value]) => [key, figure(value)]);
  return { alarm: name, step: String(step), action, ...Object.fromEntries(texts), cause, remedy };
}

/** A number as people read it: four significant digits. */
export function figure(value: number | string): string {
  if (typeof value === "string") return value;
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value);
}

/** An alarm that stops the run. `reason` is the alarm's name in capitals: NEGATIVE_KL. */
export class AlarmError extends RunFailedError {
  override readonly name = "AlarmError";
  constructor(
    readonly alarm: Alarm,
    options?: ErrorOptions,
  ) {
    const reason = alarm.name.replace(/[A-Z]/g, "_$&").toUpperCase();
    super(reason, alarmText(alarm), options);
  }
}
