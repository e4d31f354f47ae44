/**
 * @file Supervised training on the same learner as PPO: next-token loss and classification are tasks, everything else is shared.
 * In: a list of examples per step. Out: loss and gradient norm. A batch of any size runs in passes that fit into memory; the
 * gradient is that of the mean over the whole batch.
 */
import type { Engine } from "../../../lib/engine/index.js";
import { type BatchLimits, groupBySize, type SequenceSize } from "./batching.js";
import { LearnerInputError } from "./errors.js";
import type { HostParameter } from "./parameter-store.js";
import {
  type LearnerOptions,
  type LearnerState,
  type Objective,
  TrainableModel,
  type UpdateResult,
} from "./trainable-model.js";

/** An objective over lists of examples. Its loss is a mean over what `weightOf` counts. */
export interface SupervisedTask<Example> extends Objective<readonly Example[]> {
  /** Throws LearnerInputError naming `field` when the model cannot take this example. */
  check(example: Example, field: string): void;
  /** How much an example counts in the mean: its predicted tokens, or 1. */
  weightOf(example: Example): number;
  /** What it takes in memory. */
  sizeOf(example: Example): SequenceSize;
  /** Columns of the logits. */
  readonly logitWidth: number;
  /** Sums over the examples that an evaluation divides by their weight, e.g. how many were right. */
  count?(examples: readonly Example[], outputs: Record<string, Float32Array>): Record<string, number>;
}

/** What a training step gave. */
export interface SupervisedStepResult extends UpdateResult {
  /** Mean loss before the update, nats. */
  loss: number;
  /** Weight of the batch: predicted tokens, or examples. */
  weight: number;
}

/** What an evaluation gave: the mean loss, and means of what the task counts. */
export interface EvaluationResult {
  /** Mean loss, nats. */
  loss: number;
  /** Weight of the examples: predicted tokens, or examples. */
  weight: number;
  /** The task's counts, divided by the weight, e.g. `accuracy`. */
  means: Record<string, number>;
}

/** A model that learns from examples. Calls must not overlap. */
export class SupervisedLearner<Example> {
  readonly #task: SupervisedTask<Example>;
  readonly #model: TrainableModel<readonly Example[]>;
  readonly #limits: BatchLimits;

  private constructor(
    task: SupervisedTask<Example>,
    model: TrainableModel<readonly Example[]>,
    limits: BatchLimits,
  ) {
    this.#task = task;
    this.#model = model;
    this.#limits = limits;
  }

  /** Compiles the task and copies the weights it reads. Throws LearnerStateError where one is missing or of another size. */
  static async create<Example>(
    engine: Engine,
    task: SupervisedTask<Example>,
    weights: ReadonlyMap<string, Float32Array>,
    options: LearnerOptions,
    limits: BatchLimits = {},
  ): Promise<SupervisedLearner<Example>> {
    const model = await TrainableModel.create(engine, task, weights, options);
    return new SupervisedLearner(task, model, limits);
  }

  /** Learning rate of the next step. */
  get learningRate(): number {
    return this.#model.learningRate;
  }

  /** Optimizer steps taken. */
  get steps(): number {
    return this.#model.step;
  }

  /**
   * One optimizer step on the mean loss of `examples`; the learning-rate schedule moves on. Throws LearnerInputError where an
   * example does not fit or there is nothing to learn from, LearnerNonFiniteError where loss or gradient is not finite; nothing is
   * updated then. `where` names the step in errors.
   */
  async step(examples: readonly Example[], where = `step ${this.steps + 1}`): Promise<SupervisedStepResult> {
    const weight = this.#weigh(examples);
    let loss = 0;
    try {
      for (const group of this.#groups(examples)) {
        const share = this.#weightOf(group) / weight;
        const part = await this.#model.accumulate(group, { scale: share, where });
        loss += part.loss * share;
      }
      const update = await this.#model.update(where);
      this.#model.advanceSchedule();
      return { ...update, loss, weight };
    } catch (error) {
      this.#model.discardGradients();
      throw error;
    }
  }

  /** Mean loss and counts over `examples` without learning. Throws as `step` does on examples that do not fit. */
  async evaluate(examples: readonly Example[]): Promise<EvaluationResult> {
    const weight = this.#weigh(examples);
    let loss = 0;
    const means: Record<string, number> = {};
    for (const group of this.#groups(examples)) {
      const part = await this.#model.evaluate(group);
      loss += (part.loss * this.#weightOf(group)) / weight;
      for (const [name, value] of Object.entries(this.#task.count?.(group, part.outputs) ?? {})) {
        means[name] = (means[name] ?? 0) + value / weight;
      }
    }
    return { loss, weight, means };
  }

  /** A copy of the weights by checkpoint name. */
  readWeights(): Promise<Map<string, HostParameter>> {
    return this.#model.readWeights();
  }

  /** Optimizer state for a checkpoint. */
  exportState(): Promise<LearnerState> {
    return this.#model.exportState();
  }

  /** Goes on from a checkpoint's optimizer state. Rejects with LearnerStateError where it does not fit. */
  importState(state: LearnerState): Promise<void> {
    return this.#model.importState(state);
  }

  /** Releases everything but the engine. Idempotent. */
  release(): Promise<void> {
    return this.#model.release();
  }

  #weigh(examples: readonly Example[]): number {
    for (const [i, example] of examples.entries()) this.#task.check(example, `examples[${i}]`);
    const weight = this.#weightOf(examples);
    if (weight === 0)
      throw new LearnerInputError("examples", "expected something to learn from, got nothing");
    return weight;
  }

  #weightOf(examples: readonly Example[]): number {
    return examples.reduce((total, example) => total + this.#task.weightOf(example), 0);
  }

  /** Examples that count, in passes of similar length. */
  #groups(examples: readonly Example[]): Example[][] {
    const counting = examples.filter((example) => this.#task.weightOf(example) > 0);
    const sizes = counting.map((example) => this.#task.sizeOf(example));
    return groupBySize(sizes, this.#limits, this.#task.logitWidth).map((group) =>
      group.map((i) => counting[i]),
    );
  }
}
