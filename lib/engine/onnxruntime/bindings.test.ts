/**
 * @file Both bindings of ONNX Runtime give the same numbers on the same graph.
 */
import assert from "node:assert/strict";
import { Graph, gradients } from "../../graph/index.js";
import { createEngine, type OrtBinding } from "../index.js";

/** Two layers, their loss and all gradients. */
function trainingGraph(): Graph {
  const graph = new Graph("two-layers");
  const x = graph.input("x", "float32", ["batch", 16]);
  const labels = graph.input("labels", "int64", ["batch"]);
  const weights = [graph.parameter("w1", [16, 32]), graph.parameter("w2", [32, 8])];
  const logits = x.matmul(weights[0]).tanh().matmul(weights[1]);
  const chosen = logits.logSoftmax(-1).gatherElements(labels.unsqueeze(-1), -1);
  const loss = graph.output("loss", chosen.reduceMean().neg());
  for (const [i, gradient] of gradients(loss, weights).entries()) graph.output(`w${i + 1}`, gradient);
  return graph;
}

/** A fixed sequence in (−1, 1). */
const wave = (count: number, step: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(step * (i + 1)));

async function run(binding: OrtBinding) {
  const engine = await createEngine({ binding, intraOpThreads: 1 });
  const program = await engine.compile(trainingGraph());
  const feeds = {
    x: engine.tensor("float32", [4, 16], wave(64, 1.1)),
    labels: engine.tensor("int64", [4], BigInt64Array.of(0n, 7n, 3n, 3n)),
    w1: engine.tensor("float32", [16, 32], wave(512, 0.7)),
    w2: engine.tensor("float32", [32, 8], wave(256, 0.3)),
  };
  const w1 = engine.tensor("float32", [16, 32]);
  const out = await program.run(feeds, { w1 });
  const results = await Promise.all(Object.values(out).map((tensor) => tensor.read()));
  await engine.close();
  return { names: Object.keys(out), results };
}

describe("the two bindings of ONNX Runtime", () => {
  it("agree bit for bit on a loss and its gradients", async () => {
    const [copyFree, stock] = [await run("koffi"), await run("node")];
    assert.deepEqual(copyFree.names, ["loss", "w1", "w2"]);
    assert.deepEqual(copyFree, stock);
    assert.ok(copyFree.results.every((values) => (values as Float32Array).every(Number.isFinite)));
  });
});
