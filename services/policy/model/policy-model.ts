/**
 * @file The language model as the worker process runs it: a Hugging Face GPT-2 directory on an engine. In: token ids.
 * Out: logits and log-probabilities of the next token over a cache, or scores of given tokens. Weights are handed in with each
 * run, so that several versions can be in use at once.
 */
import { basename, resolve } from "node:path";
import { type Checkpoint, loadCheckpoint } from "../../../lib/checkpoint/index.js";
import {
  createEngine,
  type Engine,
  type EngineOptions,
  type EngineTensor,
  type Program,
} from "../../../lib/engine/index.js";
import { Graph } from "../../../lib/graph/index.js";
import { type Gpt2Config, parseModelConfig } from "../../../lib/models/config.js";
import { ModelConfigError } from "../../../lib/models/errors.js";
import { gpt2TransposedName } from "../../../lib/models/gpt2.js";
import { gpt2RolloutGraph, rolloutAttention } from "../../../lib/models/gpt2-rollout.js";
import { type Gpt2ScoringOptions, gpt2ScoringGraph } from "../../../lib/models/gpt2-scoring.js";
import { type ParameterSpec, parameterCount, parameterSpecs } from "../../../lib/models/parameters.js";
import { isHostMemory } from "./host-memory.js";
import type { CacheGeometry, CacheView } from "./kv-cache.js";
import type { WeightSnapshot } from "./weight-store.js";

/** One run over a cache: `rows` rows of `time` new tokens each, padded on the right. Arrays are row-major. */
export interface RolloutBatch {
  readonly rows: number;
  readonly time: number;
  /** [rows, time]. */
  readonly inputIds: BigInt64Array;
  /** [rows, time]. */
  readonly positions: BigInt64Array;
  /** [rows]: new tokens of each row. */
  readonly counts: readonly number[];
  /** [rows]: cached tokens of each row; all 0 for prompts. */
  readonly past: readonly number[];
}

/** What follows each row's last token; scratch that the next run overwrites. */
export interface RolloutResult {
  /** [rows, V]. */
  readonly logits: Float32Array;
  /** [rows, V]: log-softmax of the logits. */
  readonly logprobs: Float32Array;
}

/** Rows to score together, padded on the right. */
export interface ScoringBatch {
  readonly rows: number;
  readonly time: number;
  /** [rows, time]. */
  readonly inputIds: BigInt64Array;
  /** [count]: row · time + position of the token before each scored one. */
  readonly places: BigInt64Array;
  /** [count]: the scored tokens. */
  readonly targets: BigInt64Array;
}

/** Scores of each place. */
export interface ScoringResult {
  readonly logprobs: Float32Array;
  readonly entropy?: Float32Array;
  /** [count, V]. */
  readonly distribution?: Float32Array;
}

/** How a model is loaded. */
export interface PolicyModelOptions extends EngineOptions {
  /** Hugging Face directory. */
  readonly model: string;
}

/** Facts about the architecture, which no weights change. */
export interface PolicyModelFacts {
  /** Name of the directory. */
  readonly name: string;
  readonly family: string;
  readonly parameterCount: number;
  /** Longest row in tokens. */
  readonly maxTokens: number;
  readonly vocabSize: number;
  readonly device: string;
  readonly engine: string;
}

/** The blocks' matrices lie as decode steps read them fastest. */
const MATRICES = "out-in";

/** A loaded architecture with its programs. Weights live in snapshots. */
export class PolicyModel {
  readonly #scoring = new Map<string, Promise<Program>>();
  #outputs: { rows: number; logits: EngineTensor; logprobs: EngineTensor } | undefined;

  private constructor(
    readonly engine: Engine,
    readonly config: Gpt2Config,
    readonly specs: readonly ParameterSpec[],
    readonly facts: PolicyModelFacts,
    private readonly rollout: Program,
    private readonly transpose: Program,
  ) {}

