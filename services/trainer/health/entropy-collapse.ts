/**
 * @file Alarm entropyCollapse: the policy answers nearly the same whatever it samples, so that nothing new is tried and the
 * advantages say nothing. Pure.
 */
import { meanOf } from "../evaluate/statistics.js";
import type { PpoRunConfig } from "../run-config.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";
import { Streak } from "./streak.js";

/** Watches the mean entropy per token, against that of the run's first batches. */
export function entropyCollapse(
  { fallenTo, below, batches }: AlarmSettings["entropyCollapse"],
  { ppo }: Pick<PpoRunConfig, "ppo">,
): Detector {
  const first: number[] = [];
  const bound = () => Math.max(below, first.length === batches ? fallenTo * meanOf(first) : 0);
  const low = new Streak(batches, (entropy) => entropy < bound());
  return {
    alarm: "entropyCollapse",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const entropy = metrics["ppo/policy/entropy"];
      if (entropy !== undefined && first.length < batches) first.push(entropy);
      const values = low.observe(entropy);
      if (!values) return undefined;
      const [now, start] = [meanOf(values), meanOf(first)];
      const kl = metrics["objective/kl"] ?? Number.NaN;
      const klCoef = metrics["objective/kl_coef"] ?? Number.NaN;
      const figures = { entropy: now, start, bound: bound(), batches, kl, klCoef };
      const says = `the entropy is ${figure(now)} nats per token over the last ${batches} batches, ${figure(start)} in the first ones (collapsed below ${figure(bound())})`;
      if (start <= bound()) {
        return {
          figures,
          says,
          cause:
            "the policy was as certain as this before training: fine-tuned until it knew its texts by heart, or sharpened.",
          remedy:
            "start from an earlier or less trained policy, or lower alarms.entropyCollapse.below if this is meant.",
        };
      }
      return {
        figures,
        says,
        cause: `the policy has settled on the few answers that score best: the KL penalty (coefficient ${figure(klCoef)} at a KL of ${figure(kl)} nats) does not hold it.`,
        remedy: `raise ppo.initialKlCoef${ppo.klController === "adaptive" ? " or lower ppo.klTarget" : ""}, lower ppo.learningRate, or go on from an earlier checkpoint.`,
      };
    },
  };
}
