/**
 * @file One batch of PPO after another: prompts → responses → scores → PPO step → new weights → checkpoint.
 * Everything random in a step derives from run seed and step, so a run that resumes repeats the numbers.
 */
import { type PromptDataset, Rng } from "../../../lib/dataset/index.js";
import { gauge, histogram, type OpenedSpan, openSpan, withSpan } from "../../../lib/telemetry/index.js";
import { RunFailedError, RunInterrupted } from "../errors.js";
import { RunHealth } from "../health/run-health.js";
import type { HostParameter } from "../learner/parameter-store.js";
import type { PolicyLearner } from "../learner/policy-learner.js";
import { PpoState } from "../ppo/state.js";
import type { PpoStepResult } from "../ppo/step.js";
import { buildBatch, type Encode } from "../rollout/prompts.js";
import type { QaRow } from "../rollout/rows.js";
import type { PpoRunConfig } from "../run-config.js";
import type { RunContext } from "../runs/context.js";
import type { Moments } from "../scoring/compose.js";
import type { StallWatch } from "../stalls/stall-watch.js";
import { stepMetrics } from "./batch-metrics.js";
import { type BatchRecord, writeBatchRecord } from "./batch-record.js";
import { recordBatch } from "./batch-telemetry.js";
import { type LearnedBatch, learnBatch } from "./learn-batch.js";
import { type LearnedModel, writeLearned } from "./policy-checkpoint.js";
import type { PpoRunState } from "./ppo-state.js";
import type { Publisher } from "./publishing.js";
import { encodeExperience } from "./recorded-experience.js";
import type { RolloutStage, ScoredBatch, ScoredSample } from "./rollout-stage.js";
import { decodeBatch, encodeBatch } from "./scored-batch.js";

/** What the loop works with. */
export interface PpoLoopParts {
  readonly context: RunContext<PpoRunConfig>;
  readonly dataset: PromptDataset<QaRow>;
  readonly encode: Encode;
  /** The text of each token, for the record of a batch. */
  readonly pieces: (ids: readonly number[]) => string[];
  readonly learner: PolicyLearner;
  /** Threads of the learner's engine. */
  readonly threads: number;
  /** Version of the weights that the run started from. */
  readonly firstVersion: number;
  readonly publisher: Publisher;
  readonly stage: RolloutStage;
  readonly stalls: StallWatch;
  /** The model as it is saved, with the weights after this step. */
  readonly describe: (weights: ReadonlyMap<string, HostParameter>, step: number) => LearnedModel;
}

/** The batches of one run. */
export class PpoLoop {
  readonly #config: PpoRunConfig;
  readonly #ppo: PpoState;
  #moments: Readonly<Record<string, Moments>>;
  /** The next step's batch where it is generated ahead. */
  #ahead: Promise<ScoredBatch> | undefined;
  /**
   * The checkpoint's weights by the version that they had when its batch was generated ahead; a resume may have given them another,
   * and how old a sample is must not depend on that.
   */
  #versionThen: number | undefined;
  /** Root spans of the batch at work and of the one that is generated ahead, by step. */
  readonly #spans = new Map<number, OpenedSpan>();
  readonly #health: RunHealth;
  #checkedPolicy = false;

  constructor(
    private readonly parts: PpoLoopParts,
    resumed: PpoRunState | undefined,
  ) {
    this.#config = parts.context.config;
    this.#ppo = new PpoState(this.#config.ppo, resumed?.ppo);
    this.#moments = resumed?.moments ?? {};
    this.#health = new RunHealth(parts.context);
    if (resumed?.ahead !== undefined) {
      this.#ahead = Promise.resolve(decodeBatch(resumed.ahead));
      this.#versionThen = resumed.weightVersion;
    }
  }

  /** All steps after the one resumed from. Throws RunInterrupted where a pause or stop was asked for. */
  async run(): Promise<void> {
    const { context } = this.parts;
    const first = (context.resumeFrom?.step ?? 0) + 1;
    try {
      for (let step = first; step <= this.#config.batches; step++) {
        context.signal.throwIfAborted();
        const last = step === this.#config.batches;
        const span = this.#spanOf(step);
        await span.within(async () => {
          try {
            await this.#step(step, last);
          } catch (error) {
            throw this.#health.failure(step, error);
          }
        });
        span.end();
        this.#spans.delete(step);
      }
    } finally {
      for (const span of this.#spans.values()) span.end();
    }
  }

  /** The root span of a batch, opened when its generation begins: with maxStaleness 1 that is before its step. */
  #spanOf(step: number): OpenedSpan {
    const attributes = { "rlhf.run": this.parts.context.id, "rlhf.batch.number": step };
    const span = this.#spans.get(step) ?? openSpan("rlhf.batch", { parent: "root", attributes });
    this.#spans.set(step, span);
    return span;
  }

