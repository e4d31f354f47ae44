/**
 * @file One step of PPO on one batch, as TRL's `PPOTrainer.step`: rollout quantities, rewards, advantages, epochs of
 * minibatches, statistics, KL controller.
 * In: samples with scores and reference logprobs, the learner. Out: statistics and times; the learner's weights have moved.
 */
import { withSpan } from "../../../lib/telemetry/index.js";
import type { PolicyLearner } from "../learner/policy-learner.js";
import type { PolicyModel } from "../learner/policy-model.js";
import type { PpoMinibatch, UniformSource } from "../learner/policy-objective.js";
import { type Advantages, computeAdvantages } from "./advantages.js";
import { checkBatch } from "./check-batch.js";
import { type Experience, makeExperience } from "./experience.js";
import { cutMinibatches, type EpochOrder, identity } from "./minibatches.js";
import { concatRows, mean } from "./moments.js";
import type { PpoOptions } from "./options.js";
import { RunningMoments } from "./scores.js";
import type { PpoState } from "./state.js";
import { type MinibatchStats, minibatchStats, type Statistics, stepStats } from "./stats.js";
import type { PpoBatch, Rollout } from "./types.js";

/** How far beyond targetKl the last minibatch of an epoch may go before no further epoch begins. */
const TARGET_KL_MARGIN = 1.5;

const ADVANTAGES = "time/ppo/compute_advantages";

/** What a step needs besides learner, batch and options. */
export interface PpoStepContext {
  /** PPO's memory; moved on when the step succeeds. */
  state: PpoState;
  /** The order in which each epoch visits the samples. */
  order: EpochOrder;
  /** Randomness of value-head dropout; needed where `valueHeadDropout` is on. */
  dropout?: UniformSource;
  /** Called with what the policy said of each response before any update; what it throws ends the step with nothing changed. */
  onRollouts?: (rollouts: readonly Rollout[]) => void;
  /** Called after each minibatch. */
  onMinibatch?: (progress: MinibatchProgress) => void;
}

/** How far a step has come. */
export interface MinibatchProgress {
  /** Epoch, from 0. */
  epoch: number;
  /** Minibatches done, over all epochs. */
  done: number;
  /** Minibatches in all, if no epoch is skipped. */
  total: number;
  /** Samples of this minibatch, as positions in the batch. */
  samples: readonly number[];
  stats: MinibatchStats;
}

/** What a step gave. */
export interface PpoStepResult {
  /** Everything to log, under TRL's names, times included (`time/…`, in seconds). */
  stats: Statistics;
  /** What was learned from: rollout, rewards, advantages, one array per sample. */
  experience: Experience & Advantages;
  /** Each minibatch in order. */
  minibatches: MinibatchStats[];
  /** Epochs done; fewer than asked for where early stopping ended the step. */
  epochs: number;
  /** KL coefficient of the next step. */
  klCoefAfter: number;
}

/**
 * Learns from one batch. Throws PpoInputError or LearnerInputError naming the sample when the batch cannot be learned from (nothing has changed
 * then) and LearnerNonFiniteError naming the minibatch whose loss or gradient is not finite: earlier minibatches of this step
 * have been applied, that one has not, and `context.state` is as before.
 */
export async function ppoStep(
  learner: PolicyLearner,
  batch: PpoBatch,
  options: PpoOptions,
  context: PpoStepContext,
): Promise<PpoStepResult> {
  checkBatch(batch, options);
  return learner.exclusive((model) => new Step(model, batch, options, context).run());
}

class Step {
  readonly #model: PolicyModel;
  readonly #batch: PpoBatch;
  readonly #options: PpoOptions;
  readonly #context: PpoStepContext;
  readonly #minibatches: MinibatchStats[] = [];
  readonly #gradNorms: number[] = [];
  readonly #optimizerSeconds: number[] = [];

  constructor(model: PolicyModel, batch: PpoBatch, options: PpoOptions, context: PpoStepContext) {
    this.#model = model;
    this.#batch = batch;
    this.#options = options;
    this.#context = context;
  }

