/**
 * @file Alarm ratioOutOfRange: the updates of one step have made a sampled token far more, or far less, probable than it was
 * when it was sampled. Pure.
 */
import type { PpoRunConfig } from "../run-config.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";

/** Watches the smallest and the largest ratio of a step. */
export function ratioOutOfRange(
  { max, min }: AlarmSettings["ratioOutOfRange"],
  { ppo, maxStaleness }: Pick<PpoRunConfig, "ppo" | "maxStaleness">,
): Detector {
  return {
    alarm: "ratioOutOfRange",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const low = metrics["ppo/policy/ratio_min"];
      const high = metrics["ppo/policy/ratio_max"];
      if (low === undefined || high === undefined || (low >= min && high <= max)) return undefined;
      const moved = metrics["ppo/policy/approxkl"] ?? Number.NaN;
      const gap = metrics["rollout/logprob_gap"] ?? 0;
      const stale = maxStaleness > 0 && gap > moved;
      return {
        figures: { lowest: low, highest: high, min, max, approxKl: moved, logprobGap: gap },
        says: `the probability ratio of a token went from 1 to between ${figure(low)} and ${figure(high)} within one step (bounds ${min} and ${max})`,
        cause: stale
          ? `the samples are from weights ${figure(gap)} nats per token away from the learner's, more than the step itself moves them.`
          : `the updates of one step are too large: ppo.learningRate ${metrics["ppo/learning_rate"] ?? ppo.learningRate}, ${ppo.epochs} epochs, approximate KL ${figure(moved)} nats per token.`,
        remedy: stale
          ? "set maxStaleness to 0, or lower ppo.learningRate."
          : `lower ppo.learningRate${ppo.epochs > 1 ? " or ppo.epochs" : ""}${ppo.earlyStopping ? ", or lower ppo.targetKl" : ", or set ppo.earlyStopping"}${ppo.maxGradNorm === null ? ", and set ppo.maxGradNorm" : ""}.`,
      };
    },
  };
}
