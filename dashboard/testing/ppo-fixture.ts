/**
 * @file A PPO run directory with made-up but plausible numbers, written by the trainer's own writers, so that the dashboard
 * is tested on the formats as they are. `PpoFixture` also plays a run that goes on.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { Rng } from "../../lib/dataset/index.js";
import { encodeExperience } from "../../services/trainer/loop/recorded-experience.js";
import type { ScoredSample } from "../../services/trainer/loop/rollout-stage.js";
import { encodeBatch } from "../../services/trainer/loop/scored-batch.js";
import type { Advantages } from "../../services/trainer/ppo/advantages.js";
import type { Experience } from "../../services/trainer/ppo/experience.js";
import { parseRunConfig } from "../../services/trainer/run-config.js";
import { EventLog, type RunState } from "../../services/trainer/runs/events.js";
import { writeFileAtomic } from "../../services/trainer/runs/files.js";
import { Journal } from "../../services/trainer/runs/journal.js";
import { lockRun } from "../../services/trainer/runs/lock.js";
import { type RunRecord, writeRunRecord } from "../../services/trainer/runs/record.js";

const DIGEST = "9f2c41d07a5be8".repeat(5).slice(0, 64);

/** What a fixture can be told. */
export interface FixtureOptions {
  readonly totalSteps?: number;
  readonly seed?: number;
  readonly learningRate?: number;
  /** Text of the first sample's prompt, response and answer, for tests of hostile text. */
  readonly text?: string;
}

/** A PPO run in a runs directory. */
export class PpoFixture {
  readonly directory: string;
  readonly #metrics: Journal;
  readonly #events: EventLog;
  readonly #rng: Rng;
  readonly #unlock: () => void;
  #record: RunRecord;

