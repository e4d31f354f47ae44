/**
 * @file One sequence that is being generated: its ids, its rules, its own stream of random numbers. Nothing in it
 * depends on what else runs.
 */
import { Rng } from "../../../lib/dataset/index.js";
import { NonFiniteOutputError } from "../errors.js";
import { chooseGreedy, chooseSample } from "../sampling/choose.js";
import type { SamplingOptions } from "../sampling/options.js";
import { logitsPipeline } from "../sampling/pipeline.js";
import type { LogitsProcessor } from "../sampling/processors.js";
import {
  type FinishReason,
  finishReason,
  StopStringMatcher,
  type TokenBytes,
} from "../sampling/stop-rules.js";
import { TokenHistory } from "../sampling/token-history.js";
import { EverythingBannedError } from "./everything-banned-error.js";

/** What to generate. */
export interface SequenceSpec {
  /** Index of the prompt in its request. */
  readonly promptIndex: number;
  /** 0 to num_return_sequences − 1. */
  readonly returnIndex: number;
  /** At least one id. */
  readonly promptIds: readonly number[];
  readonly options: SamplingOptions;
  /** Seed of the stream. */
  readonly seed: bigint;
  /** Whether the seed is the prompt's own: then the stream's name leaves the prompt's index out. */
  readonly ownSeed: boolean;
}

/**
 * The stream that a sequence draws from, one `uniform` for each sampled token: the seed, then "generate", then prompt and
 * return index, or only the return index where the prompt brought its own seed (see lib/dataset/rng.ts for the generator).
 */
export function sequenceStream({ seed, ownSeed, promptIndex, returnIndex }: SequenceSpec): Rng {
  return ownSeed
    ? Rng.from(seed, "generate", returnIndex)
    : Rng.from(seed, "generate", promptIndex, returnIndex);
}

/** A chosen token. */
export interface ChosenToken {
  readonly id: number;
  /** Log-probability under the model itself, in nats. */
  readonly logprob: number;
}

/** A sequence in progress. */
export class Sequence {
  readonly history: TokenHistory;
  readonly logprobs: number[] = [];
  /** Undefined while it runs. */
  finish: FinishReason | undefined;
  readonly #pipeline: readonly LogitsProcessor[];
  readonly #stream: Rng | undefined;
  readonly #stopStrings: StopStringMatcher | undefined;

  constructor(
    readonly spec: SequenceSpec,
    tokenBytes: TokenBytes,
  ) {
    const { options, promptIds } = spec;
    this.history = new TokenHistory(promptIds);
    this.#pipeline = logitsPipeline(options);
    this.#stream = options.doSample ? sequenceStream(spec) : undefined;
    if (options.stopStrings.length > 0) {
      this.#stopStrings = new StopStringMatcher(options.stopStrings, tokenBytes, promptIds);
    }
  }

  /** Most tokens that it can come to, prompt included. */
  get mostTokens(): number {
    return this.history.promptLength + this.spec.options.maxNewTokens;
  }

  /** Ids generated so far. */
  get generatedIds(): number[] {
    return this.history.ids.slice(this.history.promptLength);
  }

  /**
   * Chooses the next token from what follows the newest one, both [V]; the logits are changed. Sets `finish` where the
   * sequence ends. Throws NonFiniteOutputError, and EverythingBannedError where the options leave no token.
   */
  advance(logits: Float32Array, logprobs: Float32Array, weightVersion: number): ChosenToken {
    for (const rule of this.#pipeline) rule(logits, this.history);
    const id = this.#stream ? chooseSample(logits, this.#stream.uniform()) : chooseGreedy(logits);
    const logprob = logprobs[Math.max(id, 0)];
    if (Number.isNaN(logprob) || logprob === Number.POSITIVE_INFINITY) {
      throw new NonFiniteOutputError(`prompts[${this.spec.promptIndex}]`, weightVersion);
    }
    if (id < 0) throw new EverythingBannedError(this.spec.promptIndex, this.history.generated);
    this.history.push(id);
    this.logprobs.push(logprob);
    const { eosTokenIds, maxNewTokens } = this.spec.options;
    const rules = { eosTokenIds, maxNewTokens, stopStrings: this.#stopStrings };
    this.finish = finishReason(rules, id, this.history.generated);
    return { id, logprob };
  }
}
