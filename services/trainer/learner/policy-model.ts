/**
 * @file A GPT-2 policy with value head and its learner: rollout forward passes, minibatches, optimizer steps.
 * In: token sequences and PPO minibatches. Out: per-token quantities on the host. Weights are updated in place.
 */
import type { Program } from "../../../lib/engine/index.js";
import type { Gpt2Config } from "../../../lib/models/config.js";
import type { PpoSequence, Rollout } from "../ppo/types.js";
import { type BatchLimits, groupBySize } from "./batching.js";
import { LearnerNonFiniteError } from "./errors.js";
import {
  checkSequences,
  forwardFeeds,
  forwardGraph,
  type PolicyOptions,
  type PpoMinibatch,
  type PpoMinibatchOutputs,
  type UniformSource,
} from "./policy-objective.js";
import { runProgram } from "./run-program.js";
import type { AccumulateOptions, MinibatchResult, TrainableModel, UpdateResult } from "./trainable-model.js";

/** What a forward pass says of one sequence. */
export interface ForwardResult extends Rollout {
  /** Entropy of the distribution at each response token, nats, [G]. */
  entropy: Float32Array;
}

/** Options of a forward pass. */
export interface ForwardOptions {
  /** Also return whole log-distributions, [G, V] each. */
  full?: boolean;
  /** Source of value-head dropout; needed where that is on. */
  dropout?: UniformSource;
}

/** The policy inside `PolicyLearner.exclusive`. Calls must not overlap. */
export class PolicyModel {
  readonly #config: Gpt2Config;
  readonly #options: PolicyOptions;
  readonly #limits: BatchLimits;
  readonly #forward = new Map<boolean, Promise<Program>>();
  /** Weights, optimizer, schedule. */
  readonly trainable: TrainableModel<PpoMinibatch>;

  constructor(
    config: Gpt2Config,
    options: PolicyOptions,
    trainable: TrainableModel<PpoMinibatch>,
    limits: BatchLimits,
  ) {
    this.#config = config;
    this.#options = options;
    this.#limits = limits;
    this.trainable = trainable;
  }

  /** Throws LearnerInputError naming `field[i]` where a sequence is empty, too long, or holds an id outside the vocabulary. */
  check(sequences: readonly PpoSequence[], field: string): void {
    checkSequences(sequences, this.#config, field);
  }

  /**
   * Logprobs, values (at the positions that `valueIndexShift` says) and entropies of each response under the weights as they
   * are; results in the order given. Runs in groups of similar length, so that attention computes little padding. Throws
   * LearnerInputError on ids that do not fit and LearnerNonFiniteError where a result is not finite.
   */
  async forwardPass(
    sequences: readonly PpoSequence[],
    options: ForwardOptions = {},
  ): Promise<ForwardResult[]> {
    checkSequences(sequences, this.#config, "sequences");
    const { full = false } = options;
    const program = await this.#forwardProgram(full);
    const results: ForwardResult[] = new Array(sequences.length);
    const sizes = sequences.map(({ query, response }) => ({
      tokens: query.length + response.length - 1,
      logitRows: response.length,
    }));
    for (const group of groupBySize(sizes, this.#limits, this.#config.vocabSize)) {
      const members = group.map((i) => sequences[i]);
      const feeds = forwardFeeds(members, this.#config, this.#options, options.dropout);
      const outputs = await runProgram(this.trainable.engine, program, this.trainable.weights, feeds);
      let at = 0;
      for (const i of group) {
        const tokens = sequences[i].response.length;
        const cut = (name: string, width = 1) => outputs[name].slice(at * width, (at + tokens) * width);
        results[i] = { logprobs: cut("logprobs"), values: cut("values"), entropy: cut("entropy") };
        if (full) results[i].fullLogprobs = cut("distribution", this.#config.vocabSize);
        for (const quantity of ["logprobs", "values"] as const) {
          const bad = results[i][quantity].find((value) => !Number.isFinite(value));
          if (bad !== undefined) throw new LearnerNonFiniteError(quantity, bad, `rollout of sample ${i}`);
        }
        at += tokens;
      }
    }
    return results;
  }

  /** Forward and backward pass of one minibatch; see TrainableModel.accumulate. */
  async accumulate(
    minibatch: PpoMinibatch,
    options?: AccumulateOptions,
  ): Promise<MinibatchResult & { outputs: PpoMinibatchOutputs }> {
    checkSequences(minibatch.sequences, this.#config, "sequences");
    const result = await this.trainable.accumulate(minibatch, options);
    return result as MinibatchResult & { outputs: PpoMinibatchOutputs };
  }

  /** One optimizer step with what was accumulated; see TrainableModel.update. */
  update(where?: string): Promise<UpdateResult> {
    return this.trainable.update(where);
  }

  /** Drops what was accumulated since the last update. */
  discardGradients(): void {
    this.trainable.discardGradients();
  }

  /** Releases everything but the engine. */
  async release(): Promise<void> {
    for (const program of this.#forward.values()) (await program).release();
    await this.trainable.release();
  }

  #forwardProgram(full: boolean): Promise<Program> {
    let program = this.#forward.get(full);
    if (!program) {
      program = this.trainable.engine.compile(forwardGraph(this.#config, this.#options, full));
      this.#forward.set(full, program);
    }
    return program;
  }
}
