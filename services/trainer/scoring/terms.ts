/**
 * @file Reward terms: each turns a list of samples into outcomes of its own, in order. A term that fails says so per
 * sample; a failure is never a score.
 */

import type { Outcome, RolloutSample } from "../rollout/sample.js";
import type { Connection, PpoRunConfig, TermConfig } from "../run-config.js";
import { CircuitOpenError, type TermCircuit } from "./circuit.js";

/** Texts to score and how. */
export interface ClassifierRequest {
  readonly texts: readonly string[];
  readonly label: string | undefined;
  readonly function: "logit" | "softmax" | "sigmoid";
  readonly truncate: boolean;
}

/** Pairs to score and how. */
export interface SimilarityRequest {
  readonly pairs: readonly { candidate: string; reference: string }[];
  readonly measure: "precision" | "recall" | "f1";
  readonly layer: number | undefined;
  readonly idf: boolean;
  readonly rescale: boolean;
}

/** Servers that score alike, and how they are reached. */
export interface ScorerGroup {
  readonly addresses: readonly string[];
  /** File with their bearer token. */
  readonly tokenFile?: string | undefined;
  /** PEM files of their TLS. */
  readonly tls?: Exclude<Connection["tls"], false>;
}

/** The servers of a term: its own where it names some, else those of the run. Empty for a term that is a function. */
export function scorersOf(term: TermConfig, { servers }: Pick<PpoRunConfig, "servers">): ScorerGroup {
  if (term.type !== "classifier" && term.type !== "bertscore") return { addresses: [] };
  const { tokenFile, tls } = servers;
  if (term.addresses.length === 0) {
    const { addresses } = term.type === "classifier" ? servers.reward : servers.bertscore;
    return { addresses, tokenFile, tls };
  }
  return {
    addresses: term.addresses,
    tokenFile: (term.tokenFile === undefined ? tokenFile : term.tokenFile) ?? undefined,
    tls: (term.tls === undefined ? tls : term.tls) || undefined,
  };
}

/** The run's own BERTScore servers, for comparisons and reports. */
export function judgesOf({ servers }: Pick<PpoRunConfig, "servers">): ScorerGroup {
  return { addresses: servers.bertscore.addresses, tokenFile: servers.tokenFile, tls: servers.tls };
}

/** A scorer's answer: scores in order. Throws on failure; a ScoreRefusal names samples that can't be scored. */
export interface Scorers {
  classifier(group: ScorerGroup, request: ClassifierRequest, signal: AbortSignal): Promise<number[]>;
  bertscore(group: ScorerGroup, request: SimilarityRequest, signal: AbortSignal): Promise<number[]>;
}

/** Some samples of a request can't be scored whatever happens; the others may be tried again without them. */
export class ScoreRefusal extends Error {
  override readonly name = "ScoreRefusal";
  constructor(readonly refused: ReadonlyMap<number, string>) {
    super([...refused].map(([i, reason]) => `sample ${i}: ${reason}`).join("; "));
  }
}

/** Raw scores of one term for some samples. Throws as Scorers do. */
export type RawScore = (samples: readonly RolloutSample[], signal: AbortSignal) => Promise<number[]>;

/** Name of a term in metrics and reports. */
export const termName = (term: TermConfig): string => term.name ?? term.type;

/** What a term does where the run file leaves it open; a profile of PPO decides. */
export interface TermDefaults {
  readonly rewardText: "continuation" | "full";
  readonly rewardTransform: "logit" | "probability";
}

