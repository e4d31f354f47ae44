/**
 * @file The benchmarks of the suite, in the order in which they run.
 */
import type { Benchmark } from "../bench.js";
import { bertscore } from "./bertscore.js";
import { gemm } from "./gemm.js";
import { generate } from "./generate.js";
import { health } from "./health.js";
import { learner } from "./learner.js";
import { optimizer } from "./optimizer.js";
import { ppoBatch } from "./ppo-batch.js";
import { rpc } from "./rpc.js";
import { score } from "./score.js";
import { steady } from "./steady.js";
import { weights } from "./weights.js";

/** All benchmarks. */
export const BENCHMARKS: readonly Benchmark[] = [
  gemm,
  learner,
  optimizer,
  generate,
  score,
  bertscore,
  rpc,
  weights,
  health,
  ppoBatch,
  steady,
];