  async #step(step: number, last: boolean): Promise<void> {
    const { context, publisher, learner } = this.parts;
    const clock = performance.now();
    const batch = await (this.#ahead ?? this.#begin(step));
    this.#moments = batch.moments;
    this.#health.scored(step, batch);
    const learned = this.#usable(batch);
    // the next batch is generated by the weights that this one is about to change
    this.#ahead = this.#config.maxStaleness > 0 && !last ? this.#begin(step + 1) : undefined;

    const before = this.#versionThen ?? publisher.version;
    this.#versionThen = undefined;
    context.phase(step, "learn", 0);
    const learning = performance.now();
    const learnt = await withSpan("rlhf.learn", { attributes: { "rlhf.batch.size": learned.length } }, () =>
      this.#learn(step, learned, before).catch((error: Error) => {
        // a step that fails is the one that somebody will want to repeat
        if (this.#config.record) this.#record(step, before, batch, learned, { failure: error.message });
        throw error;
      }),
    );
    const publishing = performance.now();
    context.phase(step, "publish", 0);
    const weights = await learner.readWeights();
    const published = await withSpan("rlhf.publish", {}, async () => {
      const next = await publisher.publish(weights);
      context.published(next);
      await publisher.wait();
      return next;
    });
    const done = performance.now();
    const metrics = {
      ...stepMetrics(this.#config, batch, learned, learnt, before),
      "time/learn": (publishing - learning) / 1000,
      "time/publish": (done - publishing) / 1000,
      "time/batch": (done - clock) / 1000,
    };
    context.step(step, metrics);
    recordBatch(batch, learned, metrics, before);
    gauge("rlhf.run.step").record(step, { "rlhf.run": context.id });
    if (this.#config.record) {
      this.#record(step, before, batch, learned, { experience: learnt.result.experience, published });
    }
    this.#health.learned(step, metrics); // before the checkpoint: one that an alarm stops keeps its last good one

    const how = last ? undefined : context.requested();
    if (last || how || step % this.#config.checkpoint.every === 0) {
      context.phase(step, "checkpoint", 0);
      await withSpan("rlhf.checkpoint", {}, () => this.#checkpoint(step, weights, published));
    }
    if (how) throw new RunInterrupted(how);
  }

  /** Sends the next rows on their way through the servers. */
  #begin(step: number): Promise<ScoredBatch> {
    const { context, dataset, encode, stage, publisher } = this.parts;
    const rows = dataset.next().rows.map(({ data }) => data);
    const prompts = buildBatch(this.#config, step - 1, rows, encode);
    const version = publisher.version;
    context.phase(step, "generate", 0);
    const scored = this.#spanOf(step).within(() =>
      stage.run(
        prompts,
        // ahead: these very weights, so that numbers do not depend on when the next ones come; newer ones where a server was lost
        this.#config.maxStaleness === 0 ? { exactly: version } : { exactly: version, atLeast: version },
        this.#moments,
        (share) => context.phase(step, "generate", share),
      ),
    );
    scored.catch(() => {}); // heard by the step that awaits it
    return scored;
  }

