/**
 * @file Gradients of every op against central differences, and what `gradients` itself promises.
 */
import assert from "node:assert/strict";
import { formulaCases, gradientCases } from "./gradient-cases.js";
import {
  Graph,
  gather,
  gradients,
  groupQueryAttention,
  linear,
  matmul,
  opNames,
  opOf,
  type Tensor,
} from "./index.js";
import { checkGradient, type GradientCase, runGraph } from "./testing.js";

const TOLERANCE = 2e-4; // see checkGradient

/** Ops that differences cannot check, one blind to the value and one too coarse; tests below give their values. */
const checkedByValue = new Set(["StopGradient", "Cast"]);

describe("gradients", () => {
  it("every op that has a gradient has a case here", () => {
    const graph = new Graph("lookup");
    const differentiable = opNames().filter((op) => {
      const spec = opOf({ op, id: 0, graph, inputs: [], attrs: {}, outputs: [] });
      return spec?.vjp instanceof Function;
    });
    assert.deepEqual(
      differentiable.filter((op) => gradientCases[op] === undefined && !checkedByValue.has(op)),
      [],
    );
    assert.deepEqual(
      Object.keys(gradientCases).filter((op) => !differentiable.includes(op)),
      [],
    );
  });

  for (const [op, list] of [...Object.entries(gradientCases), ["formula", formulaCases] as const]) {
    for (const test of list) {
      it(`of ${op} agree with central differences: ${test.title}`, async () => {
        for (const symbolic of [false, true]) {
          const { error, where: place } = await checkGradient(test, symbolic);
          assert.ok(error <= TOLERANCE, `${symbolic ? "symbolic" : "fixed"} shapes: ${place}`);
        }
      });
    }
  }

  /** The gradient of Σ build(inputs) by each input, at given values. */
  async function at(
    values: Record<string, number[]>,
    build: GradientCase["build"],
  ): Promise<Record<string, number[]>> {
    const graph = new Graph("at");
    const inputs: Record<string, Tensor> = {};
    for (const [name, list] of Object.entries(values))
      inputs[name] = graph.input(name, "float32", [list.length]);
    const found = gradients(build(inputs, graph).reduceSum(), Object.values(inputs));
    for (const [i, name] of Object.keys(values).entries()) graph.output(`d${name}`, found[i]);
    const feeds = Object.entries(values).map(
      ([name, data]) => [name, { dims: [data.length], data }] as const,
    );
    const result = await runGraph(graph, Object.fromEntries(feeds));
    return Object.fromEntries(Object.entries(result).map(([name, { data }]) => [name, Array.from(data)]));
  }

  it("a tie of minimum or maximum gives each operand half", async () => {
    const values = { a: [1, 2, 3], b: [2, 2, 2] };
    assert.deepEqual(await at(values, ({ a, b }) => a.maximum(b)), { da: [0, 0.5, 1], db: [1, 0.5, 0] });
    assert.deepEqual(await at(values, ({ a, b }) => a.minimum(b)), { da: [1, 0.5, 0], db: [0, 0.5, 1] });
  });

  it("clip passes the gradient at its bounds and stops it outside", async () => {
    const { dx } = await at({ x: [-2, -1, 0, 1, 2] }, ({ x }) => x.clip(-1, 1));
    assert.deepEqual(dx, [0, 1, 1, 1, 0]);
  });

  it("relu, abs and sign have gradient 0 at 0", async () => {
    assert.deepEqual(await at({ x: [0] }, ({ x }) => x.relu().add(x.abs()).add(x.sign())), { dx: [0] });
  });

  it("equal largest elements share the gradient of reduceMax", async () => {
    assert.deepEqual(await at({ x: [3, 1, 3, 2] }, ({ x }) => x.reduceMax()), { dx: [0.5, 0, 0.5, 0] });
  });

  it("0 to the power 0 has gradient 0, and so has a power of 0", async () => {
    assert.deepEqual(await at({ x: [0, 2], p: [0, 1] }, ({ x, p }) => x.pow(p)), {
      dx: [0, 1],
      dp: [0, 2 * Math.fround(Math.LN2)],
    });
  });

  it("stopGradient lets nothing pass", async () => {
    assert.deepEqual(await at({ x: [3] }, ({ x }) => x.mul(x.stopGradient())), { dx: [3] });
  });

  it("a gradient passes a cast to float16 and back", async () => {
    assert.deepEqual(await at({ x: [0.5, 2] }, ({ x }) => x.cast("float16").cast("float32").mul(x)), {
      dx: [1, 4],
    });
  });

  it("the clipped PPO ratio at its corners has the gradient that PyTorch gives", async () => {
    // loss = max(−A·r, −A·clamp(r, 0.8, 1.2)) with A = 1: at r = 1 both are equal and each passes half of −1.
    const { dr } = await at({ r: [0.5, 0.8, 1, 1.2, 1.5] }, ({ r }) =>
      r.neg().maximum(r.clip(0.8, 1.2).neg()),
    );
    assert.deepEqual(dr, [-1, -1, -1, -1, 0]);
  });

  it("zero-length axes give zero-length gradients and zero sums", async () => {
    const graph = new Graph("empty");
    const x = graph.input("x", "float32", ["n", 3]);
    const w = graph.input("w", "float32", [3, 2]);
    const b = graph.input("b", "float32", [2]);
    const [dx, dw, db] = gradients(linear(x, w, b).tanh().reduceSum(), [x, w, b]);
    graph.output("dx", dx);
    graph.output("dw", dw);
    graph.output("db", db);
    const filled = (dims: number[], count: number) => ({
      dims,
      data: Array.from({ length: count }, () => 1),
    });
    const result = await runGraph(graph, { x: filled([0, 3], 0), w: filled([3, 2], 6), b: filled([2], 2) });
    assert.deepEqual(result.dx, { dims: [0, 3], data: [] });
    assert.deepEqual(result.dw, { dims: [3, 2], data: [0, 0, 0, 0, 0, 0] });
    assert.deepEqual(result.db, { dims: [2], data: [0, 0] });
  });

  it("a tensor that the loss does not depend on gets zeros", async () => {
    const graph = new Graph("unrelated");
    const x = graph.input("x", "float32", ["n"]);
    const y = graph.input("y", "float32", ["n", 2]);
    graph.output("dy", gradients(x.reduceSum(), [y])[0]);
    const result = await runGraph(graph, { x: { dims: [1], data: [1] }, y: { dims: [1, 2], data: [1, 1] } });
    assert.deepEqual(result.dy, { dims: [1, 2], data: [0, 0] });
  });

  it("a gradient can be differentiated again", async () => {
    const graph = new Graph("twice");
    const x = graph.input("x", "float32", [2]);
    const [first] = gradients(x.pow(3).reduceSum(), [x]);
    graph.output("second", gradients(first.reduceSum(), [x])[0]);
    const result = await runGraph(graph, { x: { dims: [2], data: [1, -2] } });
    assert.deepEqual(result.second.data, [6, -12]);
  });

  it("a seed weighs the elements of a loss that is not a scalar", async () => {
    const graph = new Graph("seeded");
    const x = graph.input("x", "float32", [2]);
    graph.output("dx", gradients(x.mul(x), [x], { seed: graph.constant([1, 10]) })[0]);
    assert.deepEqual((await runGraph(graph, { x: { dims: [2], data: [1, 2] } })).dx.data, [2, 40]);
  });

  it("an embedding used twice gets one scatter into the dense gradient, not an array of zeros", () => {
    const graph = new Graph("tied");
    const table = graph.parameter("table", [4, 3]);
    const ids = graph.input("ids", "int64", ["n"]);
    const loss = matmul(gather(table, ids), table, { transB: true }).reduceSum();
    const [gradient] = gradients(loss, [table]);
    graph.output("gradient", gradient);
    assert.equal(gradient.node.op, "ScatterNd");
    assert.equal(gradient.node.inputs[0]?.node.op, "MatMul");
    assert.ok(!graph.schedule().some((node) => node.op === "Expand" && node.outputs[0].shape[0] === 4));
  });

  it("refuses a loss of several elements, another graph's tensor, and ops without gradient", () => {
    const graph = new Graph("refused");
    const x = graph.input("x", "float32", [2]);
    const q = graph.input("q", "float32", [1, 1, 8]);
    const past = graph.input("past", "float32", [1, 1, 4, 8]);
    const seqlens = graph.input("seqlens", "int32", [1]);
    assert.throws(() => gradients(x, [x]), /the loss must have one element, got \[2\]/);
    const other = new Graph("other").input("x", "float32", [2]);
    assert.throws(() => gradients(x.reduceSum(), [other]), /x must be a float tensor of the loss's graph/);
    const { output: attended } = groupQueryAttention(
      {
        query: q,
        key: q,
        value: q,
        pastKey: past,
        pastValue: past,
        seqlensK: seqlens,
        totalSequenceLength: seqlens,
      },
      { numHeads: 1 },
    );
    assert.throws(() => gradients(attended.reduceSum(), [q]), /GroupQueryAttention has no gradient, because/);
  });
});
