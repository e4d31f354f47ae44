/**
 * @file gemm: the matrix products that training is made of, and nothing else. What everything is compared with.
 */
import { createEngine } from "../../lib/engine/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { type GemmShape, measureGemm, shapeName } from "../ceiling.js";

const SHAPES: readonly GemmShape[] = [
  [2560, 3072, 768], // feed-forward layer, 32×80 tokens
  [768, 2560, 3072], // gradient of its weights
  [640, 768, 3072], // feed-forward layer, 8×80 tokens
];
const QUICK: readonly GemmShape[] = [[16, 32, 16]];

const shapesOf = (bench: Bench) => sized(bench, SHAPES, QUICK);

/** Matrix products at the shapes of GPT-2 small. */
export const gemm: Benchmark = {
  name: "gemm",
  title: "matrix products in float32, rows × inner × columns",
  models: [],
  async run(bench) {
    const { device, threads, runs = sized(bench, 15, 2) } = bench;
    const engine = await createEngine({ device, intraOpThreads: threads });
    try {
      for (const shape of shapesOf(bench)) {
        const samples = await measureGemm(engine, shape, { warmup: sized(bench, 5, 1), runs });
        bench.row({ case: shapeName(shape), metric: "product", unit: "GFLOP/s", samples });
      }
    } finally {
      await engine.close();
    }
  },
  peer: (bench) => ({
    script: "gemm.py",
    input: { shapes: shapesOf(bench), runs: bench.runs ?? sized(bench, 15, 2) },
  }),
};