  /** The samples that were scored. Throws RunFailedError if too many were not. */
  #usable(batch: ScoredBatch): ScoredSample[] {
    const learned = batch.samples.filter(({ reward }) => reward.outcome.kind === "scored");
    const failed = batch.samples.filter(({ reward }) => reward.outcome.kind === "failed");
    const share = failed.length / batch.samples.length;
    if (failed.length > 0) {
      const { outcome } = (failed[0] as ScoredSample).reward;
      const reason = outcome.kind === "failed" ? outcome.reason : "";
      if (learned.length === 0 || share > this.#config.maxFailedFraction) {
        throw new RunFailedError(
          "TOO_MANY_FAILED",
          `${failed.length} of ${batch.samples.length} samples could not be scored (at most ${this.#config.maxFailedFraction} of them may fail): ${reason}`,
        );
      }
      this.parts.context.log("warn", `${failed.length} samples dropped: ${reason}`);
    }
    return learned;
  }

  /** One PPO step, after sampler and learner were compared. */
  async #learn(step: number, learned: readonly ScoredSample[], version: number): Promise<LearnedBatch> {
    const { context, learner, stalls, stage, publisher } = this.parts;
    // samples of older weights say nothing of these; the servers that hold these are asked about a few of them
    const probes = this.#config.maxStaleness > 0 ? await stage.probe(learned, publisher.version) : undefined;
    const compare = (logprobs: readonly Float32Array[]) => {
      const sampled = probes?.map(({ server, logprobs: samplerLogprobs }) => ({
        sample: { server, samplerLogprobs, weightVersion: version },
      }));
      const own = probes?.map(({ index }) => logprobs[index] as Float32Array);
      this.#health.beforeLearning(step, sampled ?? learned, own ?? logprobs, version);
    };
    const sameContext = !this.#config.ppo.responseIncludesQuery;
    if (!sameContext && !this.#checkedPolicy) {
      // trained responses repeat their query there; once in a process the comparison is worth a pass of its own
      const asSampled = learned.map(({ sample }) => ({
        query: sample.promptIds,
        response: sample.responseIds,
      }));
      // dropout moves values alone, but a graph that has it wants its numbers
      const dropout = Rng.from(this.#config.seed, "dropout", "comparison");
      compare((await learner.forwardPass(asSampled, { dropout })).map(({ logprobs }) => logprobs));
    }
    this.#checkedPolicy = true;
    return stalls.watched({ call: "learn", on: `${this.#config.device} of this process` }, ({ beat }) =>
      learnBatch(
        learner,
        this.#config,
        this.#ppo,
        { step, version, learned },
        {
          onPolicy: (logprobs) => {
            beat();
            if (sameContext) compare(logprobs);
          },
          onProgress: (share) => {
            beat();
            context.phase(step, "learn", share);
          },
        },
      ),
    );
  }

  async #checkpoint(
    step: number,
    weights: ReadonlyMap<string, HostParameter>,
    published: { version: number; digest: string },
  ): Promise<void> {
    const { context, learner, dataset, stalls, describe, firstVersion } = this.parts;
    const ahead = this.#ahead && encodeBatch(await this.#ahead);
    const { step: adamStep, scheduleStep, ...moments } = await learner.exportState();
    const state: PpoRunState = {
      kind: "ppo",
      cursor: dataset.cursor,
      ppo: this.#ppo.snapshot(),
      moments: this.#moments,
      weightVersion: published.version,
      firstVersion,
      digest: published.digest,
      optimizer: { step: adamStep, scheduleStep },
      ...(ahead ? { ahead } : {}),
      metricsBytes: context.metricsBytes(),
    };
    const started = performance.now();
    const { checkpointMs } = this.#config.timeouts;
    await stalls.watched({ call: "checkpoint", on: context.directory, deadlineMs: checkpointMs }, () =>
      context.checkpoints.save(
        step,
        state,
        (folder) => writeLearned(folder, describe(weights, step), { ...moments, step: adamStep }),
        context.bestScore(),
      ),
    );
    const seconds = (performance.now() - started) / 1000;
    histogram("rlhf.checkpoint.duration").record(seconds);
    histogram("rlhf.phase.duration").record(seconds, { "rlhf.phase": "checkpoint" });
  }

  /** Keeps what the step learned from, or would have. */
  #record(
    step: number,
    version: number,
    batch: ScoredBatch,
    learned: readonly ScoredSample[],
    outcome:
      | { experience: PpoStepResult["experience"]; published: BatchRecord["published"] }
      | { failure: string },
  ): void {
    const { context, threads, pieces } = this.parts;
    const { device, batches: totalSteps } = this.#config;
    const learner = { device, threads, totalSteps };
    const of = "failure" in outcome ? { failure: outcome.failure } : { published: outcome.published };
    const experience =
      "failure" in outcome
        ? batch.samples.map(() => null)
        : encodeExperience(batch.samples, learned, outcome.experience, pieces);
    writeBatchRecord(context.directory, { step, version, learner, ...of, batch }, experience);
  }
}
