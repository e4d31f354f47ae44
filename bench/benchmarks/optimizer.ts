/**
 * @file optimizer: one step of Adam over all weights of GPT-2 small with value head, in place.
 */
import { createEngine } from "../../lib/engine/index.js";
import { type Gpt2Config, parameterCount, parameterSpecs, parseModelConfig } from "../../lib/models/index.js";
import { Adam } from "../../services/trainer/learner/adam.js";
import { GradientBuffer } from "../../services/trainer/learner/gradients.js";
import { ParameterLayout, ParameterMemory } from "../../services/trainer/learner/parameter-store.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { timeRuns } from "../measure.js";
import { modelJson } from "../models.js";

const specsOf = (bench: Bench) => {
  const config = parseModelConfig(modelJson("gpt2", bench)) as Gpt2Config;
  return parameterSpecs(config, "causal-lm-with-value");
};

const caseOf = (bench: Bench) =>
  `${(parameterCount(specsOf(bench)) / 1e6).toFixed(bench.quick ? 3 : 0)}M weights`;

/** An optimizer step. */
export const optimizer: Benchmark = {
  name: "optimizer",
  title: "one step of Adam over all weights of GPT-2 small, in place",
  models: [],
  async run(bench) {
    const { device, threads, runs = sized(bench, 9, 2) } = bench;
    const engine = await createEngine({ device, intraOpThreads: threads });
    const layout = new ParameterLayout(specsOf(bench));
    const memory = new ParameterMemory(engine, layout);
    const weights = memory.buffer();
    const gradients = new GradientBuffer(memory);
    for (const vector of [...weights.vectors, ...gradients.total.vectors]) {
      await vector.write(new Float32Array(vector.size).map((_, i) => 1e-3 * Math.sin(i)));
    }
    const adam = new Adam(memory, weights, gradients.total);
    const repetitions = { warmup: 2, runs };
    const step = (gradientScale: number) => adam.update({ learningRate: 1e-5, gradientScale });
    try {
      const plain = await timeRuns(repetitions, () => step(1));
      const clipped = await timeRuns(repetitions, async () =>
        step(Math.min(1, 1 / (await gradients.norm("bench")))),
      );
      const name = caseOf(bench);
      bench.row({ case: name, metric: "step", unit: "s", samples: plain });
      bench.row({ case: name, metric: "norm, clip, step", unit: "s", samples: clipped });
    } finally {
      for (const made of [adam, gradients, weights]) made.release();
      await engine.close();
    }
  },
  peer: (bench) => ({
    script: "optimizer.py",
    input: {
      case: caseOf(bench),
      shapes: specsOf(bench).map(({ shape }) => shape),
      runs: bench.runs ?? sized(bench, 9, 2),
    },
  }),
};
