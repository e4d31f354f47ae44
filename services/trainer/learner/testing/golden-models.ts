/**
 * @file The tiny models of test/golden, for tests: configuration, weights and what the reference implementation says of them.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadCheckpoint } from "../../../../lib/checkpoint/index.js";
import { packageRoot } from "../../../../lib/config/index.js";
import { type ModelConfig, parseModelConfig } from "../../../../lib/models/config.js";
import { type ModelTask, parameterSpecs } from "../../../../lib/models/parameters.js";

/** A golden model loaded for a task. */
export interface GoldenModel<Expected> {
  config: ModelConfig;
  weights: Map<string, Float32Array>;
  /** Content of expected.json. */
  expected: Expected;
}

/** Loads `test/golden/<name>`. */
export async function goldenModel<Expected>(name: string, task: ModelTask): Promise<GoldenModel<Expected>> {
  const directory = join(packageRoot(), "test/golden", name);
  const specs = (json: unknown) => parameterSpecs(parseModelConfig(json), task);
  const checkpoint = await loadCheckpoint(directory, specs);
  return {
    config: parseModelConfig(checkpoint.config),
    weights: checkpoint.tensors,
    expected: JSON.parse(readFileSync(join(directory, "expected.json"), "utf8")) as Expected,
  };
}
