/**
 * @file Both bindings of ONNX Runtime give the same numbers on the same graph.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
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

  it("repeat the same bits run after run, also with several threads", async () => {
    const engine = await createEngine({ intraOpThreads: 2 });
    const graph = new Graph("repeat");
    const x = graph.input("x", "float32", ["n", 256]);
    const w = graph.parameter("w", [256, 256]);
    const y = x.matmul(w).softmax(-1).matmul(w).tanh();
    graph.output("sum", y.reduceSum());
    graph.output("gradient", gradients(y.reduceSum(), [w])[0]);
    const program = await engine.compile(graph);
    const feeds = {
      x: engine.tensor("float32", [300, 256], wave(300 * 256, 0.9)),
      w: engine.tensor("float32", [256, 256], wave(256 * 256, 0.4)),
    };
    const seen = new Set<string>();
    for (let run = 0; run < 5; run++) {
      const { sum, gradient } = await program.run(feeds);
      const bits = createHash("sha256");
      for (const { data } of [sum, gradient]) bits.update(data as Float32Array);
      seen.add(bits.digest("hex"));
      sum.release();
      gradient.release();
    }
    assert.equal(seen.size, 1);
    await engine.close();
  });
});