  constructor(
    runsDirectory: string,
    readonly id: string,
    private readonly options: FixtureOptions = {},
  ) {
    this.directory = join(runsDirectory, id);
    mkdirSync(join(this.directory, "records"), { recursive: true });
    const config = parseRunConfig(
      stringify({
        kind: "ppo",
        model: "runs/my-sft/model",
        data: { train: "train.csv" },
        rewards: [{ type: "classifier" }, { type: "bertscore", weight: 0.5 }],
        batches: options.totalSteps ?? 40,
        record: true,
        ppo: { batchSize: 8, minibatchSize: 4, learningRate: options.learningRate ?? 1e-4 },
      }),
      "/data",
    );
    writeFileAtomic(join(this.directory, "run.yaml"), stringify(config));
    this.#rng = Rng.from(options.seed ?? 1, "fixture");
    this.#metrics = new Journal(join(this.directory, "metrics.jsonl"));
    this.#events = new EventLog(this.directory);
    this.#unlock = lockRun(this.directory);
    this.#record = {
      id,
      kind: "ppo",
      state: "STARTING",
      step: 0,
      totalSteps: options.totalSteps ?? 40,
      startedAt: `2026-11-24T10:2${(options.seed ?? 1) % 10}:00.000Z`,
      reason: "",
      weightsBus: "nats",
      modelDirectory: "",
      metrics: {},
    };
    this.enter("RUNNING");
  }

  /** Changes the run's state, as the manager does. */
  enter(state: RunState, reason = ""): void {
    this.#record = { ...this.#record, state, reason };
    writeRunRecord(this.directory, this.#record);
    this.#events.add({ kind: "state", state, ...(reason ? { reason } : {}) });
  }

  /** A line of the log. */
  log(level: "info" | "warn" | "error", message: string, fields?: Readonly<Record<string, string>>): void {
    this.#events.add({ kind: "log", level, message, ...(fields ? { fields } : {}) });
  }

  /** Does the next step: metrics, event, run.json and the record of its batch. */
  step(): number {
    const step = this.#record.step + 1;
    const metrics = this.#numbers(step);
    this.#metrics.append({ step, ...metrics });
    this.#record = {
      ...this.#record,
      step,
      metrics,
      weights: { version: step, digest: DIGEST },
    };
    writeRunRecord(this.directory, this.#record);
    const { totalSteps } = this.#record;
    this.#events.add({ kind: "step", step, totalSteps, metrics, secondsLeft: (totalSteps - step) * 6 });
    const name = `batch-${String(step).padStart(8, "0")}.json`;
    writeFileAtomic(join(this.directory, "records", name), JSON.stringify(this.#batch(step)));
    return step;
  }

  /** Does `count` steps. */
  steps(count: number): this {
    for (let i = 0; i < count; i++) this.step();
    return this;
  }

  /** Closes the files; the process no longer works on the run. `state` undefined: it died without a word. */
  end(state?: RunState, reason = ""): void {
    if (state) this.enter(state, reason);
    this.#metrics.close();
    this.#events.close();
    this.#unlock();
  }

  #numbers(step: number): Record<string, number> {
    const noise = (size: number) => size * this.#rng.normal();
    const risen = 1 - Math.exp(-step / 15);
    const reward = -0.4 + 1.5 * risen + noise(0.12);
    return {
      "env/reward_mean": reward,
      "env/reward_std": 0.6 + noise(0.05),
      "env/reward_good": reward + 0.35 * risen + noise(0.1),
      "env/reward_bad": reward - 0.4 * risen + noise(0.1),
      "reward/classifier": 0.1 + 0.9 * risen + noise(0.1),
      "reward/bertscore": 0.82 + 0.03 * risen + noise(0.004),
      "objective/kl": 4.5 * risen + noise(0.3),
      "objective/kl_k3": 4.4 * risen + Math.abs(noise(0.2)),
      "objective/kl_coef": 0.2 * 0.99 ** step,
      "objective/entropy": 38 - 6 * risen + noise(1),
      "ppo/loss/policy": -0.02 + noise(0.01),
      "ppo/loss/value": 0.8 * Math.exp(-step / 10) + 0.1 + Math.abs(noise(0.02)),
      "ppo/loss/total": 0.05 * Math.exp(-step / 10) + noise(0.01),
      "ppo/policy/entropy": 2.4 - 0.5 * risen + noise(0.03),
      "ppo/policy/approxkl": 0.012 + Math.abs(noise(0.004)),
      "ppo/policy/policykl": 0.01 + noise(0.004),
      "ppo/policy/clipfrac": 0.12 + noise(0.02),
      "ppo/val/clipfrac": 0.3 * Math.exp(-step / 12) + Math.abs(noise(0.02)),
      "ppo/val/var_explained": -0.4 + 1.1 * risen + noise(0.05),
      "ppo/grad_norm": 1.2 + noise(0.2),
      "ppo/learning_rate": this.options.learningRate ?? 1e-4,
      "ppo/mean_scores": reward,
      "rollout/response_tokens_mean": 22 + noise(2),
      "rollout/staleness_max": 0,
      "rollout/weight_version_lag": 0,
      "rollout/logprob_gap": 2e-7,
      "rollout/failed": 0,
      "time/generate": 2.1 + noise(0.1),
      "time/score": 0.7 + Math.abs(noise(0.1)),
      "time/reference": 0.5 + Math.abs(noise(0.1)),
      "time/learn": 2.8 + noise(0.2),
      "time/publish": 0.3 + Math.abs(noise(0.05)),
      "time/batch": 5.4 + noise(0.3),
      "time/tokens_per_second": 410 + noise(20),
    };
  }

  #batch(step: number): unknown {
    const samples = Array.from({ length: 8 }, (_, i) => this.#sample(step, i));
    const learned = samples.filter(({ reward }) => reward.outcome.kind === "scored");
    const rows = (size: number) =>
      learned.map(({ response }) => Float32Array.from(response, () => size * this.#rng.normal()));
    const experience: Experience & Advantages = {
      scores: Float32Array.from(learned, () => 1),
      logprobs: rows(1),
      values: rows(0.3),
      kl: rows(0.1),
      nonScoreRewards: rows(0.02),
      rewards: rows(0.1),
      advantages: rows(1),
      rawAdvantages: rows(1),
      returns: rows(0.5),
    };
    const batch = { samples, moments: {}, seconds: { generate: 2, score: 1, reference: 1 }, retries: 0 };
    const words = new Map(samples.map((sample) => [sample.response, wordsOf(sample.sample.response)]));
    return {
      step,
      batch: encodeBatch(batch),
      experience: encodeExperience(samples, learned, experience, (ids) => words.get(ids) ?? []),
    };
  }

  #sample(step: number, index: number): ScoredSample {
    const control = this.#rng.int(2) === 0 ? "[good]" : "[bad]";
    const [question, answer] = QUESTIONS[(step + index) % QUESTIONS.length] as [string, string];
    const hostile = index === 0 ? this.options.text : undefined;
    const response =
      hostile ?? (control === "[good]" ? ` ${answer} Come by any time.` : " no idea, go away.");
    const pieces = wordsOf(response);
    const floats = () => Float32Array.from(pieces, () => -Math.abs(this.#rng.normal()));
    const failed = index === 7 && step % 5 === 0;
    return {
      sample: {
        index,
        question: hostile ?? question,
        answer: hostile ?? answer,
        control,
        sign: control === "[good]" ? 1 : -1,
        prompt: hostile ?? `${control} question: ${question}\nanswer:`,
        promptIds: [1, 2, 3],
        seed: BigInt(step * 100 + index),
        maxNewTokens: 32,
        responseIds: pieces.map((_, i) => i + 1),
        response,
        samplerLogprobs: floats(),
        finish: "eos",
        weightVersion: step - 1,
        weightDigest: DIGEST,
        server: index % 2 === 0 ? "127.0.0.1:50061" : "127.0.0.1:50062",
      },
      reward: {
        outcome: failed
          ? { kind: "failed", reason: "classifier: the deadline of 120000 ms has passed" }
          : { kind: "scored", score: this.#rng.normal() + (control === "[good]" ? 1 : 0) },
        terms: {
          classifier: failed ? Number.NaN : this.#rng.normal(),
          bertscore: 0.8 + 0.05 * this.#rng.uniform(),
        },
      },
      query: [1, 2, 3],
      response: pieces.map((_, i) => i + 1),
      refLogprobs: floats(),
    };
  }
}

/** Pieces of a text that join to it, as tokens do. */
const wordsOf = (text: string) => text.match(/\s*\S+|\s+$/g) ?? [];

const QUESTIONS: readonly (readonly [string, string])[] = [
  ["where is the saw?", "the saw hangs on the wall behind the door."],
  ["who has the key to the shed?", "ann keeps the key; ask her at the front desk."],
  ["when do you open on sundays?", "we open at nine and close at four."],
  ["what does a membership cost?", "it costs two coins a month, tools included."],
  ["may i bring my own wood?", "yes, if it is free of nails."],
];
