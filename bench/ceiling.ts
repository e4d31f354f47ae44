/**
 * @file The most that this machine multiplies, measured with the engine itself in the run that it is compared with.
 */
import { createEngine, type Engine } from "../lib/engine/index.js";
import { Graph, matmul } from "../lib/graph/index.js";
import { type BenchOptions, sized } from "./bench.js";
import { type Repetitions, timeRuns } from "./measure.js";

/** Rows, inner size and columns of a product. */
export type GemmShape = readonly [m: number, k: number, n: number];

/** The shape that the ceiling is taken from: the feed-forward layer of GPT-2 small over 32×80 tokens. */
export const ceilingShape = (options: Pick<BenchOptions, "quick">): GemmShape =>
  sized<GemmShape>(options, [2560, 3072, 768], [64, 64, 64]);

/** `m×k×n`. */
export const shapeName = (shape: GemmShape): string => shape.join("×");

/** GFLOP/s of x [m, k] · w [k, n] in float32, both fed at run time, the output in place. */
export async function measureGemm(
  engine: Engine,
  [m, k, n]: GemmShape,
  repetitions: Repetitions,
): Promise<number[]> {
  const graph = new Graph("gemm");
  graph.output("y", matmul(graph.input("x", "float32", [m, k]), graph.input("w", "float32", [k, n])));
  const program = await engine.compile(graph);
  const [x, w, y] = [
    engine.tensor("float32", [m, k]),
    engine.tensor("float32", [k, n]),
    engine.tensor("float32", [m, n]),
  ];
  for (const tensor of [x, w])
    await tensor.write(Float32Array.from({ length: tensor.size }, (_, i) => Math.sin(i)));
  try {
    const seconds = await timeRuns(repetitions, () => program.run({ x, w }, { y }));
    return seconds.map((time) => (2 * m * k * n) / time / 1e9);
  } finally {
    for (const made of [x, w, y, program]) made.release();
  }
}

/** GFLOP/s at the ceiling's shape, one number per run. */
export async function measureCeiling(options: BenchOptions): Promise<number[]> {
  const engine = await createEngine({ device: options.device, intraOpThreads: options.threads });
  try {
    const repetitions = sized(options, { warmup: 4, runs: 12 }, { warmup: 1, runs: 2 });
    return await measureGemm(engine, ceilingShape(options), repetitions);
  } finally {
    await engine.close();
  }
}
