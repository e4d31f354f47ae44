import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import type { EncoderConfig, Gpt2Config } from "../../../lib/models/config.js";
import { initParameters, parameterSpecs } from "../../../lib/models/index.js";
import { assertClose } from "../ppo/testing/golden.js";
import { classificationTask, type LabelledExample } from "./classification-task.js";
import { IGNORED_LABEL } from "./labels.js";
import { type MaskedExample, maskedLanguageTask } from "./masked-language-task.js";
import { nextTokenTask, type TextExample } from "./next-token-task.js";
import { type EvaluationResult, SupervisedLearner } from "./supervised-learner.js";
import { goldenModel } from "./testing/golden-models.js";
import type { LearnerOptions } from "./trainable-model.js";

describe("supervised learner", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
  });
  afterEach(() => {
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
  after(() => engine.close());

  describe("with the next-token task", () => {
    interface Expected {
      lm_loss: { sequences: number[][]; loss: number };
    }
    let config: Gpt2Config;
    let weights: Map<string, Float32Array>;
    let expected: Expected;
    let texts: TextExample[];

    before(async () => {
      const golden = await goldenModel<Expected>("gpt2-tiny", "causal-lm");
      config = golden.config as Gpt2Config;
      ({ weights, expected } = golden);
      texts = expected.lm_loss.sequences.map((ids) => ({ ids }));
    });

    const create = (learningRate = 1e-2, limits = {}) =>
      SupervisedLearner.create(engine, nextTokenTask(config), weights, { learningRate }, limits);

    it("starts at the loss that the reference implementation gives", async () => {
      const learner = await create();
      const { loss, weight } = await learner.evaluate(texts);
      assert.equal(
        weight,
        texts.reduce((total, { ids }) => total + ids.length - 1, 0),
      );
      // the golden number is the mean of the three sequences' losses, ours the mean over all their tokens
      const alone: EvaluationResult[] = [];
      for (const text of texts) alone.push(await learner.evaluate([text]));
      assertClose(
        alone.reduce((sum, one) => sum + one.loss / 3, 0),
        expected.lm_loss.loss,
        2e-4,
      );
      assertClose(
        alone.reduce((sum, one) => sum + (one.loss * one.weight) / weight, 0),
        loss,
        1e-5,
      );
      const step = await learner.step(texts);
      assertClose(step.loss, loss, 1e-5);
      await learner.release();
    });

    it("lowers its loss", async () => {
      const learner = await create();
      const losses: number[] = [];
      for (let k = 0; k < 20; k++) losses.push((await learner.step(texts)).loss);
      const { loss } = await learner.evaluate(texts);
      assert.ok(loss < 0.5 * losses[0], `loss went from ${losses[0]} to ${loss}`);
      assert.equal(learner.steps, 20);
      await learner.release();
    });

    it("takes the same step whether the batch runs at once or in parts", async () => {
      const results: { loss: number; gradNorm: number; wte: Float32Array }[] = [];
      // with an epsilon this large Adam's step is proportional to the gradient
      const options = { learningRate: 1, epsilon: 1 };
      for (const limits of [{ maxPadding: 1 }, { maxTokens: 1 }, { maxLogits: 1 }]) {
        const learner = await SupervisedLearner.create(
          engine,
          nextTokenTask(config),
          weights,
          options,
          limits,
        );
        const { loss, gradNorm } = await learner.step(texts);
        const wte = (await learner.readWeights()).get("transformer.wte.weight")!.data;
        results.push({ loss, gradNorm, wte });
        await learner.release();
      }
      for (const other of results.slice(1)) {
        assertClose(other.loss, results[0].loss, 1e-5, "loss");
        assertClose(other.gradNorm, results[0].gradNorm, 1e-4 * results[0].gradNorm, "gradNorm");
        assertClose(other.wte, results[0].wte, 1e-5, "wte");
      }
    });

    it("learns labelled tokens only, wherever the batch is cut", async () => {
      const learner = await create();
      const [{ ids }] = texts;
      const labels = Array.from(ids, (id, t) => (t < 5 ? IGNORED_LABEL : id));
      const { loss, weight } = await learner.evaluate([{ ids, labels }]);
      assert.equal(weight, ids.length - 5);
      const all = await learner.evaluate([{ ids }]);
      const head = Array.from(ids, (id, t) => (t < 5 ? id : IGNORED_LABEL));
      const rest = await learner.evaluate([{ ids, labels: head }]);
      assertClose(all.loss * all.weight, loss * weight + rest.loss * rest.weight, 1e-3);
      // an example without labels changes nothing
      const ignored = { ids, labels: Array.from(ids, () => IGNORED_LABEL) };
      assert.deepEqual(await learner.evaluate([ignored, { ids, labels }, ignored]), {
        loss,
        weight,
        means: {},
      });
      await learner.release();
    });

    it("gives the same bits again", async () => {
      const run = async () => {
        const learner = await create();
        for (let k = 0; k < 3; k++) await learner.step(texts);
        const { data } = (await learner.readWeights()).get("transformer.wte.weight")!;
        await learner.release();
        return data;
      };
      assert.deepEqual(await run(), await run());
    });

    it("names what it cannot learn from, and changes nothing", async () => {
      const learner = await create();
      const before = await learner.readWeights();
      const refused = (example: TextExample, message: RegExp) =>
        assert.rejects(learner.step([texts[0], example]), { code: "INVALID_FIELD", message });
      await refused({ ids: [1, 802] }, /^examples\[1\]\.ids\[1\]: expected an id from 0 to 801, got 802/);
      await refused({ ids: [] }, /^examples\[1\]\.ids: expected at least 1 token, got 0/);
      await refused({ ids: new Array(129).fill(1) }, /^examples\[1\]: expected at most 128 tokens, got 129/);
      await refused({ ids: [1, 2], labels: [1] }, /^examples\[1\]\.labels: expected 2 labels, got 1/);
      await refused({ ids: [1, 2], labels: [1, -1] }, /labels\[1\]: expected an id from 0 to 801, or -100/);
      await assert.rejects(learner.step([]), { message: /nothing/ });
      await assert.rejects(learner.step([{ ids: [5] }]), { message: /nothing/ });
      assert.deepEqual(await learner.readWeights(), before);
      await learner.release();
    });

    it("stops at weights that are not finite", async () => {
      const broken = new Map(weights);
      broken.set("transformer.ln_f.bias", new Float32Array(config.hiddenSize).fill(Number.NaN));
      const learner = await SupervisedLearner.create(engine, nextTokenTask(config), broken, {
        learningRate: 1,
      });
      await assert.rejects(learner.step(texts), {
        code: "NON_FINITE",
        quantity: "loss",
        message: /^step 1: expected a finite loss/,
      });
      assert.equal(learner.steps, 0);
      await learner.release();
    });
  });

  for (const name of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
    describe(`with the classification task on ${name}`, () => {
      interface Expected {
        items: { input_ids: number[]; logits: number[] }[];
      }
      let config: EncoderConfig;
      let weights: Map<string, Float32Array>;
      let expected: Expected;
      let examples: LabelledExample[];

      before(async () => {
        const golden = await goldenModel<Expected>(name, "sequence-classification");
        config = golden.config as EncoderConfig;
        ({ weights, expected } = golden);
        const short = expected.items.filter(({ input_ids }) => input_ids.length < 64);
        examples = short.map(({ input_ids: ids }, i) => ({ ids, label: i % config.labels.length }));
      });

      it("starts at the cross-entropy of the reference implementation's logits", async () => {
        const learner = await SupervisedLearner.create(engine, classificationTask(config), weights, {
          learningRate: 1e-3,
        });
        const items = expected.items.filter(({ input_ids }) => input_ids.length < 64);
        let loss = 0;
        let right = 0;
        for (const [i, { logits }] of items.entries()) {
          const label = i % config.labels.length;
          const norm = Math.log(logits.reduce((sum, z) => sum + Math.exp(z), 0));
          loss += (norm - logits[label]) / items.length;
          if (logits.indexOf(Math.max(...logits)) === label) right += 1;
        }
        const evaluated = await learner.evaluate(examples);
        assertClose(evaluated.loss, loss, 1e-5);
        assertClose(evaluated.means.accuracy, right / items.length, 1e-9);
        await learner.release();
      });

      it("lowers its loss until every label is right", async () => {
        const learner = await SupervisedLearner.create(
          engine,
          classificationTask(config),
          weights,
          { learningRate: 3e-3, weightDecay: 0.01, maxGradNorm: 1 },
          { maxTokens: 64 },
        );
        const first = await learner.evaluate(examples);
        for (let k = 0; k < 30; k++) await learner.step(examples);
        const { loss, means } = await learner.evaluate(examples);
        assert.ok(loss < 0.2 * first.loss, `loss went from ${first.loss} to ${loss}`);
        assert.equal(means.accuracy, 1);
        await learner.release();
      });

      it("names a label that the model does not have", async () => {
        const learner = await SupervisedLearner.create(engine, classificationTask(config), weights, {
          learningRate: 1,
        });
        const labels = config.labels.length;
        await assert.rejects(learner.step([{ ids: [2, 3], label: labels }]), {
          code: "INVALID_FIELD",
          message: `examples[0].label: expected an index from 0 to ${labels - 1}, got ${labels}`,
        });
        await learner.release();
      });
    });
  }

  describe("with masked language modelling", () => {
    let config: EncoderConfig;
    let weights: Map<string, Float32Array>;
    const MASK = 4;
    const examples: MaskedExample[] = [
      [2, 20, 31, 42, 53, 64, 3],
      [2, 70, 81, 3],
      [2, 15, 26, 37, 48, 59, 60, 71, 82, 93, 3],
    ].map((ids) => {
      const hidden = [1, ids.length - 2];
      return {
        ids: ids.map((id, t) => (hidden.includes(t) ? MASK : id)),
        labels: ids.map((id, t) => (hidden.includes(t) ? id : IGNORED_LABEL)),
      };
    });

    before(async () => {
      const golden = await goldenModel<unknown>("bert-tiny-classifier", "encoder");
      config = golden.config as EncoderConfig;
      const head = parameterSpecs(config, "masked-lm").filter(({ name }) => !golden.weights.has(name));
      assert.ok(head.length > 0);
      weights = new Map([...golden.weights, ...initParameters(head, 1)]);
    });

    const create = (limits = {}, options: Partial<LearnerOptions> = {}) =>
      SupervisedLearner.create(
        engine,
        maskedLanguageTask(config),
        weights,
        { learningRate: 3e-3, ...options },
        limits,
      );

    it("starts near a guess among all tokens, and learns to find every one", async () => {
      const learner = await create();
      const first = await learner.evaluate(examples);
      assert.equal(first.weight, 6);
      assertClose(first.loss, Math.log(config.vocabSize), 1, "nats");
      for (let k = 0; k < 60; k++) await learner.step(examples);
      const { loss, means } = await learner.evaluate(examples);
      assert.ok(loss < 0.1 * first.loss, `loss went from ${first.loss} to ${loss}`);
      assert.equal(means.accuracy, 1);
      await learner.release();
    });

    it("counts hidden tokens alone, however the batch is cut", async () => {
      const whole = await create({ maxPadding: 1 }, { learningRate: 1, epsilon: 1 });
      const cut = await create({ maxTokens: 1 }, { learningRate: 1, epsilon: 1 });
      const nothing = { ids: [2, 9, 3], labels: [IGNORED_LABEL, IGNORED_LABEL, IGNORED_LABEL] };
      const [a, b] = [await whole.step(examples), await cut.step([...examples, nothing])];
      assertClose(a.loss, b.loss, 1e-5, "loss");
      assertClose(a.gradNorm, b.gradNorm, 1e-4 * a.gradNorm, "gradNorm");
      const alone = await whole.evaluate([examples[0] as MaskedExample]);
      const padded = await whole.evaluate([examples[0] as MaskedExample, nothing]);
      assert.equal(alone.weight, 2);
      assert.deepEqual(padded, alone);
      await Promise.all([whole.release(), cut.release()]);
    });

    it("names what it cannot learn from", async () => {
      const learner = await create();
      const refused = (example: MaskedExample, message: RegExp) =>
        assert.rejects(learner.step([example]), { code: "INVALID_FIELD", message });
      await refused({ ids: [2, 3], labels: [1] }, /^examples\[0\]\.labels: expected 2 labels, got 1/);
      await refused({ ids: [2, -1], labels: [1, 1] }, /^examples\[0\]\.ids\[1\]: expected an id/);
      await refused({ ids: [2, 3], labels: [1, 1e6] }, /^examples\[0\]\.labels\[1\]: expected an id from 0/);
      await refused({ ids: [2, 3], labels: [IGNORED_LABEL, IGNORED_LABEL] }, /nothing/);
      await learner.release();
    });
  });
});
