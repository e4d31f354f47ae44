import assert from "node:assert/strict";
import { Rng } from "../../../lib/dataset/rng.js";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { PPO_PROFILES, type PpoOptions } from "../ppo/options.js";
import { logSoftmaxRows } from "../ppo/response-window.js";
import { assertClose, golden021 } from "../ppo/testing/golden.js";
import { tinyConfig, tinyLearner, tinySequences, tinyWeights } from "../ppo/testing/tiny-policy.js";
import { PolicyLearner } from "./policy-learner.js";
import type { PpoMinibatch } from "./policy-objective.js";

const plain: PpoOptions = { ...PPO_PROFILES.default, learningRate: 1e-3 };

describe("policy learner", () => {
  let engine: Engine;
  const learners: PolicyLearner[] = [];
  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
  });
  afterEach(async () => {
    for (const learner of learners.splice(0)) await learner.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
  after(() => engine.close());

  async function create(ppo: Partial<PpoOptions> = {}, limits = {}): Promise<PolicyLearner> {
    const options = { ...plain, ...ppo };
    const learner = await PolicyLearner.create(engine, tinyConfig(), tinyWeights("policy_before"), {
      ppo: options,
      learner: { learningRate: options.learningRate },
      limits,
    });
    learners.push(learner);
    return learner;
  }

  /** A minibatch of golden samples: old quantities from TRL's rollout. */
  function minibatch(members: number[]): PpoMinibatch {
    const { rollout, gae } = golden021();
    const rows = (from: number[][]) => members.map((i) => Float32Array.from(from[i]));
    return {
      sequences: members.map((i) => tinySequences()[i]),
      oldLogprobs: rows(rollout.logprobs),
      oldValues: rows(rollout.values_shifted_one_left),
      advantages: rows(gae.map((sample) => sample.advantages_whitened)),
      returns: rows(gae.map((sample) => sample.returns)),
    };
  }

  describe("forward pass", () => {
    it("gives logprobs, values and entropies of the response tokens alone, in the order asked", async () => {
      const learner = await create();
      const sequences = tinySequences();
      const { rollout, forward_sample0: sample0 } = golden021();
      const results = await learner.forwardPass(sequences);
      for (const [i, { response }] of sequences.entries()) {
        assertClose(results[i].logprobs, rollout.logprobs[i], 1e-5);
        assert.equal(results[i].values.length, response.length);
        assert.equal(results[i].entropy.length, response.length);
        assert.equal(results[i].fullLogprobs, undefined);
      }
      const { query, response } = sequences[0];
      const values = sample0.values_all_positions.slice(query.length - 1, query.length + response.length - 1);
      assertClose(results[0].values, values, 1e-5);
    });

    it("says the same of a sequence alone as in any batch", async () => {
      const learner = await create();
      const sequences = tinySequences();
      const together = await learner.forwardPass(sequences);
      const apart = await create({}, { maxTokens: 1 });
      const alone = await apart.forwardPass(sequences);
      for (const i of sequences.keys()) {
        assertClose(alone[i].logprobs, together[i].logprobs, 1e-6);
        assertClose(alone[i].values, together[i].values, 1e-6);
      }
    });

    it("gives whole distributions where asked, whose entropy is the entropy", async () => {
      const learner = await create();
      const [sequence] = tinySequences();
      const [{ logprobs, fullLogprobs, entropy }] = await learner.forwardPass([sequence], { full: true });
      const { vocabSize } = tinyConfig();
      assert.equal(fullLogprobs!.length, sequence.response.length * vocabSize);
      for (let t = 0; t < sequence.response.length; t++) {
        const row = [...fullLogprobs!.subarray(t * vocabSize, (t + 1) * vocabSize)];
        assertClose(
          row.reduce((sum, x) => sum + Math.exp(x), 0),
          1,
          1e-5,
        );
        assertClose(
          row.reduce((sum, x) => sum - Math.exp(x) * x, 0),
          entropy[t],
          1e-5,
        );
        assertClose(row[sequence.response[t]], logprobs[t], 1e-6);
      }
    });

    it("gives the distribution behind the last token that the golden file has", async () => {
      const learner = await create();
      const { logits_last_position: logits } = golden021().forward_sample0;
      const [{ query, response }] = tinySequences();
      const whole = [...Array.from(query), ...Array.from(response)];
      const [{ fullLogprobs }] = await learner.forwardPass([{ query: whole, response: [0] }], { full: true });
      assertClose(fullLogprobs!, logSoftmaxRows(Float32Array.from(logits), 1), 1e-5);
    });

    it("takes a query and a response of one token each, and no sequences at all", async () => {
      const learner = await create();
      const [{ logprobs, values }] = await learner.forwardPass([{ query: [3], response: [4] }]);
      assert.equal(logprobs.length, 1);
      assert.equal(values.length, 1);
      assert.deepEqual(await learner.forwardPass([]), []);
    });

    it("drops values out with the given randomness, and leaves logprobs alone", async () => {
      const learner = await create({ valueHeadDropout: 0.5 });
      const without = await (await create()).forwardPass(tinySequences());
      const pass = (seed: number) =>
        learner.forwardPass(tinySequences(), { dropout: Rng.from(seed, "dropout") });
      const [one, again, other] = [await pass(1), await pass(1), await pass(2)];
      assert.deepEqual(one, again);
      assert.notDeepEqual(one[0].values, other[0].values);
      assert.deepEqual(one[0].logprobs, without[0].logprobs);
      await assert.rejects(learner.forwardPass(tinySequences()), { message: /random source/ });
    });

    it("doubles what half dropout keeps, so that its mean is the value without", async () => {
      const learner = await create({ valueHeadDropout: 0.5 });
      const sequences = Array.from({ length: 400 }, () => tinySequences()[1]);
      const [exact] = await (await create()).forwardPass([sequences[0]]);
      const results = await learner.forwardPass(sequences, { dropout: Rng.from(7, "dropout") });
      const average = results.reduce((sum, { values }) => sum + values[0], 0) / results.length;
      assertClose(average, exact.values[0], 0.1);
    });

    it("names sequences that do not fit", async () => {
      const learner = await create();
      const refused = (query: number[], response: number[], message: RegExp) =>
        assert.rejects(learner.forwardPass([{ query, response }]), { code: "INVALID_FIELD", message });
      await refused([1], [24], /^sequences\[0\]\.response\[0\]: expected an id from 0 to 23, got 24/);
      await refused([], [1], /^sequences\[0\]\.query: expected at least 1 token/);
      await refused([1], [], /^sequences\[0\]\.response: expected at least 1 token/);
      await refused(
        new Array(40).fill(1),
        new Array(9).fill(1),
        /^sequences\[0\]: expected at most 48 tokens/,
      );
    });
  });

  describe("step", () => {
    it("takes the gradients that TRL v0.2.1 took in its first minibatch", async () => {
      const learner = await tinyLearner(engine, { ...PPO_PROFILES["trl-0.2.1"], valueHeadDropout: 0 });
      learners.push(learner);
      const [{ sample, grads }] = golden021().minibatches;
      const gradients = await learner.exclusive(async (model) => {
        await model.accumulate(minibatch([sample]));
        return model.trainable.readGradients();
      });
      for (const [name, expected] of Object.entries(grads!)) {
        assertClose(gradients.get(name)!.data, expected, 1e-5, name);
      }
    });

    it("learns: the loss on the same minibatch falls", async () => {
      const learner = await create({ clipRange: 10, clipRangeValue: 10 });
      const batch = minibatch([0, 1, 2, 3]);
      const lossOf = () => learner.exclusive((model) => model.trainable.evaluate(batch));
      const { loss: before } = await lossOf();
      for (let k = 0; k < 10; k++) await learner.step([batch]);
      assert.ok((await lossOf()).loss < before);
    });

    it("averages minibatches, each counting the same", async () => {
      const learner = await create();
      const gradientOf = (members: number[]) =>
        learner.exclusive(async (model) => {
          await model.accumulate(minibatch(members));
          const gradients = await model.trainable.readGradients();
          model.discardGradients();
          return gradients.get("transformer.wte.weight")!.data;
        });
      const [a, b] = [await gradientOf([0]), await gradientOf([3])];
      await learner.step([minibatch([0]), minibatch([3])]);
      const both = await learner.exclusive((model) => model.trainable.readGradients());
      const expected = a.map((x, i) => (x + b[i]) / 2);
      assertClose(both.get("transformer.wte.weight")!.data, expected, 1e-6);
    });

    it("gives the same bits again", async () => {
      const run = async () => {
        const learner = await create();
        for (let k = 0; k < 3; k++) await learner.step([minibatch([k, 3])]);
        return [await learner.readWeights(), await learner.exportState()];
      };
      assert.deepEqual(await run(), await run());
    });

    it("resumes from weights and state with the same bits", async () => {
      const whole = await create();
      for (let k = 0; k < 4; k++) await whole.step([minibatch([k])]);
      const first = await create();
      for (let k = 0; k < 2; k++) await first.step([minibatch([k])]);
      const saved = new Map([...(await first.readWeights())].map(([name, { data }]) => [name, data]));
      const second = await PolicyLearner.create(engine, tinyConfig(), saved, {
        ppo: plain,
        learner: { learningRate: plain.learningRate },
      });
      learners.push(second);
      await second.importState(await first.exportState());
      for (let k = 2; k < 4; k++) await second.step([minibatch([k])]);
      assert.deepEqual(await second.readWeights(), await whole.readWeights());
    });

    it("names a minibatch that is not finite and updates nothing, not even for the good ones before it", async () => {
      const learner = await create();
      const before = await learner.readWeights();
      const bad = minibatch([1]);
      bad.returns[0][0] = Number.NaN;
      await assert.rejects(learner.step([minibatch([0]), bad], "epoch 1, minibatch 2"), {
        code: "NON_FINITE",
        quantity: "loss",
        message: "epoch 1, minibatch 2: expected a finite loss, got NaN",
      });
      assert.deepEqual(await learner.readWeights(), before);
      assert.equal((await learner.exportState()).step, 0);
      await learner.step([minibatch([0])]); // and it can go on
      assert.notDeepEqual(await learner.readWeights(), before);
    });

    it("names weights that have gone bad when it looks at the rollout", async () => {
      const weights = tinyWeights("policy_before");
      weights.get("v_head.summary.bias")![0] = Number.POSITIVE_INFINITY;
      const learner = await PolicyLearner.create(engine, tinyConfig(), weights, {
        ppo: plain,
        learner: { learningRate: 1 },
      });
      learners.push(learner);
      await assert.rejects(learner.forwardPass(tinySequences()), { code: "NON_FINITE", quantity: "values" });
    });

    it("queues calls that come at the same time", async () => {
      const learner = await create();
      const [before, , after] = await Promise.all([
        learner.forwardPass(tinySequences()),
        learner.step([minibatch([0, 1, 2, 3])]),
        learner.forwardPass(tinySequences()),
      ]);
      assertClose(before[0].logprobs, golden021().rollout.logprobs[0], 1e-5);
      assert.notDeepEqual(after[0].logprobs, before[0].logprobs);
    });
  });
});
