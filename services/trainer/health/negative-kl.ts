/**
 * @file Alarm negativeKl. The k1 estimate of the KL divergence, mean of log π − log ρ over sampled responses, is positive on
 * average when the responses were sampled from π. Below zero for several batches, they were not. Pure.
 */
import { meanOf } from "../evaluate/statistics.js";
import type { PpoRunConfig } from "../run-config.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";
import { Streak } from "./streak.js";

const KL = "objective/kl";

/** Watches the mean KL per response. Only k1 can be negative; for other penalties there is no such detector. */
export function negativeKl(
  { below, batches }: AlarmSettings["negativeKl"],
  config: Pick<PpoRunConfig, "generation" | "ppo" | "maxStaleness">,
): Detector | undefined {
  if (config.ppo.klPenalty !== "k1") return undefined;
  const negative = new Streak(batches, (kl) => kl < 0);
  return {
    alarm: "negativeKl",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const values = negative.observe(metrics[KL]);
      const kl = values && meanOf(values);
      if (kl === undefined || kl >= below) return undefined;
      const gap = metrics["rollout/logprob_gap"] ?? 0;
      return {
        figures: { kl, batches, below, logprobGap: gap },
        says: `${KL} is ${figure(kl)} nats per response over the last ${batches} batches (below ${below}), and a KL divergence is never negative: the responses are less probable under the policy that is trained than under the reference, so they were not sampled from it, and the KL penalty now rewards moving away from the reference`,
        ...explain(config, gap),
      };
    },
  };
}

/** Mean differences of log-probabilities above this are no rounding, in nats per token. */
const ROUNDING = 0.01;

function explain(
  { generation, ppo, maxStaleness }: Pick<PpoRunConfig, "generation" | "ppo" | "maxStaleness">,
  gap: number,
): { cause: string; remedy: string } {
  const warped = warpersOf(generation);
  if (warped.length > 0) {
    return {
      cause: `responses are sampled with ${warped.join(", ")}, so from another distribution than the policy's own.`,
      remedy:
        "sample from the policy itself: doSample true, temperature 1, topK 0, topP 1, repetitionPenalty 1, minNewTokens 0, noRepeatNgramSize 0.",
    };
  }
  if (ppo.responseIncludesQuery) {
    return {
      cause: "ppo.responseIncludesQuery counts the query's tokens, which nobody sampled, as response.",
      remedy: "set ppo.responseIncludesQuery to false.",
    };
  }
  if (gap > ROUNDING && maxStaleness === 0) {
    return {
      cause: `the policy servers' log-probabilities differ from the learner's by ${figure(gap)} nats per token: they sample from other weights.`,
      remedy: "compare the digests that `rlhf doctor` shows, and restart the policy servers.",
    };
  }
  return {
    cause:
      "the reference is not the model that training started from, or a few long responses carry the estimate of a small batch.",
    remedy:
      "point `reference` at the directory in `model`, look at objective/kl_k3 (never negative), and raise ppo.batchSize.",
  };
}

/** Options of sampling under which tokens are not drawn from the model's own distribution. */
function warpersOf(generation: PpoRunConfig["generation"]): string[] {
  const neutral: Partial<PpoRunConfig["generation"]> = {
    doSample: true,
    temperature: 1,
    topK: 0,
    topP: 1,
    repetitionPenalty: 1,
    minNewTokens: 0,
    noRepeatNgramSize: 0,
  };
  return Object.entries(neutral).flatMap(([name, value]) => {
    const said = generation[name as keyof typeof generation];
    return said === value ? [] : [`${name} ${said}`];
  });
}
