/**
 * @file A small network learns: forward, loss, gradients and Adam in one graph, run step after step.
 */
import assert from "node:assert/strict";
import { Graph, globalNorm, gradients, linear, type Tensor } from "./index.js";
import { compile, type HostTensor, spread } from "./testing.js";

const SHAPES = { w1: [2, 16], b1: [16], w2: [16, 1], b2: [1] } as const;

/** One step of Adam (arXiv:1412.6980) on all parameters, with the gradient clipped to a global norm of 1. */
function trainingStep(): Graph {
  const graph = new Graph("regression");
  const x = graph.input("x", "float32", ["batch", 2]);
  const target = graph.input("target", "float32", ["batch", 1]);
  const rate = graph.input("rate", "float32", []); // learning rate with both bias corrections folded in by the host
  const [w1, b1, w2, b2] = Object.entries(SHAPES).map(([name, shape]) => graph.parameter(name, shape));
  const error = linear(linear(x, w1, b1).tanh(), w2, b2).sub(target);
  const loss = graph.output("loss", error.mul(error).reduceMean());
  const parameters = [w1, b1, w2, b2];
  const found = gradients(loss, parameters);
  const scale = globalNorm(found).add(1e-6).pow(-1).minimum(1);
  for (const [i, p] of parameters.entries()) {
    const moment = (kind: string): Tensor => graph.input(`${p.name}.${kind}`, "float32", p.shape);
    const g = found[i].mul(scale);
    const m = graph.output(`${p.name}.m`, moment("m").mul(0.9).add(g.mul(0.1)));
    const v = graph.output(`${p.name}.v`, moment("v").mul(0.999).add(g.mul(g).mul(0.001)));
    graph.output(p.name!, p.sub(rate.mul(m).div(v.sqrt().add(1e-8))));
  }
  return graph;
}

describe("a training graph", () => {
  it("fits x·y with sixteen hidden units", async () => {
    const runner = await compile(trainingStep());
    try {
      const state: Record<string, HostTensor> = {};
      for (const [i, [name, dims]] of Object.entries(SHAPES).entries()) {
        const count = dims.reduce((a: number, b: number) => a * b, 1);
        const zero = { dims, data: Array.from({ length: count }, () => 0) };
        state[name] = name.startsWith("w") ? { dims, data: spread(count, i) } : zero;
        state[`${name}.m`] = zero;
        state[`${name}.v`] = zero;
      }
      const x = spread(64, 5);
      const target = Array.from({ length: 32 }, (_, i) => x[2 * i] * x[2 * i + 1]);
      const losses: number[] = [];
      for (let step = 1; step <= 400; step++) {
        const rate = (0.02 * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step);
        const { loss, ...updated } = await runner.run({
          ...state,
          x: { dims: [32, 2], data: x },
          target: { dims: [32, 1], data: target },
          rate: { dims: [], data: [rate] },
        });
        losses.push(loss.data[0]);
        Object.assign(state, updated);
      }
      // Predicting the mean leaves a loss of about 0.1; a fitted network is far below.
      assert.ok(losses[0] > 0.1 && losses[399] < 1e-3, `loss went from ${losses[0]} to ${losses[399]}`);
    } finally {
      await runner.release();
    }
  });
});
