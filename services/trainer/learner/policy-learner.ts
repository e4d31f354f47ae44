/**
 * @file The policy as the trainer holds it: a model that learns, with its calls in order. This is what the run loop uses,
 * together with `ppoStep`.
 */
import type { Engine } from "../../../lib/engine/index.js";
import type { Gpt2Config } from "../../../lib/models/config.js";
import type { PpoOptions } from "../ppo/options.js";
import type { PpoSequence } from "../ppo/types.js";
import type { BatchLimits } from "./batching.js";
import { Mutex } from "./mutex.js";
import type { HostParameter } from "./parameter-store.js";
import { type ForwardOptions, type ForwardResult, PolicyModel } from "./policy-model.js";
import { type PolicyOptions, type PpoMinibatch, PpoObjective } from "./policy-objective.js";
import {
  type LearnerOptions,
  type LearnerState,
  TrainableModel,
  type UpdateResult,
} from "./trainable-model.js";

/** The learner's part of PPO's options; a run adds its schedule and weight decay. */
export function learnerOptionsOf({ learningRate, maxGradNorm, gradClipping }: PpoOptions): LearnerOptions {
  return { learningRate, maxGradNorm, gradClipping };
}

/**
 * A GPT-2 policy with value head, learning. Its methods queue: each sees the weights as all calls before it left them. To keep
 * others out between several calls (a whole PPO step), make them inside `exclusive`.
 */
export class PolicyLearner {
  readonly config: Gpt2Config;
  readonly options: PolicyOptions;
  readonly #model: PolicyModel;
  readonly #mutex = new Mutex();

  private constructor(config: Gpt2Config, options: PolicyOptions, model: PolicyModel) {
    this.config = config;
    this.options = options;
    this.#model = model;
  }

  /**
   * Compiles the policy's graphs and copies `weights` (checkpoint names; `lm_head.weight` is let be where tied). Throws
   * LearnerStateError where a weight is missing or of another size.
   */
  static async create(
    engine: Engine,
    config: Gpt2Config,
    weights: ReadonlyMap<string, Float32Array>,
    options: { ppo: PolicyOptions; learner: LearnerOptions; limits?: BatchLimits },
  ): Promise<PolicyLearner> {
    const objective = new PpoObjective(config, options.ppo);
    const trainable = await TrainableModel.create(engine, objective, weights, options.learner);
    return new PolicyLearner(
      config,
      options.ppo,
      new PolicyModel(config, options.ppo, trainable, options.limits ?? {}),
    );
  }

  /** Runs `work` with the model to itself. Calls of the learner's other methods inside it would wait for ever: use the model. */
  exclusive<T>(work: (model: PolicyModel) => Promise<T>): Promise<T> {
    return this.#mutex.run(() => work(this.#model));
  }

  /** See PolicyModel.forwardPass. */
  forwardPass(sequences: readonly PpoSequence[], options?: ForwardOptions): Promise<ForwardResult[]> {
    return this.exclusive((model) => model.forwardPass(sequences, options));
  }

  /**
   * One optimizer step on minibatches that count the same: forward and backward pass of each, clipping, Adam. On a loss or
   * gradient that is not finite throws LearnerNonFiniteError and updates nothing.
   */
  step(minibatches: readonly PpoMinibatch[], where?: string): Promise<UpdateResult> {
    return this.exclusive(async (model) => {
      try {
        const scale = 1 / minibatches.length;
        for (const minibatch of minibatches) await model.accumulate(minibatch, { scale, where });
        return await model.update(where);
      } catch (error) {
        model.discardGradients();
        throw error;
      }
    });
  }

  /** A copy of the weights by checkpoint name, to publish or save. */
  readWeights(): Promise<Map<string, HostParameter>> {
    return this.exclusive((model) => model.trainable.readWeights());
  }

  /** Optimizer state for a checkpoint. */
  exportState(): Promise<LearnerState> {
    return this.exclusive((model) => model.trainable.exportState());
  }

  /** Goes on from a checkpoint's optimizer state. Rejects with LearnerStateError where it does not fit. */
  importState(state: LearnerState): Promise<void> {
    return this.exclusive((model) => model.trainable.importState(state));
  }

  /** Waits for calls in flight, then releases everything but the engine. */
  release(): Promise<void> {
    return this.exclusive(async (model) => model.release());
  }
}
