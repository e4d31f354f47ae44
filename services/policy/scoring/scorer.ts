/**
 * @file Log-probabilities of given tokens, for many requests at once. What waits is run together by length, so that
 * little padding is computed; logits exist only where a token is scored. Queue, deadlines and cancellation are the kit's.
 */
import { groupByLength } from "../../../lib/models/encoder-feeds.js";
import type { Gpt2ScoringOptions } from "../../../lib/models/gpt2-scoring.js";
import { Batcher, type SubmitOptions } from "../../../lib/rpc/index.js";
import { NonFiniteOutputError } from "../errors.js";
import type { ScoringBatch, ScoringResult } from "../model/policy-model.js";
import type { VersionDemand, WeightSnapshot, WeightStore, WeightsIdentity } from "../model/weight-store.js";

/** A sequence to score. */
export interface SequenceToScore {
  /** At least 2 ids. */
  readonly ids: ArrayLike<number>;
  /** Index of the first id to score, from 1. */
  readonly start: number;
}

/** Scores of one sequence: entry g is about ids[start + g]. */
export interface SequenceScores {
  readonly logprobs: Float32Array;
  readonly entropy?: Float32Array;
  /** [G, V]. */
  readonly distribution?: Float32Array;
}

/** A request. */
export interface ScoreRequest extends SubmitOptions {
  readonly sequences: readonly SequenceToScore[];
  readonly entropy: boolean;
  readonly distribution: boolean;
  readonly demand: VersionDemand;
}

/** A reply. */
export interface ScoreOutcome {
  readonly results: readonly SequenceScores[];
  readonly weights: WeightsIdentity;
  readonly queueMs: number;
  readonly modelMs: number;
}

/** What a scorer needs of the model. */
export interface ScoreModel {
  readonly vocabSize: number;
  score(weights: WeightSnapshot, batch: ScoringBatch, options: Gpt2ScoringOptions): Promise<ScoringResult>;
}

/** Limits of a scorer. */
export interface ScorerLimits {
  /** Tokens of one run, padding included; a longer single sequence runs alone. */
  readonly maxTokens: number;
  /** Floats of logits in one run; a single sequence may exceed it. */
  readonly maxLogits: number;
  /** Sequences that wait at most. */
  readonly maxWaiting: number;
  /** Tokens that wait at most. */
  readonly maxWaitingTokens: number;
  /** True computes the sequences of a request by themselves, so that what else is asked does not show in its numbers. */
  readonly batchInvariant?: boolean;
}

/** Share of a run that may be padding. */
const MAX_PADDING = 0.1;
/** Runs' worth of tokens taken from the queue at a time, so that there is a choice of lengths to put together. */
const RUNS_TAKEN = 8;

/** A sequence in the queue. */
interface Item extends SequenceToScore {
  readonly index: number;
  /** Items that may be run together have the same. */
  readonly group: string;
  readonly weights: WeightSnapshot;
  readonly entropy: boolean;
  readonly distribution: boolean;
}

/** Scores for many requests at once. */
export class Scorer {
  readonly #batcher: Batcher<Item, SequenceScores>;
  #requests = 0;

