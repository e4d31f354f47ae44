import assert from "node:assert/strict";
import { Rng } from "../../../lib/dataset/rng.js";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import type { PolicyLearner } from "../learner/policy-learner.js";
import { type EpochOrder, shuffledOrder } from "./minibatches.js";
import { type PpoOptions, type PpoOverrides, ppoOptionsSchema } from "./options.js";
import { PpoState } from "./state.js";
import { type PpoStepContext, ppoStep } from "./step.js";
import { assertClose } from "./testing/golden.js";
import { tinyBatch, tinyLearner } from "./testing/tiny-policy.js";
import type { PpoBatch, PpoSample } from "./types.js";

const inOrder: EpochOrder = (_epoch, samples) => Array.from({ length: samples }, (_, i) => i);

describe("PPO step", () => {
  let engine: Engine;
  let golden: PpoBatch;
  const learners: PolicyLearner[] = [];

  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
    golden = await tinyBatch(engine, optionsOf({}), true);
  });
  afterEach(async () => {
    for (const learner of learners.splice(0)) await learner.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
  after(() => engine.close());

  function optionsOf(given: PpoOverrides): PpoOptions {
    return ppoOptionsSchema.parse({
      batchSize: 4,
      minibatchSize: 2,
      epochs: 2,
      learningRate: 1e-3,
      ...given,
    });
  }

  async function step(given: PpoOverrides, batch: PpoBatch = golden, context: Partial<PpoStepContext> = {}) {
    const options = optionsOf(given);
    const learner = await tinyLearner(engine, options);
    learners.push(learner);
    const state = new PpoState(options);
    const result = await ppoStep(learner, batch, options, { state, order: inOrder, ...context });
    return { learner, state, options, result };
  }

  /** The golden batch with one sample changed. */
  const withSample = (change: Partial<PpoSample>): PpoBatch => ({
    samples: golden.samples.map((sample, i) => (i === 1 ? { ...sample, ...change } : sample)),
  });

  const weightsOf = async (learner: PolicyLearner) =>
    (await learner.readWeights()).get("transformer.wte.weight")!.data;

  it("gives the same bits again", async () => {
    const run = async () => {
      const { learner, result } = await step({}, golden, { order: shuffledOrder(Rng.from(1, "order")) });
      const { stats } = result;
      const numbers = Object.entries(stats).filter(([name]) => !name.includes("time/"));
      return [numbers, await learner.readWeights(), await learner.exportState()];
    };
    assert.deepEqual(await run(), await run());
  });

  it("uses rollout quantities that the caller brings along", async () => {
    const computed = await step({});
    const { logprobs, values } = computed.result.experience;
    const rollouts = golden.samples.map((_, i) => ({ logprobs: logprobs[i], values: values[i] }));
    for (const brought of [[0, 1, 2, 3], [2]]) {
      const samples = golden.samples.map((sample, i) =>
        brought.includes(i) ? { ...sample, rollout: rollouts[i] } : sample,
      );
      const given = await step({}, { samples });
      assertClose(await weightsOf(given.learner), await weightsOf(computed.learner), 1e-5);
    }
  });

  it("learns from responses of one token, alone in a batch or among others", async () => {
    const one = { query: [3], response: [4], score: 1, refLogprobs: Float32Array.of(-3) };
    for (const samples of [[one], [one, golden.samples[0]], [one, one, one, one]]) {
      const { result } = await step({}, { samples });
      const scalars = Object.entries(result.stats).filter(([, value]) => typeof value === "number");
      const bad = scalars.filter(([name, value]) => Number.isNaN(value) && name !== "ppo/val/var_explained");
      assert.deepEqual(bad, []);
    }
  });

  it("learns from a batch that lost samples, in minibatches of what is left", async () => {
    const { result, state, options } = await step(
      { minibatchSize: 2, epochs: 1 },
      { samples: golden.samples.slice(0, 3) },
    );
    assert.deepEqual(
      result.minibatches.map(({ ratio }) => ratio.length),
      [6 + 2, 5],
    );
    assert.equal((result.stats["tokens/responses_dist"] as Float32Array).length, 3);
    // the controller moves by the samples there were
    const error = Math.min(
      Math.max((result.stats["objective/kl"] as number) / options.klTarget - 1, -0.2),
      0.2,
    );
    assertClose(state.klController.value, 0.2 * (1 + (error * 3) / options.klHorizon), 1e-12);
  });

  it("accumulates minibatches into fewer optimizer steps", async () => {
    const { learner, result } = await step({ minibatchSize: 1, gradientAccumulationSteps: 2, epochs: 3 });
    assert.equal(result.minibatches.length, 12);
    assert.equal((await learner.exportState()).step, 6);
    // two responses of equal length: the mean of two means is the mean over both
    const sample = golden.samples[0];
    const pair = { samples: [sample, { ...sample, score: -1 }] };
    const small = await step(
      { minibatchSize: 1, gradientAccumulationSteps: 2, batchSize: 2, epochs: 1 },
      pair,
    );
    const large = await step({ minibatchSize: 2, batchSize: 2, epochs: 1 }, pair);
    assertClose(
      small.result.stats["ppo/grad_norm"] as number,
      large.result.stats["ppo/grad_norm"] as number,
      1e-5,
    );
  });

  it("gives no gradient to a minibatch whose mean ratio is beyond the threshold", async () => {
    const { learner, result } = await step({ ratioThreshold: 0.5, epochs: 1 }); // ratios begin at 1
    assert.equal(result.stats["ppo/grad_norm"], 0);
    assert.equal(result.stats["ppo/loss/total"], 0);
    const untouched = await tinyLearner(engine, optionsOf({}));
    learners.push(untouched);
    assert.deepEqual(await weightsOf(learner), await weightsOf(untouched));
    assert.equal((await learner.exportState()).step, 2); // Adam still steps, as upstream does
  });

  it("survives a ratio that overflows, by the same guard", async () => {
    const samples = golden.samples.map((sample) => ({
      ...sample,
      rollout: {
        logprobs: new Float32Array(sample.response.length).fill(-1000),
        values: new Float32Array(sample.response.length),
      },
    }));
    const { result } = await step({ epochs: 1 }, { samples });
    assert.equal(result.stats["ppo/grad_norm"], 0);
    await assert.rejects(step({ epochs: 1, ratioThreshold: null }, { samples }), { code: "NON_FINITE" });
  });

  it("stops after the epoch that moved too far", async () => {
    const run = async (targetKl: number) =>
      (await step({ targetKl, epochs: 6, learningRate: 3e-2 })).result.epochs;
    assert.equal(await run(1e6), 6);
    assert.ok((await run(1e-9)) < 6);
  });

  it("reports how far behind the learner the writers of the responses were", async () => {
    const samples = golden.samples.map((sample, i) => ({ ...sample, weightVersion: 7 - (i % 2) }));
    const { result } = await step({}, { samples, weightVersion: 8 });
    assert.equal(result.stats["rollout/weight_version_lag"], 1.5);
    assert.equal((await step({})).result.stats["rollout/weight_version_lag"], undefined);
  });

  it("charges each kind of penalty, never negative but for k1", async () => {
    const totals = new Map<string, number>();
    for (const klPenalty of ["k1", "abs", "mse", "full"] as const) {
      const { result } = await step({ klPenalty, epochs: 1 });
      totals.set(klPenalty, result.stats["objective/kl"] as number);
      assert.ok((result.stats["objective/kl_k3"] as number) > 0);
    }
    assert.ok(totals.get("k1")! < 0);
    for (const kind of ["abs", "mse", "full"]) assert.ok(totals.get(kind)! > 0);
  });

  it("drops values out in rollout and training where the profile says so", async () => {
    const given: PpoOverrides = { profile: "notebook", batchSize: 4, epochs: 1 };
    const run = async (seed: number) => {
      const { learner } = await step(given, golden, { dropout: Rng.from(seed, "dropout") });
      return weightsOf(learner);
    };
    assert.deepEqual(await run(1), await run(1));
    assert.notDeepEqual(await run(1), await run(2));
  });

  it("tells its progress", async () => {
    const seen: [number, number, number, readonly number[]][] = [];
    await step({}, golden, {
      onMinibatch: ({ epoch, done, total, samples }) => seen.push([epoch, done, total, samples]),
    });
    assert.deepEqual(seen, [
      [0, 1, 4, [0, 1]],
      [0, 2, 4, [2, 3]],
      [1, 3, 4, [0, 1]],
      [1, 4, 4, [2, 3]],
    ]);
  });

  it("goes on from a snapshot of its state", async () => {
    const options = optionsOf({ scoreScaling: true, scoreNorm: true });
    const learner = await tinyLearner(engine, options);
    learners.push(learner);
    const state = new PpoState(options);
    await ppoStep(learner, golden, options, { state, order: inOrder });
    const snapshot = JSON.parse(JSON.stringify(state.snapshot()));
    assert.deepEqual(new PpoState(options, snapshot).snapshot(), state.snapshot());
    assert.notEqual(snapshot.klCoef, options.initialKlCoef);
    assert.equal(snapshot.scores.count, 4);
  });

  it("moves on the learning-rate schedule once per batch", async () => {
    const options = optionsOf({});
    const learner = await tinyLearner(engine, options, { schedule: { kind: "linear", totalSteps: 4 } });
    learners.push(learner);
    const rates: unknown[] = [];
    for (let batch = 0; batch < 2; batch++) {
      const { stats } = await ppoStep(learner, golden, options, {
        state: new PpoState(options),
        order: inOrder,
      });
      rates.push(stats["ppo/learning_rate"]);
    }
    assert.deepEqual(rates, [1e-3, 7.5e-4]);
  });

  it("names the epoch and minibatch that is not finite, and leaves its state as it was", async () => {
    const options = optionsOf({ learningRate: 1e30, ratioThreshold: null, earlyStopping: false });
    const learner = await tinyLearner(engine, options);
    learners.push(learner);
    const state = new PpoState(options);
    const before = state.snapshot();
    await assert.rejects(ppoStep(learner, golden, options, { state, order: inOrder }), {
      code: "NON_FINITE",
      message: /^epoch 1, minibatch 2 of 2: expected a finite/,
    });
    assert.deepEqual(state.snapshot(), before);
  });

  it("names every sample that it cannot learn from, before anything changes", async () => {
    const refused = async (batch: PpoBatch, message: RegExp, given: PpoOverrides = {}) => {
      await assert.rejects(step(given, batch), { code: "INVALID_FIELD", message });
    };
    await refused({ samples: [] }, /^samples: expected 1 to 4, got 0/);
    await refused({ samples: [...golden.samples, golden.samples[0]] }, /^samples: expected 1 to 4, got 5/);
    await refused(
      withSample({ score: Number.NaN }),
      /^samples\[1\]\.score: expected a finite number, got NaN/,
    );
    await refused(withSample({ response: [] }), /samples\[1\]\.response: expected at least 1 tokens?, got 0/);
    await refused(
      withSample({ refLogprobs: new Float32Array(1) }),
      /^samples\[1\]\.refLogprobs: expected \[2\], got \[1\]/,
    );
    await refused(
      withSample({ refLogprobs: Float32Array.of(0, Number.NaN) }),
      /^samples\[1\]\.refLogprobs: expected finite numbers, got NaN/,
    );
    await refused(
      withSample({ rollout: { logprobs: new Float32Array(2), values: new Float32Array(3) } }),
      /^samples\[1\]\.rollout\.values: expected \[2\], got \[3\]/,
    );
    await refused(
      withSample({ refFullLogprobs: undefined }),
      /^samples\[1\]\.refFullLogprobs: expected log-/,
      {
        klPenalty: "full",
      },
    );
    await refused(
      withSample({ query: [99] }),
      /^samples\[1\]\.query\[0\]: expected an id from 0 to 23, got 99/,
    );
    const legacy: PpoOverrides = {
      profile: "trl-0.2.1",
      batchSize: 4,
      minibatchSize: 1,
      valueHeadDropout: 0,
    };
    await refused(withSample({ query: [1] }), /query: expected at least 2 tokens, got 1/, legacy);
    const short = { response: [1], refLogprobs: new Float32Array(1) };
    await refused(withSample(short), /response: expected at least 2 tokens, got 1/, legacy);
    await refused(
      { samples: golden.samples.map((sample) => ({ ...sample, score: Number.NaN })) },
      /samples\[0\]\.score.*; samples\[3\]\.score/s,
    );
  });
});
