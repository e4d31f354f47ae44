/**
 * @file Composes the terms of a run into one reward per sample: Σ weight · sign · clip(normalise(score)).
 * Pure but for the running moments, which are part of a checkpoint.
 */

import type { Outcome, PromptSample } from "../rollout/sample.js";
import type { TermConfig } from "../run-config.js";
import { termName } from "./terms.js";

/** Running mean and variance (Welford); `m2` is the sum of squared deviations. */
export interface Moments {
  readonly count: number;
  readonly mean: number;
  readonly m2: number;
}

/** Moments of nothing. */
export const NO_MOMENTS: Moments = { count: 0, mean: 0, m2: 0 };

/** Moments after more scores, taken in order. */
export function addMoments(moments: Moments, scores: readonly number[]): Moments {
  let { count, mean, m2 } = moments;
  for (const score of scores) {
    count += 1;
    const delta = score - mean;
    mean += delta / count;
    m2 += delta * (score - mean);
  }
  return { count, mean, m2 };
}

/** A sample's reward, or why it has none. */
export interface ComposedReward {
  readonly outcome: Outcome;
  /** Raw score of each term by name; NaN where it failed. */
  readonly terms: Readonly<Record<string, number>>;
}

/**
 * Rewards of a batch. A sample is scored only if every term scored it. Returns the moments of each term that
 * normalises, this batch included.
 */
export function composeRewards(
  terms: readonly TermConfig[],
  samples: readonly Pick<PromptSample, "sign">[],
  outcomes: readonly (readonly Outcome[])[],
  moments: Readonly<Record<string, Moments>>,
): { rewards: ComposedReward[]; moments: Record<string, Moments> } {
  const after: Record<string, Moments> = { ...moments };
  const shaped = terms.map((term, t) => {
    const name = termName(term);
    if (term.normalise === "running") {
      const scores = (outcomes[t] as readonly Outcome[]).flatMap((o) =>
        o.kind === "scored" ? [o.score] : [],
      );
      after[name] = addMoments(after[name] ?? NO_MOMENTS, scores);
    }
    return (score: number): number => {
      const centred = term.normalise === "running" ? standardise(score, after[name] as Moments) : score;
      return term.clip === null ? centred : Math.min(term.clip, Math.max(-term.clip, centred));
    };
  });
  const rewards = samples.map((sample, i): ComposedReward => {
    const raw: Record<string, number> = {};
    const failures: string[] = [];
    let reward = 0;
    terms.forEach((term, t) => {
      const outcome = outcomes[t]?.[i] as Outcome;
      raw[termName(term)] = outcome.kind === "scored" ? outcome.score : Number.NaN;
      if (outcome.kind === "failed") failures.push(`${termName(term)}: ${outcome.reason}`);
      else {
        const sign = term.signed ? sample.sign : 1;
        reward += term.weight * sign * (shaped[t] as (score: number) => number)(outcome.score);
      }
    });
    return {
      outcome:
        failures.length === 0
          ? { kind: "scored", score: reward }
          : { kind: "failed", reason: failures.join("; ") },
      terms: raw,
    };
  });
  return { rewards, moments: after };
}

function standardise(score: number, { count, mean, m2 }: Moments): number {
  const deviation = count > 1 ? Math.sqrt(m2 / (count - 1)) : 0;
  return deviation > 0 ? (score - mean) / deviation : score - mean;
}
