import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { Graph, gradients, type Tensor } from "../../../lib/graph/index.js";
import { policyLossOf, valueLossOf } from "./loss.js";
import { policyClipFraction, valueClipFraction } from "./stats.js";
import { assertClose } from "./testing/golden.js";

describe("PPO loss", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ intraOpThreads: 1 });
  });
  after(() => engine.close());

  /** Loss of vectors [n], and its gradient by the first. */
  async function run(loss: (...inputs: Tensor[]) => Tensor, ...vectors: number[][]) {
    const graph = new Graph("loss");
    const inputs = vectors.map((_, i) => graph.input(`x${i}`, "float32", ["n"]));
    const result = graph.output("loss", loss(...inputs));
    graph.output("gradient", gradients(result, [inputs[0]])[0]);
    const program = await engine.compile(graph);
    const feeds = Object.fromEntries(
      vectors.map((v, i) => [`x${i}`, engine.tensor("float32", [v.length], Float32Array.from(v))]),
    );
    const outputs = await program.run(feeds);
    const gradient = [...((await outputs.gradient.read()) as Float32Array)];
    const [value] = (await outputs.loss.read()) as Float32Array;
    for (const tensor of [...Object.values(feeds), ...Object.values(outputs)]) tensor.release();
    program.release();
    return { value, gradient };
  }

  // the new logprob that gives this ratio to an old logprob of 0
  const logprob = (ratio: number) => Math.log(ratio);
  const policy = (clipRange: number) => (logprobs: Tensor, advantages: Tensor) =>
    policyLossOf(logprobs.exp(), advantages, clipRange);

  it("pays advantage times ratio inside the clip interval, and only the bound beyond it where that costs more", async () => {
    const cases = [
      { ratio: 1.1, advantage: 2, loss: -2.2, slope: -2.2 }, // inside
      { ratio: 0.9, advantage: -2, loss: 1.8, slope: 1.8 }, // inside
      { ratio: 1.5, advantage: 2, loss: -2.4, slope: 0 }, // above, good: no more to be had
      { ratio: 1.5, advantage: -2, loss: 3, slope: 3 }, // above, bad: still to be undone
      { ratio: 0.5, advantage: 2, loss: -1, slope: -1 }, // below, good: still to be undone
      { ratio: 0.5, advantage: -2, loss: 1.6, slope: 0 }, // below, bad: no more to be had
    ];
    for (const { ratio, advantage, loss, slope } of cases) {
      const { value, gradient } = await run(policy(0.2), [logprob(ratio)], [advantage]);
      assertClose(value, loss, 1e-5, `loss at ratio ${ratio}`);
      assertClose(gradient, [slope], 1e-5, `gradient at ratio ${ratio}`);
    }
  });

  it("is a mean over the tokens, and so are its gradients", async () => {
    const { value, gradient } = await run(policy(0.2), [0, 0, 0, logprob(1.5)], [1, -1, 2, 4]);
    assertClose(value, (-1 + 1 - 2 - 4.8) / 4, 1e-5);
    assertClose(gradient, [-0.25, 0.25, -0.5, 0], 1e-6);
  });

  it("passes the gradient at a ratio of exactly 1, where both candidates tie", async () => {
    assert.deepEqual((await run(policy(0.2), [0], [3])).gradient, [-3]);
  });

  it("takes the larger of plain and clipped value error, and no gradient through a clipped one", async () => {
    const value = (clip: number) => (values: Tensor, old: Tensor, returns: Tensor) =>
      valueLossOf(values, old, returns, clip);
    const cases = [
      { u: 0.1, old: 0, returns: 1, loss: 0.5 * 0.81, slope: -0.9 }, // inside
      { u: 0.5, old: 0, returns: 1, loss: 0.5 * 0.64, slope: 0 }, // clipped to 0.2, whose error is larger
      { u: 0.5, old: 0, returns: -1, loss: 0.5 * 2.25, slope: 1.5 }, // clipped, but the plain error is larger
      { u: -0.5, old: 0, returns: 1, loss: 0.5 * 2.25, slope: -1.5 },
    ];
    for (const { u, old, returns, loss, slope } of cases) {
      const result = await run(value(0.2), [u], [old], [returns]);
      assertClose(result.value, loss, 1e-6, `loss at ${u}`);
      assertClose(result.gradient, [slope], 1e-6, `gradient at ${u}`);
    }
    // clipped to 0.25, as far below the return of 0.5 as the value is above it: half of the gradient
    const tie = await run(value(0.25), [0.75], [0], [0.5]);
    assertClose(tie.gradient, [0.125], 1e-6);
  });

  it("counts as clipped only tokens whose clipped candidate is strictly the larger", () => {
    const ratio = Float32Array.of(1.1, 1.5, 1.5, 0.5, 0.5, 1);
    const advantages = Float32Array.of(2, 2, -2, 2, -2, 0);
    assert.equal(policyClipFraction(ratio, advantages, 0.2), 2 / 6);
    const values = Float32Array.of(0.1, 0.5, 0.5, -0.5);
    const returns = Float32Array.of(1, 1, -1, 1);
    assert.equal(valueClipFraction(values, new Float32Array(4), returns, 0.2), 1 / 4);
  });
});
