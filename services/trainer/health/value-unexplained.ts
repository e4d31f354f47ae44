/**
 * @file Alarm valueUnexplained: for many batches the value head has predicted the returns worse than their mean would, so that
 * advantages carry its noise. Pure.
 */
import { meanOf } from "../evaluate/statistics.js";
import type { PpoRunConfig } from "../run-config.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";
import { Streak } from "./streak.js";

/** Returns that deviate by more than this many times clipRangeValue are out of reach for the values of one step. */
const OUT_OF_REACH = 10;

/** Watches the explained variance. Batches whose returns do not vary say nothing. */
export function valueUnexplained(
  { below, batches }: AlarmSettings["valueUnexplained"],
  { ppo }: Pick<PpoRunConfig, "ppo">,
): Detector {
  const poor = new Streak(batches, (explained) => explained < below);
  return {
    alarm: "valueUnexplained",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const explained = metrics["ppo/val/var_explained"];
      const values = poor.observe(Number.isNaN(explained) ? undefined : explained);
      if (!values) return undefined;
      const clipped = metrics["ppo/val/clipfrac"] ?? 0;
      const spread = Math.sqrt(metrics["ppo/returns/var"] ?? Number.NaN);
      const figures = { explained: meanOf(values), batches, below, clipped, returnsStd: spread };
      const says = `ppo/val/var_explained is ${figure(figures.explained)} over the last ${batches} batches (below ${below}): the values predict the returns worse than their mean`;
      if (spread > OUT_OF_REACH * ppo.clipRangeValue) {
        return {
          figures,
          says,
          cause: `ppo.clipRangeValue ${ppo.clipRangeValue} is small beside the returns, whose deviation is ${figure(spread)}: ${figure(100 * clipped)} % of the value errors are clipped, and the values cannot follow.`,
          remedy: "raise ppo.clipRangeValue, or scale the rewards down (ppo.scoreScaling, or normalise).",
        };
      }
      return {
        figures,
        says,
        cause: `the value head learns too slowly (ppo.valueCoef ${ppo.valueCoef}, ppo.learningRate ${ppo.learningRate}), or the returns (deviation ${figure(spread)}) depend on what it cannot see.`,
        remedy:
          "raise ppo.valueCoef or ppo.learningRate, or scale the rewards (ppo.scoreScaling, or normalise).",
      };
    },
  };
}
