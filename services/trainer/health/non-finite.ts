/**
 * @file Alarm nonFinite: a metric is NaN or infinite, or the learner met a loss, gradient or weight that is. Pure.
 */
import type { PpoRunConfig } from "../run-config.js";
import type { Metrics } from "../runs/context.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";

/** NaN by definition where there is nothing to say. */
const MAY_BE_NAN = ["ppo/val/var_explained"];

/** A last gradient norm above this many times the clip says that gradients were growing. */
const MUCH = 10;

/** Watches every metric. */
export function nonFiniteMetric(config: Pick<PpoRunConfig, "ppo">): Detector {
  return {
    alarm: "nonFinite",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const bad = Object.entries(metrics).filter(
        ([name, value]) => !Number.isFinite(value) && !MAY_BE_NAN.includes(name),
      );
      if (bad.length === 0) return undefined;
      const names = bad.map(([name, value]) => `${name} ${value}`);
      return {
        figures: { metrics: names.join(", "), gradNorm: metrics["ppo/grad_norm"] ?? Number.NaN },
        says: `${names.join(", ")}`,
        ...explain(config, metrics),
      };
    },
  };
}

/** Says why a learner gave up on a number that is not finite. `last` are the metrics of the step before. */
export function nonFiniteLearning(
  config: Pick<PpoRunConfig, "ppo">,
  error: Error,
  last: Metrics | undefined,
): Finding {
  const { quantity, where } = error as { quantity?: string; where?: string };
  return {
    figures: {
      quantity: quantity ?? "weights",
      where: where ?? "",
      lastGradNorm: last?.["ppo/grad_norm"] ?? Number.NaN,
      lastLoss: last?.["ppo/loss/total"] ?? Number.NaN,
    },
    says: error.message,
    ...explain(config, last),
  };
}

function explain(
  { ppo }: Pick<PpoRunConfig, "ppo">,
  last: Metrics | undefined,
): { cause: string; remedy: string } {
  const norm = last?.["ppo/grad_norm"];
  const ratio = last?.["ppo/policy/ratio_max"];
  const seen = [
    ...(norm === undefined ? [] : [`gradient norm ${figure(norm)}`]),
    ...(ratio === undefined ? [] : [`largest ratio ${figure(ratio)}`]),
  ];
  const unclipped = ppo.maxGradNorm === null || ppo.gradClipping === "first";
  const growing = norm !== undefined && norm > MUCH * (ppo.maxGradNorm ?? 1);
  return {
    cause: `the updates diverge at ppo.learningRate ${ppo.learningRate}${unclipped ? " with gradients that are not clipped" : growing ? `, gradients far beyond ppo.maxGradNorm ${ppo.maxGradNorm}` : ""}${seen.length > 0 ? ` (${seen.join(", ")})` : ""}, or a score is huge.`,
    remedy: `start a run from the last good checkpoint's model with a lower ppo.learningRate${unclipped ? " and ppo.maxGradNorm 1" : ""}, and look at env/reward_std; with \`record: true\`, \`rlhf runs replay\` repeats the step.`,
  };
}
