import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { assertClose } from "../ppo/testing/golden.js";
import { Adam, type AdamOptions } from "./adam.js";
import { ParameterLayout, ParameterMemory, type ParameterShape } from "./parameter-store.js";

describe("Adam", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
  });
  after(async () => {
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
    await engine.close();
  });

  /** An optimizer over weights of these shapes, and ways to set and read them. */
  async function setUp(shapes: ParameterShape[], options: AdamOptions = {}, longest?: number) {
    const memory = new ParameterMemory(engine, new ParameterLayout(shapes, longest));
    const weights = memory.buffer();
    const gradients = memory.buffer();
    const adam = new Adam(memory, weights, gradients, options);
    const release = () => {
      adam.release();
      weights.release();
      gradients.release();
    };
    const values = async (name: string) => [...(await weights.read()).get(name)!.data];
    return { weights, gradients, adam, values, release };
  }

  it("moves by the learning rate against the gradient in the first step, whatever its size", async () => {
    const { weights, gradients, adam, values, release } = await setUp([{ name: "w", shape: [3] }]);
    await weights.view("w").write(Float32Array.of(1, 1, 1));
    await gradients.view("w").write(Float32Array.of(100, -0.01, 0));
    await adam.update({ learningRate: 0.1, gradientScale: 1 });
    assertClose(await values("w"), [0.9, 1.1, 1], 1e-6);
    release();
  });

  it("follows the formula over many steps, and momentum moves a weight without gradient", async () => {
    const { weights, gradients, adam, values, release } = await setUp([{ name: "w", shape: [2, 2] }]);
    const w = [0.5, -0.25, 2, 0];
    await weights.view("w").write(Float32Array.from(w));
    const [m, s] = [
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ];
    for (let k = 1; k <= 20; k++) {
      const g = [Math.sin(k), k === 1 ? 1 : 0, 1e-3 * k, -k];
      await gradients.view("w").write(Float32Array.from(g));
      await adam.update({ learningRate: 0.01, gradientScale: 0.5 });
      for (const i of w.keys()) {
        const scaled = 0.5 * g[i];
        m[i] = 0.9 * m[i] + 0.1 * scaled;
        s[i] = 0.999 * s[i] + 0.001 * scaled ** 2;
        w[i] -= ((0.01 / (1 - 0.9 ** k)) * m[i]) / (Math.sqrt(s[i]) / Math.sqrt(1 - 0.999 ** k) + 1e-8);
      }
    }
    assertClose(await values("w"), w, 1e-5);
    assert.ok(w[1] < -0.26); // gradient in the first step only
    assert.equal(adam.step, 20);
    release();
  });

  it("decays matrices by learning rate times weight decay, and spares biases", async () => {
    const shapes = [
      { name: "bias", shape: [2] },
      { name: "weight", shape: [1, 2] },
    ];
    const { weights, adam, values, release } = await setUp(shapes, { weightDecay: 0.5 });
    for (const { name, shape } of shapes)
      await weights.view(name).write(new Float32Array(shape.at(-1)!).fill(4));
    await adam.update({ learningRate: 0.1, gradientScale: 1 });
    assertClose(await values("weight"), [3.8, 3.8], 1e-6);
    assert.deepEqual(await values("bias"), [4, 4]);
    release();
  });

  it("updates a model of several segments as it updates one of a single segment", async () => {
    const shapes = [
      { name: "bias", shape: [20] },
      { name: "first", shape: [16, 2] },
      { name: "second", shape: [3, 10] },
    ];
    const results = [];
    for (const longest of [undefined, 64, 32]) {
      const { weights, gradients, adam, release } = await setUp(shapes, { weightDecay: 0.1 }, longest);
      assert.equal(weights.layout.segments.length, { 64: 2, 32: 3 }[longest ?? 0] ?? 1);
      for (const [i, { name, size }] of shapes
        .map((s) => ({ ...s, size: s.shape.reduce((a, b) => a * b) }))
        .entries()) {
        await weights.view(name).write(new Float32Array(size).map((_, k) => k - i));
        await gradients.view(name).write(new Float32Array(size).map((_, k) => Math.sin(k + i)));
      }
      await adam.update({ learningRate: 0.1, gradientScale: 0.5 });
      results.push([await weights.read(), await adam.exportState()]);
      release();
    }
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
    assert.throws(() => new ParameterLayout(shapes, 16), {
      code: "CHECKPOINT_CORRUPT",
      message: "first: expected at most 16 elements, got 32",
    });
  });

  it("updates long buffers to the last element", async () => {
    const size = 600_001;
    const { weights, gradients, adam, values, release } = await setUp([{ name: "w", shape: [size] }]);
    await weights.view("w").write(new Float32Array(size).fill(1));
    await gradients.view("w").write(new Float32Array(size).fill(-2));
    await adam.update({ learningRate: 0.5, gradientScale: 1 });
    const after = await values("w");
    assert.ok(after.every((value) => Math.abs(value - 1.5) < 1e-6));
    release();
  });

  it("goes on from exported state with the same bits", async () => {
    const shapes = [{ name: "w", shape: [5] }];
    const one = await setUp(shapes);
    const start = Float32Array.of(1, 2, 3, 4, 5);
    const gradient = (k: number) => start.map((x) => Math.sin(x * k));
    await one.weights.view("w").write(start);
    for (let k = 1; k <= 3; k++) {
      await one.gradients.view("w").write(gradient(k));
      await one.adam.update({ learningRate: 0.1, gradientScale: 1 });
    }
    const state = await one.adam.exportState();
    const two = await setUp(shapes);
    await two.weights.view("w").write(Float32Array.from(await one.values("w")));
    await two.adam.importState(state);
    for (const { gradients, adam } of [one, two]) {
      await gradients.view("w").write(gradient(4));
      await adam.update({ learningRate: 0.1, gradientScale: 1 });
    }
    assert.deepEqual(await two.values("w"), await one.values("w"));
    one.release();
    two.release();
  });

  it("refuses state that does not fit, and keeps its own", async () => {
    const { adam, release } = await setUp([{ name: "w", shape: [5] }]);
    const own = await adam.exportState();
    const short = new Map([["w", { shape: [4], data: new Float32Array(4).fill(1) }]]);
    await assert.rejects(adam.importState({ ...own, step: 3, moment2: short }), {
      code: "CHECKPOINT_CORRUPT",
      message: "second moment of w: expected [5], got 4 numbers",
    });
    await assert.rejects(adam.importState({ ...own, moment1: new Map() }), {
      message: "first moment of w: expected [5], got nothing",
    });
    await assert.rejects(adam.importState({ ...own, step: -1 }), { message: /whole number from 0, got -1/ });
    assert.deepEqual(await adam.exportState(), own);
    release();
  });
});