/** Binds a term of the run file to the servers that score it. */
export function rawScoreOf(
  term: TermConfig,
  group: ScorerGroup,
  scorers: Scorers,
  defaults: TermDefaults,
): RawScore {
  const usual = defaults.rewardText === "full" ? "full" : "response";
  switch (term.type) {
    case "classifier":
      return (samples, signal) =>
        scorers.classifier(
          group,
          {
            texts: samples.map((sample) => scoredText(term.text ?? usual, sample)),
            label: term.label,
            function: term.function ?? (defaults.rewardTransform === "logit" ? "logit" : "softmax"),
            truncate: term.truncate,
          },
          signal,
        );
    case "bertscore":
      return (samples, signal) =>
        scorers.bertscore(
          group,
          {
            pairs: samples.map((sample) => ({ candidate: sample.response, reference: sample.answer })),
            measure: term.measure,
            layer: term.layer,
            idf: term.idf,
            rescale: term.rescale,
          },
          signal,
        );
    case "length":
      return async (samples) => samples.map((sample) => lengthScore(sample.responseIds.length, term.target));
    case "format": {
      const pattern = new RegExp(term.pattern, "u");
      return async (samples) =>
        samples.map((sample) => (pattern.test(scoredText(term.text ?? usual, sample)) ? 1 : 0));
    }
  }
}

/** 1 at `target` tokens, falling linearly to 0 at none and at twice as many. */
export function lengthScore(tokens: number, target: number): number {
  return Math.max(0, 1 - Math.abs(tokens - target) / target);
}

function scoredText(which: "response" | "full", sample: RolloutSample): string {
  return which === "full" ? sample.prompt + sample.response : sample.response;
}

/** A scorer answered with a number that is none. */
class NotFiniteError extends Error {
  override readonly name = "NotFiniteError";
  constructor(score: number) {
    super(`score is ${score}`);
  }
}

/** How a failed call is tried again. */
export interface RetryRule {
  readonly retries: number;
  /** False where the same call would fail the same way. Default: any may be tried again. */
  readonly mayRetry?: (error: Error) => boolean;
  /** Waits before attempt n (from 1), which `error` has made necessary; injected so that tests don't wait. */
  readonly backoff: (attempt: number, error: Error) => Promise<void>;
  /** Told of each failed attempt. */
  readonly onFailure: (attempt: number, error: Error) => void;
  /** Told of each sample that has no score in the end, and why. */
  readonly onLost?: (error: Error) => void;
  /** Lets calls through or not; without one, all pass. */
  readonly circuit?: TermCircuit | undefined;
}

/**
 * Scores every sample that can be scored: refused samples are left out and the rest tried again at once; other
 * failures are tried again after a backoff where that may help, and at the end every sample of the call has failed with the last
 * reason. Where the term's circuit is open they fail at once.
 */
export async function scoreWithRetries(
  raw: RawScore,
  samples: readonly RolloutSample[],
  rule: RetryRule,
  signal: AbortSignal,
): Promise<Outcome[]> {
  const outcomes = new Array<Outcome>(samples.length);
  const lose = (i: number, error: Error, reason = error.message) => {
    outcomes[i] = { kind: "failed", reason };
    rule.onLost?.(error);
  };
  let open = samples.map((_, i) => i);
  for (let attempt = 0; open.length > 0; ) {
    try {
      const asked = open.map((i) => samples[i] as RolloutSample);
      const call = () => raw(asked, signal);
      const scores = await (rule.circuit?.call(call, (error) => error instanceof ScoreRefusal) ?? call());
      if (scores.length !== open.length) {
        throw new Error(`asked for ${open.length} scores, got ${scores.length}`);
      }
      open.forEach((i, at) => {
        const score = scores[at] as number;
        if (Number.isFinite(score)) outcomes[i] = { kind: "scored", score };
        else lose(i, new NotFiniteError(score));
      });
      return outcomes;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ScoreRefusal && error.refused.size > 0) {
        for (const [at, reason] of error.refused) {
          const i = open[at];
          if (i !== undefined) lose(i, error, reason);
        }
        open = open.filter((i) => outcomes[i] === undefined);
        continue;
      }
      attempt += 1;
      const notCalled = error instanceof CircuitOpenError;
      if (!notCalled) rule.onFailure(attempt, error as Error);
      const mayRetry = rule.mayRetry?.(error as Error) ?? true;
      if (notCalled || attempt > rule.retries || !mayRetry) {
        for (const i of open) lose(i, error as Error);
        return outcomes;
      }
      await rule.backoff(attempt, error as Error);
    }
  }
  return outcomes;
}
