import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { assertClose } from "../ppo/testing/golden.js";
import { type QuadraticBatch, quadratic } from "./testing/quadratic.js";
import { type LearnerOptions, TrainableModel } from "./trainable-model.js";

describe("trainable model", () => {
  let engine: Engine;
  const models: TrainableModel<QuadraticBatch>[] = [];
  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
  });
  afterEach(async () => {
    for (const model of models.splice(0)) await model.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
  after(() => engine.close());

  async function create(options: Partial<LearnerOptions> = {}, start = [0, 0]) {
    const weights = new Map([["w", Float32Array.from(start)]]);
    const model = await TrainableModel.create(engine, quadratic, weights, { learningRate: 0.1, ...options });
    models.push(model);
    return model;
  }
  const weightsOf = async (model: TrainableModel<QuadraticBatch>) => [
    ...(await model.readWeights()).get("w")!.data,
  ];

  it("reports loss and outputs, and takes the gradient of the loss", async () => {
    const model = await create();
    const { loss, outputs } = await model.accumulate({
      targets: [
        [2, 0],
        [0, 4],
      ],
    });
    assert.equal(loss, 5);
    assert.deepEqual([...outputs.distance], [2, 8]);
    assert.deepEqual([...(await model.readGradients()).get("w")!.data], [-1, -2]);
  });

  it("adds the scaled gradients of several minibatches", async () => {
    const model = await create();
    const parts: [number, number][] = [
      [3, 0],
      [0, 6],
      [-3, 3],
    ];
    for (const target of parts) await model.accumulate({ targets: [target] }, { scale: 1 / 3 });
    const sum = [...(await model.readGradients()).get("w")!.data];
    assertClose(sum, [0, -3], 1e-6);
    const { gradNorm } = await model.update();
    assertClose(gradNorm, 3, 1e-6);
    // the next step begins afresh
    await model.accumulate({ targets: [[0, 1]] });
    const after = [...(await model.readGradients()).get("w")!.data];
    assertClose(after, [(await weightsOf(model))[0], (await weightsOf(model))[1] - 1], 1e-6);
  });

  it("leaves out the gradient of a minibatch that is not to be kept, first or later", async () => {
    const model = await create();
    const keep = () => false;
    const skipped = await model.accumulate({ targets: [[9, 9]], factor: Number.NaN }, { keep });
    assert.equal(skipped.kept, false);
    assert.deepEqual([...(await model.readGradients()).get("w")!.data], [0, 0]);
    await model.accumulate({ targets: [[1, 0]] });
    await model.accumulate({ targets: [[9, 9]] }, { keep });
    assert.deepEqual([...(await model.readGradients()).get("w")!.data], [-1, 0]);
  });

  it("clips the global norm, and reports it as it was", async () => {
    // after clipping to 0.5 the gradient (3, 4)/10; with a large epsilon Adam's step is proportional to it
    const model = await create({ maxGradNorm: 0.5, epsilon: 1e6, learningRate: 1e6 });
    await model.accumulate({ targets: [[-3, -4]] });
    const { gradNorm } = await model.update();
    assert.equal(gradNorm, 5);
    assertClose(await weightsOf(model), [-0.3, -0.4], 1e-5);
  });

  it("clips nothing below the limit, and only the first step where asked", async () => {
    const options = { epsilon: 1e6, learningRate: 1e6, beta1: 0, beta2: 0 };
    const below = await create({ ...options, maxGradNorm: 10 });
    await below.accumulate({ targets: [[-3, -4]] });
    await below.update();
    assertClose(await weightsOf(below), [-3, -4], 1e-4);
    const first = await create({ ...options, maxGradNorm: 0.5, gradClipping: "first" });
    for (const expected of [
      [-0.3, -0.4],
      [-3, -4],
    ]) {
      await first.accumulate({ targets: [[-3, -4]] });
      await first.update();
      assertClose(await weightsOf(first), expected, 1e-4);
    }
  });

  it("names a loss that is not finite and updates nothing", async () => {
    const model = await create({}, [1, 2]);
    await model.accumulate({ targets: [[0, 0]] });
    await assert.rejects(
      model.accumulate({ targets: [[0, 0]], factor: Number.NaN }, { where: "minibatch 2" }),
      {
        code: "NON_FINITE",
        quantity: "loss",
        message: "minibatch 2: expected a finite loss, got NaN",
      },
    );
    model.discardGradients();
    assert.deepEqual(await weightsOf(model), [1, 2]);
    assert.equal(model.step, 0);
    await assert.rejects(model.update(), { message: /no minibatch/ });
  });

  it("names the weight whose gradient is not finite and updates nothing", async () => {
    const model = await create({}, [1, 2]);
    // the loss is 0 · ∞ only in the gradient: |w − target|² overflows to infinity times a scale of 0
    await assert.rejects(
      async () => {
        await model.accumulate({ targets: [[1, 2]], factor: 1 }, { scale: Number.POSITIVE_INFINITY });
        await model.update("minibatch 7");
      },
      {
        code: "NON_FINITE",
        quantity: "gradient of w",
        message: /^minibatch 7: expected a finite gradient of w/,
      },
    );
    assert.deepEqual(await weightsOf(model), [1, 2]);
    await model.accumulate({ targets: [[1, 3]] });
    await model.update(); // and can go on
    assert.notDeepEqual(await weightsOf(model), [1, 2]);
  });

  it("evaluates without learning", async () => {
    const model = await create({}, [1, 0]);
    const { loss, outputs } = await model.evaluate({ targets: [[0, 0]] });
    assert.equal(loss, 0.5);
    assert.deepEqual([...outputs.distance], [0.5]);
    assert.equal(model.step, 0);
  });

  it("steps its schedule only when told", async () => {
    const model = await create({ schedule: { kind: "linear", totalSteps: 4 } });
    assert.equal(model.learningRate, 0.1);
    await model.accumulate({ targets: [[1, 1]] });
    const { learningRate } = await model.update();
    assert.equal(learningRate, 0.1);
    assert.equal(model.learningRate, 0.1);
    model.advanceSchedule();
    assertClose(model.learningRate, 0.075, 1e-12);
  });

  it("resumes from exported state with the same bits", async () => {
    const options: Partial<LearnerOptions> = {
      schedule: { kind: "cosine", totalSteps: 10 },
      maxGradNorm: 0.1,
    };
    const batches = Array.from(
      { length: 8 },
      (_, k): QuadraticBatch => ({ targets: [[Math.sin(k), k / 3]] }),
    );
    const learn = async (model: TrainableModel<QuadraticBatch>, part: QuadraticBatch[]) => {
      for (const batch of part) {
        await model.accumulate(batch);
        await model.update();
        model.advanceSchedule();
      }
    };
    const whole = await create(options);
    await learn(whole, batches);
    const first = await create(options);
    await learn(first, batches.slice(0, 5));
    const state = structuredClone(await first.exportState());
    const second = await create(options, await weightsOf(first));
    await second.importState(state);
    await learn(second, batches.slice(5));
    assert.deepEqual(await weightsOf(second), await weightsOf(whole));
    assert.deepEqual(await second.exportState(), await whole.exportState());
  });

  it("refuses weights that are missing or of another size, and holds on to nothing", async () => {
    const make = (weights: Map<string, Float32Array>) =>
      TrainableModel.create(engine, quadratic, weights, { learningRate: 1 });
    await assert.rejects(make(new Map()), {
      code: "CHECKPOINT_CORRUPT",
      message: "weight w: expected [2], got nothing",
    });
    await assert.rejects(make(new Map([["w", new Float32Array(3)]])), {
      message: "weight w: expected [2], got 3 numbers",
    });
  });
});