  /** Loads a directory. Throws CheckpointError or ModelConfigError naming what is wrong with it. */
  static async load({ model, ...engineOptions }: PolicyModelOptions): Promise<{
    model: PolicyModel;
    checkpoint: Checkpoint;
  }> {
    const checkpoint = await loadPolicyCheckpoint(model);
    const config = policyConfig(checkpoint.config);
    const specs = parameterSpecs(config, "causal-lm");
    const engine = await createEngine(engineOptions);
    try {
      const attention = rolloutAttention(config, engine.device);
      const rollout = await engine.compile(gpt2RolloutGraph(config, { attention, matrices: MATRICES }));
      const transpose = await engine.compile(transposeGraph());
      const facts: PolicyModelFacts = {
        name: basename(resolve(model)),
        family: config.modelType,
        parameterCount: parameterCount(specs),
        maxTokens: config.positions,
        vocabSize: config.vocabSize,
        device: engine.device,
        engine: engine.name,
      };
      return { model: new PolicyModel(engine, config, specs, facts, rollout, transpose), checkpoint };
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** V, size of the vocabulary. */
  get vocabSize(): number {
    return this.config.vocabSize;
  }

  /** Geometry of a cache for this model. */
  geometry(): Omit<CacheGeometry, "maxRows"> {
    const { layers, heads, hiddenSize, positions } = this.config;
    return { layers, heads, headSize: hiddenSize / heads, maxTime: positions };
  }

  /**
   * Weights on the engine, by the names of the programs' parameters. Takes the arrays over: `weights` is empty afterwards. What the
   * programs read as it is gets wrapped (without a copy on cpu); the blocks' matrices are transposed one by one, between the runs that
   * others ask for.
   */
  async upload(weights: Map<string, Float32Array>): Promise<Map<string, EngineTensor>> {
    const tensors = new Map<string, EngineTensor>();
    const parameters = new Set(this.rollout.inputNames);
    try {
      for (const { name, shape } of this.specs) {
        const data = weights.get(name);
        if (!data) throw new Error(`weight ${name} is missing`);
        weights.delete(name); // so that its memory can go before the next one needs some
        const tensor = this.engine.tensor("float32", shape, data);
        const transposed = gpt2TransposedName(name);
        if (parameters.has(transposed)) tensors.set(transposed, await this.#transposed(tensor));
        else tensors.set(name, tensor);
      }
      return tensors;
    } catch (error) {
      for (const tensor of tensors.values()) tensor.release();
      throw error;
    }
  }

  /** A transposed copy of a matrix in place of it. */
  async #transposed(matrix: EngineTensor): Promise<EngineTensor> {
    try {
      return (await this.transpose.run({ matrix })).transposed;
    } finally {
      matrix.release();
    }
  }

  /** Reads the new tokens of every row into the cache and gives what follows them. Not reentrant: one run at a time. */
  async step(weights: WeightSnapshot, batch: RolloutBatch, cache: CacheView): Promise<RolloutResult> {
    const { rows, time, counts, past } = batch;
    const { engine, config } = this;
    const outputs = this.#outputViews(rows);
    const totals = counts.map((count, row) => past[row] + count);
    const last = BigInt64Array.from(counts, (count, row) => BigInt(row * time + count - 1));
    const inputs: Record<string, EngineTensor> = {
      input_ids: engine.tensor("int64", [rows, time], batch.inputIds),
      position_ids: engine.tensor("int64", [rows, time], batch.positions),
      last: engine.tensor("int64", [rows], last),
      lengths: engine.tensor(
        "int32",
        [rows],
        Int32Array.from(totals, (total) => total - 1),
      ),
      // a prompt run must say the padded width: that is how the kernel tells prompts from steps
      longest: engine.tensor("int32", [1], Int32Array.of(past[0] === 0 ? time : Math.max(...totals))),
    };
    try {
      await this.rollout.run(
        { ...this.#weightFeeds(weights, this.rollout), ...cache.past, ...inputs },
        { ...cache.present, ...outputs },
      );
      const size = rows * config.vocabSize;
      const read = async (tensor: EngineTensor) =>
        (isHostMemory(engine) ? tensor.data : await tensor.read()) as Float32Array;
      return {
        logits: (await read(outputs.logits)).subarray(0, size),
        logprobs: (await read(outputs.logprobs)).subarray(0, size),
      };
    } finally {
      for (const tensor of Object.values(inputs)) tensor.release();
      outputs.logits.release();
      outputs.logprobs.release();
    }
  }

  /** Scores given tokens. Runs may overlap. */
  async score(
    weights: WeightSnapshot,
    batch: ScoringBatch,
    options: Gpt2ScoringOptions,
  ): Promise<ScoringResult> {
    const program = await this.#scoringProgram(options);
    const { engine } = this;
    const count = batch.targets.length;
    const inputs: Record<string, EngineTensor> = {
      input_ids: engine.tensor("int64", [batch.rows, batch.time], batch.inputIds),
      places: engine.tensor("int64", [count], batch.places),
      targets: engine.tensor("int64", [count], batch.targets),
    };
    let outputs: Record<string, EngineTensor> = {};
    try {
      outputs = await program.run({ ...this.#weightFeeds(weights, program), ...inputs });
      const read = async (name: string) => (await outputs[name]?.read()) as Float32Array | undefined;
      return {
        logprobs: (await read("logprobs"))!,
        entropy: await read("entropy"),
        distribution: await read("distribution"),
      };
    } finally {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.release();
    }
  }

  /** Gives programs and scratch back and closes the engine. Weights are released by their store. */
  async close(): Promise<void> {
    this.#releaseOutputs();
    this.rollout.release();
    this.transpose.release();
    for (const result of await Promise.allSettled(this.#scoring.values())) {
      if (result.status === "fulfilled") result.value.release();
    }
    await this.engine.close();
  }

  #scoringProgram(options: Gpt2ScoringOptions): Promise<Program> {
    const key = JSON.stringify([options.entropy ?? false, options.distribution ?? false]);
    let program = this.#scoring.get(key);
    if (!program) {
      program = this.engine.compile(gpt2ScoringGraph(this.config, { ...options, matrices: MATRICES }));
      this.#scoring.set(key, program);
      program.catch(() => this.#scoring.delete(key)); // the next call tries again
    }
    return program;
  }

  /** The weights that a program reads; it refuses others. */
  #weightFeeds(weights: WeightSnapshot, program: Program): Record<string, EngineTensor> {
    const feeds: Record<string, EngineTensor> = {};
    for (const name of program.inputNames) {
      const tensor = weights.tensors.get(name);
      if (tensor) feeds[name] = tensor;
    }
    return feeds;
  }

  /** Views of `rows` rows over scratch that is kept between steps: it is megabytes, and fresh memory costs page faults. */
  #outputViews(rows: number): { logits: EngineTensor; logprobs: EngineTensor } {
    const { engine, config } = this;
    if (!this.#outputs || this.#outputs.rows < rows) {
      this.#releaseOutputs();
      const capacity = 2 ** Math.ceil(Math.log2(rows));
      const make = () => engine.tensor("float32", [capacity, config.vocabSize]);
      this.#outputs = { rows: capacity, logits: make(), logprobs: make() };
    }
    const dims = [rows, config.vocabSize];
    return { logits: this.#outputs.logits.view(dims), logprobs: this.#outputs.logprobs.view(dims) };
  }

  #releaseOutputs(): void {
    this.#outputs?.logits.release();
    this.#outputs?.logprobs.release();
    this.#outputs = undefined;
  }
}

function transposeGraph(): Graph {
  const graph = new Graph("transpose");
  graph.output("transposed", graph.input("matrix", "float32", ["rows", "columns"]).transpose([1, 0]));
  return graph;
}

/** config.json of a policy. Throws ModelConfigError where it is not a causal language model. */
export function policyConfig(json: unknown): Gpt2Config {
  const config = parseModelConfig(json);
  if (config.modelType !== "gpt2") throw new ModelConfigError("model_type", config.modelType, '"gpt2"');
  return config;
}

/** A policy's checkpoint. Throws CheckpointError. */
export function loadPolicyCheckpoint(directory: string): Promise<Checkpoint> {
  return loadCheckpoint(directory, (json) => parameterSpecs(policyConfig(json), "causal-lm"));
}
