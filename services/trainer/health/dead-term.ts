/**
 * @file Alarm deadTerm: a reward term that gives every sample of a batch the same score teaches nothing; one that scores none
 * leaves nothing to learn from. Pure.
 */
import type { PpoRunConfig, TermConfig } from "../run-config.js";
import { termName } from "../scoring/terms.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";
import { Streak } from "./streak.js";

/** Watches the scores of one term. */
export function constantTerm(
  { minStd, batches }: AlarmSettings["deadTerm"],
  term: TermConfig,
  { ppo }: Pick<PpoRunConfig, "ppo">,
): Detector {
  const name = termName(term);
  const flat = new Streak(batches, (std) => std <= minStd);
  return {
    alarm: "deadTerm",
    subject: name,
    observe({ metrics }: StepMetrics): Finding | undefined {
      const failed = metrics[`reward/${name}/failed`] ?? 0;
      const scored = ppo.batchSize - failed;
      // one score alone has no deviation
      if (!flat.observe(scored > 1 ? metrics[`reward/${name}/std`] : undefined)) return undefined;
      const score = metrics[`reward/${name}`] ?? Number.NaN;
      const tokens = metrics["rollout/response_tokens_mean"] ?? Number.NaN;
      return {
        figures: { term: name, score, batches, minStd, responseTokens: tokens },
        says: `the term ${name} gave every sample of the last ${batches} batches the same score, ${figure(score)}`,
        ...explainConstant(term, score),
      };
    },
  };
}

/** Says that a term scored no sample of a batch. */
export function silentTerm(term: TermConfig, samples: number, reason: string): Finding {
  const name = termName(term);
  const server = term.type === "classifier" || term.type === "bertscore";
  return {
    figures: { term: name, samples, failed: samples, reason },
    says: `the term ${name} could not score any of the batch's ${samples} samples: ${reason}`,
    cause: server
      ? `the ${term.type === "classifier" ? "reward" : "bertscore"} server is away, overloaded, or refuses what it is sent.`
      : "the term's own settings fit no response.",
    remedy: server
      ? "`rlhf doctor` with the server's address says what is wrong with it; then `rlhf runs resume` goes on from the last checkpoint."
      : `correct the term ${name} in the run file.`,
  };
}

function explainConstant(term: TermConfig, score: number): { cause: string; remedy: string } {
  switch (term.type) {
    case "classifier":
      return {
        cause: `the classifier says the same of everything: its label ${term.label ?? "(the server's own)"} is the wrong one, it was trained on other texts, or every response is cut or empty.`,
        remedy: "score a few texts by hand with `rlhf score`, and compare the label and `text` of the term.",
      };
    case "bertscore":
      return {
        cause:
          "every response gets the same similarity: responses or reference answers are all alike, or empty.",
        remedy: "look at the samples and at data.answerColumn.",
      };
    case "length":
      return {
        cause: `every response is as long as the others${score === 0 ? `, at least twice the target of ${term.target}` : ""}: generation.maxNewTokens ends them.`,
        remedy: "raise generation.maxNewTokens, or set a target that responses reach.",
      };
    case "format":
      return {
        cause: `the pattern matches ${score > 0 ? "every response" : "no response"}.`,
        remedy: score > 0 ? "the term has done its work; drop it." : "correct the pattern of the term.",
      };
  }
}
