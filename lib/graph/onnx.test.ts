/**
 * @file The ONNX models that graphs become.
 */
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { type GraphProto, ModelProtoSchema } from "./gen/onnx/onnx_pb.js";
import { Graph, gradients, layerNorm, linear, matmul, onnxOutputName, toOnnx } from "./index.js";
import { runGraph } from "./testing.js";

function emitted(graph: Graph): GraphProto {
  return fromBinary(ModelProtoSchema, toOnnx(graph)).graph!;
}

function ops(graph: Graph): string[] {
  return emitted(graph).node.map((node) => node.opType);
}

/** A small block of a transformer with its gradients. */
function trainingGraph(): Graph {
  const graph = new Graph("block");
  const x = graph.input("x", "float32", ["batch", "time", 8]);
  const w = graph.parameter("w", [8, 8]);
  const b = graph.parameter("b", [8]);
  const y = linear(layerNorm(x, graph.parameter("g", [8]), b), w, b).tanh();
  const loss = graph.output("loss", y.reduceMean());
  for (const [i, t] of gradients(loss, graph.parameters).entries())
    graph.output(`d${graph.parameters[i].name}`, t);
  return graph;
}

describe("the ONNX form of a graph", () => {
  it("is the same bytes for the same graph", () => {
    assert.deepEqual(toOnnx(trainingGraph()), toOnnx(trainingGraph()));
    const graph = trainingGraph();
    assert.deepEqual(toOnnx(graph), toOnnx(graph));
  });

  it("leaves out what no output needs", () => {
    const graph = new Graph("dead");
    const x = graph.input("x", "float32", [2]);
    x.exp();
    graph.output("y", x.neg());
    assert.deepEqual(ops(graph), ["Neg"]);
  });

  it("keeps every input and parameter, needed or not, as model inputs with symbolic dimensions", () => {
    const graph = new Graph("inputs");
    const x = graph.input("x", "float32", ["batch", 3]);
    graph.input("unused", "int64", ["batch*time"]);
    graph.parameter("w", [2]);
    graph.output("y", x.neg());
    const { input } = emitted(graph);
    const shapes = input.map(({ name, type }) => [
      name,
      ...(type?.value.value?.shape?.dim ?? []).map((dim) => dim.value.value),
    ]);
    assert.deepEqual(shapes, [
      ["x", "batch", 3n],
      ["unused", "batch*time"],
      ["w", 2n],
    ]);
  });

  it("multiplies transposed matrices without transposing them, forward and backward", () => {
    const graph = new Graph("products");
    const x = graph.input("x", "float32", ["batch", "time", 8]);
    const w = graph.parameter("w", [4, 8]);
    const heads = matmul(x, w, { transB: true }).reshape(["batch", "time", 2, 2]).transpose([0, 2, 1, 3]);
    const scores = matmul(heads, heads, { transB: true, alpha: 0.5 });
    graph.output("dw", gradients(scores.softmax().reduceMax(), [w])[0]);
    // One for the heads and one for their gradient; the products themselves need none.
    assert.equal(ops(graph).filter((op) => op === "Transpose").length, 2);
    assert.ok(ops(graph).includes("Gemm") && ops(graph).includes("FusedMatMul"));
  });

  it("takes mean and deviation for the gradient of a layer norm from its kernel", () => {
    const outputs = (graph: Graph): number =>
      emitted(graph).node.find((node) => node.opType === "LayerNormalization")?.output.length ?? 0;
    assert.equal(outputs(trainingGraph()), 3);
    const graph = new Graph("forward");
    const w = graph.parameter("w", [4]);
    graph.output("y", layerNorm(graph.input("x", "float32", ["n", 4]), w, w));
    assert.equal(outputs(graph), 1);
  });

  it("computes each symbolic dimension once, and none where 0 and −1 say enough", () => {
    const graph = new Graph("dims");
    const x = graph.input("x", "float32", ["batch", "time", 8]);
    graph.output("rows", x.reshape([-1, 8]).exp());
    graph.output("heads", x.reshape(["batch", "time", 2, 4]).exp());
    assert.ok(!ops(graph).includes("Shape"));
    graph.output("turned", x.reshape(["time", "batch", 8]).exp().reshape(["time", "batch", 2, 4]));
    graph.output("wide", x.reshape(["time", 2, "batch", 4]).exp());
    assert.equal(ops(graph).filter((op) => op === "Shape").length, 2);
  });

  it("names an updated parameter apart from the parameter", async () => {
    const graph = new Graph("update");
    const w = graph.parameter("w", [2]);
    graph.output("w", w.sub(1));
    assert.equal(onnxOutputName(graph, "w"), "w:out");
    assert.equal(emitted(graph).output[0].name, "w:out");
    assert.deepEqual((await runGraph(graph, { w: { dims: [2], data: [3, 4] } })).w.data, [2, 3]);
  });

  it("can output an input, a constant and one tensor under two names", async () => {
    const graph = new Graph("names");
    const x = graph.input("x", "float32", ["n"]);
    const y = x.add(1);
    graph.output("x", x);
    graph.output("one", graph.constant(1));
    graph.output("first", y);
    graph.output("second", y);
    graph.output("same", y.stopGradient());
    graph.output("after", y.mul(2));
    const result = await runGraph(graph, { x: { dims: [2], data: [1, 2] } });
    const numbers = Object.entries(result).map(([name, { data }]) => [name, ...Array.from(data)]);
    assert.deepEqual(numbers, [
      ["x", 1, 2],
      ["one", 1],
      ["first", 2, 3],
      ["second", 2, 3],
      ["same", 2, 3],
      ["after", 4, 6],
    ]);
  });

  it("refuses a graph without outputs", () => {
    assert.throws(() => toOnnx(new Graph("silent")), /graph silent has no outputs/);
  });
});
