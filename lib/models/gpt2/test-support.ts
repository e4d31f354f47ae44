/**
 * @file For tests: the tiny models that known numbers belong to, and one run of a graph with plain arrays.
 */
import { join } from "node:path";
import { loadCheckpoint } from "../../checkpoint/index.js";
import { packageRoot } from "../../config/package-root.js";
import { createEngine } from "../../engine/index.js";
import type { Engine, EngineData, EngineTensor } from "../../engine/types.js";
import type { Graph } from "../../graph/index.js";
import { type Gpt2Config, parseModelConfig } from "../config.js";
import { fnv1a } from "../init.js";
import { type ParameterSpec, parameterSpecs } from "../parameters.js";

/** One fed value: flat elements and their shape; plain numbers are float32 unless the name is an integer input's. */
export interface Fed {
  readonly dims: readonly number[];
  readonly data: EngineData;
}

/** An int64 matrix from rows of equal length. */
export function int64(rows: readonly (readonly number[])[]): Fed {
  return { dims: [rows.length, rows[0].length], data: BigInt64Array.from(rows.flat().map(BigInt)) };
}

/** An int64 vector. */
export function int64Vector(values: readonly number[]): Fed {
  return { dims: [values.length], data: BigInt64Array.from(values.map(BigInt)) };
}

/** Weights and engine of one model under test. */
export class TinyModel {
  private constructor(
    readonly engine: Engine,
    readonly config: Gpt2Config,
    readonly weights: ReadonlyMap<string, EngineTensor>,
  ) {}

  /** A model whose parameters are given by name. */
  static async create(config: Gpt2Config, tensors: ReadonlyMap<string, Float32Array>): Promise<TinyModel> {
    const engine = await createEngine({ intraOpThreads: 1 });
    const shapes = new Map(
      [...parameterSpecs(config, "causal-lm-with-value")].map(({ name, shape }) => [name, shape]),
    );
    const weights = new Map<string, EngineTensor>();
    for (const [name, data] of tensors) weights.set(name, engine.tensor("float32", shapes.get(name)!, data));
    return new TinyModel(engine, config, weights);
  }

  /** Compiles, runs once and releases everything. */
  async run(graph: Graph, inputs: Readonly<Record<string, Fed>>): Promise<Record<string, Float32Array>> {
    const program = await this.engine.compile(graph);
    const feeds: Record<string, EngineTensor> = {};
    for (const { name } of graph.parameters) feeds[name!] = this.weights.get(name!)!;
    const own = Object.entries(inputs).map(([name, { dims, data }]) => {
      feeds[name] = this.engine.tensor(dtypeOf(data), dims, data);
      return feeds[name];
    });
    const outputs = await program.run(feeds);
    const results: Record<string, Float32Array> = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      results[name] = (await tensor.read()) as Float32Array;
      tensor.release();
    }
    for (const tensor of own) tensor.release();
    program.release();
    return results;
  }

  close(): Promise<void> {
    return this.engine.close();
  }
}

function dtypeOf(data: EngineData): "int64" | "int32" | "float32" {
  if (data instanceof BigInt64Array) return "int64";
  return data instanceof Int32Array ? "int32" : "float32";
}

/** The model of test/golden/gpt2-tiny. */
export async function goldenModel(): Promise<TinyModel> {
  const checkpoint = await loadCheckpoint(goldenFolder(), (json) =>
    parameterSpecs(parseModelConfig(json), "causal-lm"),
  );
  return TinyModel.create(parseModelConfig(checkpoint.config) as Gpt2Config, checkpoint.tensors);
}

/** Folder of the golden GPT-2. */
export function goldenFolder(): string {
  return join(packageRoot(), "test", "golden", "gpt2-tiny");
}

/** Config of the model that the specification's known answers belong to, with changes. */
export function ruleConfig(overrides: Readonly<Record<string, unknown>> = {}): Gpt2Config {
  return parseModelConfig({
    model_type: "gpt2",
    vocab_size: 13,
    n_positions: 32,
    n_embd: 8,
    n_layer: 2,
    n_head: 2,
    eos_token_id: null,
    ...overrides,
  }) as Gpt2Config;
}

/**
 * Weights by rule, reproducible in any language: from h = FNV-1a(name), each element steps h ← h·1664525 + 1013904223
 * (mod 2³²) and takes u = h / 2³¹ − 1; a matrix holds 0.4·u, a vector 1 + 0.1·u if it is a `.weight`, else 0.1·u.
 */
export function ruleWeights(specs: readonly ParameterSpec[]): Map<string, Float32Array> {
  return new Map(
    specs.map(({ name, shape }) => {
      let h = fnv1a(name);
      const values = new Float32Array(new ArrayBuffer(4 * shape.reduce((a, b) => a * b, 1)));
      for (let i = 0; i < values.length; i++) {
        h = (Math.imul(h, 1664525) + 1013904223) >>> 0;
        const u = (h / 2 ** 32) * 2 - 1;
        values[i] = shape.length > 1 ? 0.4 * u : name.endsWith(".weight") ? 1 + 0.1 * u : 0.1 * u;
      }
      return [name, values];
    }),
  );
}

/** The model of the specification's known answers, value head included. */
export function ruleModel(overrides: Readonly<Record<string, unknown>> = {}): Promise<TinyModel> {
  const config = ruleConfig(overrides);
  return TinyModel.create(config, ruleWeights(parameterSpecs(config, "causal-lm-with-value")));
}

/** Fails naming the first entry that is further than `tolerance` from what is expected. */
export function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  if (actual.length !== expected.length) {
    throw new Error(`expected ${expected.length} values, got ${actual.length}`);
  }
  for (let i = 0; i < actual.length; i++) {
    if (!(Math.abs(actual[i] - expected[i]) <= tolerance)) {
      throw new Error(`[${i}]: expected ${expected[i]} ± ${tolerance}, got ${actual[i]}`);
    }
  }
}
