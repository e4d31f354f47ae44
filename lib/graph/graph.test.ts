/**
 * @file Building graphs: sharing, shape rules, the node list, binding of dimensions, refusals.
 */
import assert from "node:assert/strict";
import {
  concat,
  Graph,
  gather,
  gatherElements,
  groupQueryAttention,
  layerNorm,
  linear,
  matmul,
  scatterNd,
  where,
} from "./index.js";

describe("a graph", () => {
  it("makes equal nodes and small equal constants once", () => {
    const graph = new Graph("shared");
    const x = graph.input("x", "float32", [2]);
    assert.equal(x.add(1).exp(), x.add(1).exp());
    assert.notEqual(x.add(1), x.add(2));
    assert.equal(graph.constant([1, 2]), graph.constant([1, 2]));
    assert.notEqual(graph.constant([1, 2]), graph.constant([1, 2], { dtype: "int64" }));
  });

  it("drops steps that do nothing", () => {
    const graph = new Graph("nothing");
    const x = graph.input("x", "float32", ["b", 3]);
    for (const same of [
      x.add(0),
      x.mul(1),
      x.div(1),
      x.sub(0),
      x.pow(1),
      x.neg().neg(),
      x.cast("float32"),
      x.reshape([-1, 3]),
      x.transpose().transpose(),
      x.expand(["b", 3]),
      x.slice(1, { start: 0, end: 3 }),
      x.pad(0, 0, 0),
      x.reshape([3, "b"]).reshape(["b", 3]),
    ]) {
      assert.equal(same, x);
    }
  });

  it("lists only what the outputs need, each node after the nodes it reads", () => {
    const graph = new Graph("schedule");
    const x = graph.input("x", "float32", ["b"]);
    x.exp();
    graph.output("y", x.add(1).log());
    assert.deepEqual(
      graph.schedule().map((node) => node.op),
      ["Input", "Constant", "Add", "Log"],
    );
    assert.ok(graph.nodes.some((node) => node.op === "Exp"));
  });

  it("infers shapes with symbolic dimensions", () => {
    const graph = new Graph("shapes");
    const x = graph.input("x", "float32", ["batch", "time", 8]);
    const past = graph.input("past", "float32", ["batch", "past", 8]);
    const ids = graph.input("ids", "int64", ["batch", "time"]);
    const w = graph.parameter("w", [8, 24]);
    assert.deepEqual(linear(x, w).shape, ["batch", "time", 24]);
    assert.deepEqual(x.reshape([-1, 8]).shape, ["batch*time", 8]);
    assert.deepEqual(x.reshape(["batch", "time", 2, -1]).transpose([0, 2, 1, 3]).shape, [
      "batch",
      2,
      "time",
      4,
    ]);
    assert.deepEqual(concat([past, x], 1).shape, ["batch", "past+time", 8]);
    assert.deepEqual(matmul(x, concat([past, x], 1), { transB: true }).shape, ["batch", "time", "past+time"]);
    assert.deepEqual(gather(w.transpose(), ids).shape, ["batch", "time", 8]);
    assert.deepEqual(x.slice(1, { end: -1 }).shape, ["batch", "time-1", 8]);
    assert.deepEqual(x.slice(1, { start: "time-1" }).shape, ["batch", 1, 8]);
    assert.deepEqual(x.argMax().shape, ["batch", "time"]);
    assert.deepEqual(x.reduceMean([-1], { keepDims: true }).shape, ["batch", "time", 1]);
    assert.deepEqual(
      x.split(-1, [2, 6]).map((t) => t.shape[2]),
      [2, 6],
    );
  });

  it("gives the symbolic names their values from what is fed, and refuses shapes that disagree", () => {
    const graph = new Graph("binding");
    graph.input("mask", "float32", ["batch", "past+time"]);
    graph.input("x", "float32", ["batch", "time", 8]);
    graph.input("past", "float32", ["batch", "past"]);
    assert.deepEqual(graph.bindDims({ x: [2, 3, 8], past: [2, 4], mask: [2, 7] }), {
      batch: 2,
      time: 3,
      past: 4,
    });
    assert.throws(
      () => graph.bindDims({ x: [2, 3, 8], past: [2, 4], mask: [2, 8] }),
      /input mask: expected shape \[batch, past\+time\] with batch = 2, time = 3, past = 4, got \[2, 8\]/,
    );
    assert.throws(
      () => graph.bindDims({ x: [2, 8] }),
      /input x: expected shape \[batch, time, 8\], got \[2, 8\]/,
    );
  });

  it("holds every kind of constant, float16 rounded to nearest even", () => {
    const graph = new Graph("constants");
    const half = graph.constant([1, -2, 65504, 65520, 2 ** -24, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 0.1], {
      dtype: "float16",
    });
    assert.deepEqual(
      [...(half.node.attrs as { data: Uint16Array }).data],
      [0x3c00, 0xc000, 0x7bff, 0x7c00, 1, 0x3c00, 0x3c02, 0x2e66],
    );
    assert.equal(graph.constant(BigInt64Array.of(1n)).dtype, "int64");
    assert.equal(graph.constant(Int32Array.of(1)).dtype, "int32");
    assert.equal(graph.constant([0, 5], { dtype: "bool" }).dtype, "bool");
    assert.deepEqual(graph.constant(3).shape, []);
    assert.deepEqual(graph.constant([1, 2, 3, 4], { shape: [2, 2] }).shape, [2, 2]);
    assert.throws(
      () => graph.constant([1, 2], { shape: [3] }),
      /constant: shape \[3\] needs 3 values, got 2/,
    );
    assert.throws(() => graph.constant(Uint8Array.of(1)), /pass dtype "bool"/);
    assert.throws(
      () => graph.constant(Float32Array.of(1), { dtype: "int64" }),
      /dtype int64 does not fit Float32Array/,
    );
  });

  it("gives a parameter asked for twice, and refuses other uses of a name", () => {
    const graph = new Graph("names");
    assert.equal(graph.parameter("w", [2, 3]), graph.parameter("w", [2, 3]));
    assert.throws(() => graph.parameter("w", [3, 2]), /input "w": expected a name/);
    assert.throws(() => graph.input("w", "float32", [2]), /input "w": expected a name/);
    assert.throws(() => graph.input("", "float32", [2]), /input "": expected a name/);
    graph.output("y", graph.parameter("w", [2, 3]));
    assert.throws(
      () => graph.output("y", graph.parameter("w", [2, 3])),
      /already has an output of this name/,
    );
  });

  it("refuses operands that do not fit, saying which and why", () => {
    const graph = new Graph("refusals");
    const x = graph.input("x", "float32", ["b", 4]);
    const ids = graph.input("ids", "int64", ["b"]);
    const flags = graph.input("flags", "bool", ["b", 4]);
    const other = new Graph("elsewhere").input("x", "float32", ["b", 4]);
    assert.throws(() => x.add(other), /Add: an operand belongs to graph elsewhere, not refusals/);
    assert.throws(
      () => x.add(ids),
      /Add: operands \[b, 4\] and \[b\] are float32 and int64|cannot broadcast/,
    );
    assert.throws(() => flags.add(flags), /Add: bool operands have no arithmetic/);
    assert.throws(() => where(x, x, x), /Where: condition must be bool, got float32/);
    assert.throws(() => ids.exp(), /Exp: expected a float tensor, got int64/);
    assert.throws(() => x.not(), /Not: expected bool/);
    assert.throws(() => x.and(flags), /And/);
    assert.throws(() => matmul(x, x), /MatMul: cannot multiply float32 \[b, 4\] by float32 \[b, 4\]/);
    assert.throws(() => matmul(ids, x), /expected a matrix or a batch of them, got \[b\]/);
    assert.throws(
      () => linear(x, graph.parameter("w", [4, 5]), graph.parameter("b", [4])),
      /bias \[4\] does not fit an output of 5/,
    );
    assert.throws(
      () => layerNorm(x, graph.parameter("g", [3]), graph.parameter("h", [4])),
      /weight must be float32 \[4\], got float32 \[3\]/,
    );
    assert.throws(() => x.reshape([3, -1]), /cannot divide \[b, 4\] into \[3, -1\]/);
    assert.throws(() => x.reshape([3]), /\[b, 4\] and \[3\] differ in size/);
    assert.throws(() => x.transpose([0, 0]), /\[0,0\] is not an order of the axes/);
    assert.throws(() => x.reduceSum([2]), /axis 2 is outside a tensor of rank 2/);
    assert.throws(() => x.reduceSum([0, 0]), /axes \[0,0\] repeat/);
    assert.throws(() => x.slice(1, { end: 5 }), /bound 5 is outside axis 1/);
    assert.throws(() => x.split(1, 3), /has no 3 equal parts/);
    assert.throws(() => x.split(1, [1, 2]), /do not make up axis 1/);
    assert.throws(() => x.expand(["b", 5]), /cannot broadcast|does not broadcast/);
    assert.throws(() => x.squeeze(1), /axis 1 of \[b, 4\] is not 1/);
    assert.throws(() => concat([x, ids], 0), /Concat: int64 \[b\] does not join float32 \[b, 4\]/);
    assert.throws(() => concat([], 0), /needs at least one tensor/);
    assert.throws(() => gather(x, x), /indices must be int64 or int32, got float32/);
    assert.throws(() => gatherElements(x, ids), /indices \[b\] do not fit \[b, 4\]/);
    assert.throws(() => scatterNd(x, ids.unsqueeze(-1), ids), /expected updates \[b, 4\], got \[b\]/);
    assert.throws(() => x.clip(0, Number.NaN), /Clip: max must be finite, got NaN/);
    assert.throws(() => graph.dimSource("time"), /dimension time: no input of graph refusals has it/);
    const cache = graph.input("cache", "float32", ["b", 1, 6, 4]);
    const lengths = graph.input("lengths", "int32", ["b"]);
    const query = x.unsqueeze(1);
    assert.throws(
      () =>
        groupQueryAttention(
          {
            query,
            key: query,
            value: query,
            pastKey: cache,
            pastValue: cache,
            seqlensK: lengths,
            totalSequenceLength: lengths,
          },
          { numHeads: 1 },
        ),
      /its kernels need heads of a multiple of 8, got 4/,
    );
  });
});
