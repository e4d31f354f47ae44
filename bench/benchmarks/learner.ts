/**
 * @file learner: forward and backward pass of a PPO minibatch through GPT-2 small with value head, gradients left in the engine.
 */
import { Rng } from "../../lib/dataset/index.js";
import { createEngine } from "../../lib/engine/index.js";
import type { Gpt2Config } from "../../lib/models/index.js";
import { PolicyLearner } from "../../services/trainer/learner/policy-learner.js";
import type { PpoMinibatch } from "../../services/trainer/learner/policy-objective.js";
import { PPO_PROFILES } from "../../services/trainer/ppo/options.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { trainingFlops } from "../flops.js";
import { peakMemoryMib, resetPeakMemory, timeRuns } from "../measure.js";
import { loadGpt2 } from "../models.js";
import { randomIds, randomValues } from "../workload.js";

interface Sizes {
  readonly rows: readonly number[];
  /** Positions that are computed; the sequence has one token more, which is only predicted. */
  readonly tokens: number;
  /** Tokens of the response: positions with logits. */
  readonly response: number;
}

const sizesOf = (bench: Bench): Sizes =>
  sized(bench, { rows: [1, 8, 32], tokens: 80, response: 50 }, { rows: [1, 2], tokens: 8, response: 5 });

/** Forward and backward pass. */
export const learner: Benchmark = {
  name: "learner",
  title: "forward and backward pass of PPO on GPT-2 small, 50 response tokens a row",
  models: ["gpt2"],
  async run(bench) {
    const { device, threads, runs = sized(bench, 5, 1) } = bench;
    const { config, weights } = await loadGpt2(bench.model("gpt2"));
    const { rows, tokens, response } = sizesOf(bench);
    const engine = await createEngine({ device, intraOpThreads: threads });
    const policy = await PolicyLearner.create(engine, config, weights, {
      ppo: PPO_PROFILES.default,
      learner: { learningRate: 1e-5 },
    });
    weights.clear();
    try {
      for (const count of rows) {
        bench.say(`${count}×${tokens}`);
        const batch = minibatch(config, count, tokens, response);
        resetPeakMemory();
        const samples = await policy.exclusive((model) =>
          timeRuns({ warmup: sized(bench, 2, 1), runs }, async () => {
            await model.accumulate(batch);
            model.discardGradients();
          }),
        );
        const name = `${count}×${tokens}`;
        const flops = count * trainingFlops(config, tokens, response);
        bench.row({ case: name, metric: "forward+backward", unit: "s", samples, flops });
        bench.row({ case: name, metric: "peak memory", unit: "MiB", samples: [peakMemoryMib()] });
      }
    } finally {
      await policy.release();
      await engine.close();
    }
  },
  peer: (bench) => ({
    script: "learner.py",
    input: { model: bench.model("gpt2"), ...sizesOf(bench), runs: bench.runs ?? sized(bench, 3, 1) },
  }),
};

function minibatch(config: Gpt2Config, rows: number, tokens: number, response: number): PpoMinibatch {
  const rng = Rng.from(1, "learner", rows);
  const each = <T>(make: () => T) => Array.from({ length: rows }, make);
  const uniform = -Math.log(config.vocabSize); // what a model that knows nothing says of any token
  return {
    sequences: each(() => ({
      query: randomIds(rng, tokens + 1 - response, config.vocabSize),
      response: randomIds(rng, response, config.vocabSize),
    })),
    oldLogprobs: each(() => randomValues(rng, response, 0.1, uniform)),
    oldValues: each(() => randomValues(rng, response, 0.1)),
    advantages: each(() => randomValues(rng, response, 1)),
    returns: each(() => randomValues(rng, response, 1)),
  };
}