  constructor(
    private readonly model: ScoreModel,
    private readonly store: WeightStore,
    private readonly limits: ScorerLimits,
    private readonly ran?: (ms: number, sequences: number) => void,
  ) {
    this.#batcher = new Batcher<Item, SequenceScores>({
      name: "logprobs",
      maxItems: limits.maxWaiting,
      // a request that is computed by itself must not be cut by what waits beside it
      maxTokens: limits.batchInvariant ? limits.maxWaitingTokens : RUNS_TAKEN * limits.maxTokens,
      delayMs: 0,
      maxQueueItems: limits.maxWaiting,
      maxQueueTokens: limits.maxWaitingTokens,
      cost: ({ ids }) => ids.length,
      padded: false, // rows are grouped by length here, so nearly none of it is computed
      run: (items, { signal }) => this.#runAll(items, signal),
    });
  }

  /** Scores a request. Rejects with VersionNotHeldError, NonFiniteOutputError, or as the kit's queue does. */
  async score({ sequences, entropy, distribution, demand, ...waiting }: ScoreRequest): Promise<ScoreOutcome> {
    const weights = this.store.acquire(demand);
    const group = [
      weights.version,
      entropy,
      distribution,
      ...(this.limits.batchInvariant ? [this.#requests++] : []),
    ].join(" ");
    try {
      const items = sequences.map((sequence, index) => ({
        ...sequence,
        index,
        group,
        weights,
        entropy,
        distribution,
      }));
      const { results, queueMs, runMs } = await this.#batcher.submitAll(items, waiting);
      const { version, digest } = weights;
      return { results, weights: { version, digest }, queueMs, modelMs: runMs };
    } finally {
      weights.release();
    }
  }

  /** Sequences that wait. */
  get waiting(): number {
    return this.#batcher.load.items;
  }

  /** Refuses new requests and fails those that wait; what runs is finished. */
  close(): void {
    this.#batcher.close();
  }

  /** Runs items that share weights and outputs together, longest first, in parts that fit. */
  async #runAll(items: readonly Item[], signal: AbortSignal): Promise<(SequenceScores | Error)[]> {
    // a request that is cancelled lets go of its weights while others of its batch still run
    for (const { weights } of items) weights.acquire();
    const results: (SequenceScores | Error)[] = new Array(items.length);
    try {
      for (const group of new Set(items.map((item) => item.group))) {
        const same = items.flatMap((item, i) => (item.group === group ? [i] : []));
        for (const part of this.#parts(same.map((i) => items[i]))) {
          if (signal.aborted) throw signal.reason;
          const scores = await this.#run(part.map((i) => items[same[i]]));
          for (const [n, i] of part.entries()) results[same[i]] = scores[n];
        }
      }
      return results;
    } finally {
      for (const { weights } of items) weights.release();
    }
  }

  /** Indices of `items` by run: alike in length, and with logits that fit. */
  #parts(items: readonly Item[]): number[][] {
    const most = this.limits.maxLogits / this.model.vocabSize;
    const grouping = { maxTokens: this.limits.maxTokens, maxPadding: MAX_PADDING };
    const parts: number[][] = [];
    for (const group of groupByLength(
      items.map(({ ids }) => ids.length),
      grouping,
    )) {
      let places = Number.POSITIVE_INFINITY;
      for (const i of group) {
        const count = items[i].ids.length - items[i].start;
        if (places + count > most) {
          parts.push([]);
          places = 0;
        }
        parts.at(-1)!.push(i);
        places += count;
      }
    }
    return parts;
  }

  async #run(items: readonly Item[]): Promise<(SequenceScores | Error)[]> {
    const [{ weights, entropy, distribution }] = items;
    const started = performance.now();
    const result = await this.model.score(weights, scoringBatch(items), { entropy, distribution });
    this.ran?.(performance.now() - started, items.length);
    const v = this.model.vocabSize;
    let at = 0;
    return items.map(({ ids, start, index }) => {
      const from = at;
      at += ids.length - start;
      const logprobs = result.logprobs.slice(from, at);
      if (logprobs.some((x) => Number.isNaN(x))) {
        return new NonFiniteOutputError(`sequences[${index}]`, weights.version);
      }
      return {
        logprobs,
        entropy: result.entropy?.slice(from, at),
        distribution: result.distribution?.slice(from * v, at * v),
      };
    });
  }
}

/** Arrays of a run, rows padded on the right with id 0, which nothing reads. */
export function scoringBatch(sequences: readonly SequenceToScore[]): ScoringBatch {
  const rows = sequences.length;
  const time = Math.max(...sequences.map(({ ids }) => ids.length));
  const count = sequences.reduce((sum, { ids, start }) => sum + ids.length - start, 0);
  const inputIds = new BigInt64Array(rows * time);
  const places = new BigInt64Array(count);
  const targets = new BigInt64Array(count);
  let at = 0;
  for (const [row, { ids, start }] of sequences.entries()) {
    for (let t = 0; t < ids.length; t++) {
      inputIds[row * time + t] = BigInt(ids[t]);
      if (t < start) continue;
      places[at] = BigInt(row * time + t - 1); // the place before the token predicts it
      targets[at++] = BigInt(ids[t]);
    }
  }
  return { rows, time, inputIds, places, targets };
}
