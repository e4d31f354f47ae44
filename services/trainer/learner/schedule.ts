/**
 * @file How the learning rate changes over a run: linear warm-up, then constant, linear or cosine decay to 0.
 * Formulas of transformers' `get_scheduler`. In: a step. Out: a factor. Pure.
 */

/** A learning-rate schedule. */
export interface ScheduleOptions {
  kind: "constant" | "linear" | "cosine";
  /** Steps until the full rate is reached; default 0. */
  warmupSteps?: number;
  /** Steps after which a decaying rate is 0. Ignored by `constant`. */
  totalSteps?: number;
}

/** What the base learning rate is multiplied by in step `step`, counted from 0. */
export function scheduleFactor(
  { kind, warmupSteps = 0, totalSteps = 0 }: ScheduleOptions,
  step: number,
): number {
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  if (kind === "constant") return 1;
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  if (progress >= 1) return 0;
  return kind === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}