  async run(): Promise<PpoStepResult> {
    const { state } = this.#context;
    const { samples, weightVersion } = this.#batch;
    this.#model.check(samples, "samples");
    const clock = new Stopwatch();
    const rollouts = await this.#rollouts();
    this.#context.onRollouts?.(rollouts);
    clock.lap("time/ppo/forward_pass");

    const scores = new RunningMoments();
    scores.state = state.scores.state;
    const klCoef = state.klController.value;
    const experience = makeExperience(samples, rollouts, klCoef, scores, this.#options);
    clock.lap("time/ppo/compute_rewards");
    const queryLengths = samples.map(({ query }) => query.length);
    const advantages = computeAdvantages(experience.rewards, experience.values, this.#options, queryLengths);
    clock.lap(ADVANTAGES);

    const epochs = await this.#optimise(experience, advantages);
    clock.lap("time/ppo/optimize_step");

    const { learningRate } = this.#model.trainable;
    const stats = stepStats(
      {
        ...experience,
        samples,
        minibatches: this.#minibatches,
        gradNorms: this.#gradNorms,
        klCoef,
        learningRate,
        weightVersion,
      },
      this.#options,
    );
    clock.lap("time/ppo/calc_stats");
    state.scores = scores;
    state.klController.update(stats["objective/kl"] as number, samples.length);
    this.#model.trainable.advanceSchedule();
    return {
      stats: { ...stats, ...this.#times(clock) },
      experience: { ...experience, ...advantages },
      minibatches: this.#minibatches,
      epochs,
      klCoefAfter: state.klController.value,
    };
  }

  /** What the policy says of the responses before any update; computed for the samples that do not bring it along. */
  async #rollouts(): Promise<Rollout[]> {
    const { samples } = this.#batch;
    const missing = samples.filter(({ rollout }) => !rollout);
    const full = this.#options.klPenalty === "full";
    const { dropout } = this.#context;
    const computed = missing.length > 0 ? await this.#model.forwardPass(missing, { full, dropout }) : [];
    const results = computed.values();
    return samples.map(({ rollout }) => rollout ?? results.next().value!);
  }

  /** All epochs; returns how many were done. */
  async #optimise(experience: Experience, advantages: Advantages): Promise<number> {
    const { epochs, earlyStopping, targetKl, policyKlSign } = this.#options;
    const { order } = this.#context;
    let visited: readonly number[] = identity(this.#batch.samples.length);
    try {
      for (let epoch = 0; epoch < epochs; epoch++) {
        visited = order(epoch, visited.length, visited);
        const last = await withSpan("rlhf.learn.epoch", { attributes: { "rlhf.epoch": epoch } }, () =>
          this.#epoch(epoch, visited, experience, advantages),
        );
        const moved = last.scalars["policy/policykl"] * (policyKlSign === "old-new" ? 1 : -1);
        if (earlyStopping && moved > TARGET_KL_MARGIN * targetKl) return epoch + 1;
      }
    } catch (error) {
      this.#model.discardGradients();
      throw error;
    }
    return epochs;
  }

  /** One pass over the batch; returns the statistics of its last minibatch. */
  async #epoch(
    epoch: number,
    order: readonly number[],
    experience: Experience,
    advantages: Advantages,
  ): Promise<MinibatchStats> {
    const { dropout, onMinibatch } = this.#context;
    const { minibatchSize, gradientAccumulationSteps } = this.#options;
    const steps = cutMinibatches(order, minibatchSize, gradientAccumulationSteps);
    const perEpoch = steps.reduce((total, step) => total + step.length, 0);
    let where = "";
    for (const step of steps) {
      for (const members of step) {
        where = `epoch ${epoch + 1}, minibatch ${(this.#minibatches.length % perEpoch) + 1} of ${perEpoch}`;
        const minibatch = pick(members, this.#batch, experience, advantages, dropout);
        const stats = await this.#minibatch(minibatch, 1 / step.length, where);
        this.#minibatches.push(stats);
        const done = this.#minibatches.length;
        onMinibatch?.({ epoch, done, total: perEpoch * this.#options.epochs, samples: members, stats });
      }
      const { gradNorm, optimizerSeconds } = await this.#model.update(where);
      this.#gradNorms.push(gradNorm);
      this.#optimizerSeconds.push(optimizerSeconds);
    }
    return this.#minibatches[this.#minibatches.length - 1];
  }

  /** Forward and backward pass. A minibatch whose mean ratio is beyond the threshold counts as a loss of 0. */
  async #minibatch(minibatch: PpoMinibatch, scale: number, where: string): Promise<MinibatchStats> {
    const { ratioThreshold } = this.#options;
    const keep = (outputs: Record<string, Float32Array>) =>
      ratioThreshold === null || !(mean(outputs.ratio) > ratioThreshold);
    const { loss, outputs, kept } = await this.#model.accumulate(minibatch, { scale, keep, where });
    return minibatchStats(
      {
        loss: kept ? loss : 0,
        policyLoss: kept ? outputs.policy_loss[0] : 0,
        valueLoss: kept ? outputs.value_loss[0] : 0,
        logprobs: outputs.logprobs,
        values: outputs.values,
        ratio: outputs.ratio,
        entropy: outputs.entropy,
        oldLogprobs: concatRows(minibatch.oldLogprobs),
        oldValues: concatRows(minibatch.oldValues),
        advantages: concatRows(minibatch.advantages),
        returns: concatRows(minibatch.returns),
      },
      this.#options,
    );
  }

  #times(clock: Stopwatch): Statistics {
    const times: Statistics = { ...clock.laps, "time/ppo/total": clock.total };
    if (this.#options.statistics === "trl-0.2.1") {
      // there, advantages were part of every minibatch
      times["time/ppo/optimize_step"] = clock.laps["time/ppo/optimize_step"] + clock.laps[ADVANTAGES];
      delete times[ADVANTAGES];
    }
    const seconds = this.#optimizerSeconds; // none where the first minibatch already stopped the step
    if (seconds.length > 0) {
      times["ppo/time/ppo/optimizer_step"] = seconds.reduce((a, b) => a + b, 0) / seconds.length;
    }
    return times;
  }
}

/** The minibatch of these samples. */
function pick(
  members: readonly number[],
  { samples }: PpoBatch,
  experience: Experience,
  { advantages, returns }: Advantages,
  dropout: UniformSource | undefined,
): PpoMinibatch {
  return {
    sequences: members.map((i) => samples[i]),
    oldLogprobs: members.map((i) => experience.logprobs[i]),
    oldValues: members.map((i) => experience.values[i]),
    advantages: members.map((i) => advantages[i]),
    returns: members.map((i) => returns[i]),
    dropout,
  };
}

/** Wall seconds of consecutive phases. */
class Stopwatch {
  readonly laps: Record<string, number> = {};
  readonly #start = performance.now();
  #last = this.#start;

  lap(name: string): void {
    const now = performance.now();
    this.laps[name] = (now - this.#last) / 1000;
    this.#last = now;
  }

  get total(): number {
    return (performance.now() - this.#start) / 1000;
  }
}
