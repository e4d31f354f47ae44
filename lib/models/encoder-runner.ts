/**
 * @file Runs an encoder or classifier over rows of token ids: groups rows by length, so that little padding is
 * computed, runs identical rows once, and gives results back in the order asked. Whatever computes is handed in.
 */
import type { Graph } from "../graph/index.js";
import { classifierGraph } from "./classifier.js";
import { type EncoderConfig, maxTokens } from "./config.js";
import { encoderGraph } from "./encoder.js";
import { type EncoderRow, encoderFeeds, type GroupingOptions, groupByLength } from "./encoder-feeds.js";

/** A tensor of whatever computes; the engine's tensors are such. */
export interface ComputeTensor {
  read(): Promise<unknown>;
  release(): void;
}

/** A compiled graph; the engine's programs are such. */
interface ComputeProgram<T> {
  run(feeds: Record<string, T>): Promise<Record<string, T>>;
  release(): void;
}

/** What the runner needs of whatever computes; the engine is such. */
export interface Compute<T extends ComputeTensor> {
  tensor(dtype: "float32" | "int64", dims: readonly number[], data: Float32Array | BigInt64Array): T;
  compile(graph: Graph): Promise<ComputeProgram<T>>;
}

/** A program and the weights that it reads. */
interface Ready<T> {
  program: ComputeProgram<T>;
  weights: Record<string, T>;
}

/**
 * How rows are grouped on a device. On a CPU padding costs what tokens cost, and more runs cost overhead: 128 texts of 10 to 70
 * tokens through 6 layers of width 256 took 500 ms with rows of equal length only, 320 ms with 15 % padding, 420 ms with
 * 50 % (two busy cores); longer runs than 2048 tokens were no faster. An accelerator wants fewer and larger runs.
 */
export function groupingFor(device: string): GroupingOptions {
  return device === "cpu" ? { maxTokens: 2048, maxPadding: 0.15 } : { maxTokens: 32_768, maxPadding: 0.3 };
}

/** How a runner puts rows together. */
export interface RunnerGrouping extends GroupingOptions {
  /**
   * True: what a row is run with does not show in its bits, on an engine of one thread. Only rows of the same padded length share a run,
   * since the sums of a softmax are cut by it, and none is run alone, since a product of one row takes another path.
   */
  readonly invariant?: boolean;
}

/** Tokens to which a row is padded there: a multiple of 8 where the model has the positions. */
function invariantTime(length: number, most: number): number {
  return Math.max(length, Math.min(Math.ceil(length / 8) * 8, most));
}

/** What runs rows through an encoder. */
export interface Encoder {
  /** Logits of each row, [labels] each. */
  classify(rows: readonly EncoderRow[]): Promise<Float32Array[]>;
  /** For each row, the hidden states after each of `layers` blocks (0 is the embedding), [tokens, H] each. */
  hiddenStates(rows: readonly EncoderRow[], layers: readonly number[]): Promise<Float32Array[][]>;
  /** Gives programs and weights back to the engine. */
  release(): Promise<void>;
}

/** An encoder with its weights on an engine. The caller keeps the engine and closes it after `release`. */
export class EncoderRunner<T extends ComputeTensor> implements Encoder {
  readonly #weights = new Map<string, T>();
  readonly #programs = new Map<string, Promise<Ready<T>>>();

  /** `weights` by checkpoint name with the family prefix; they are wrapped, not copied, where the engine can. */
  constructor(
    readonly compute: Compute<T>,
    readonly config: EncoderConfig,
    readonly weights: ReadonlyMap<string, Float32Array>,
    private readonly grouping: RunnerGrouping = groupingFor("cpu"),
  ) {}

  async classify(rows: readonly EncoderRow[]): Promise<Float32Array[]> {
    const labels = this.config.labels.length;
    const ready = await this.#ready("classifier", () => classifierGraph(this.config));
    return this.#runAll(rows, ready, (outputs, i) => outputs.logits.slice(i * labels, (i + 1) * labels));
  }

  async hiddenStates(rows: readonly EncoderRow[], layers: readonly number[]): Promise<Float32Array[][]> {
    const width = this.config.hiddenSize;
    const ready = await this.#ready(`hidden ${layers.join()}`, () => encoderGraph(this.config, layers));
    return this.#runAll(rows, ready, (outputs, i, { length, time }) => {
      const start = i * time * width;
      return layers.map((layer) => outputs[`hidden.${layer}`].slice(start, start + length * width));
    });
  }

  async release(): Promise<void> {
    const programs = await Promise.allSettled(this.#programs.values());
    for (const result of programs) if (result.status === "fulfilled") result.value.program.release();
    for (const tensor of this.#weights.values()) tensor.release();
    this.#programs.clear();
    this.#weights.clear();
  }

  #ready(key: string, build: () => Graph): Promise<Ready<T>> {
    const known = this.#programs.get(key);
    if (known) return known;
    const graph = build();
    const ready = this.compute.compile(graph).then((program) => ({
      program,
      weights: Object.fromEntries(
        graph.parameters.map((p) => [p.name ?? "", this.#weight(p.name ?? "", p.shape)]),
      ),
    }));
    this.#programs.set(key, ready);
    ready.catch(() => this.#programs.delete(key)); // the next call tries again
    return ready;
  }

  #weight(name: string, shape: readonly unknown[]): T {
    let tensor = this.#weights.get(name);
    if (!tensor) {
      const values = this.weights.get(name);
      if (!values) throw new Error(`weight ${name} is not loaded`);
      tensor = this.compute.tensor("float32", shape as readonly number[], values);
      this.#weights.set(name, tensor);
    }
    return tensor;
  }

  /** Runs the distinct rows, group by group, and hands each row its part of the outputs. */
  async #runAll<R>(
    rows: readonly EncoderRow[],
    ready: Ready<T>,
    part: (outputs: Record<string, Float32Array>, index: number, size: { length: number; time: number }) => R,
  ): Promise<R[]> {
    const { distinct, at } = distinctRows(rows);
    const lengths = distinct.map(({ ids }) => ids.length);
    const results: R[] = new Array(distinct.length);
    const { invariant } = this.grouping;
    const times = invariant
      ? lengths.map((length) => invariantTime(length, maxTokens(this.config)))
      : lengths;
    for (const group of groupByLength(
      times,
      invariant ? { ...this.grouping, maxPadding: 0 } : this.grouping,
    )) {
      const together = group.map((row) => distinct[row]);
      if (invariant && together.length === 1) together.push(together[0]);
      const feeds = encoderFeeds(this.config, together, invariant ? times[group[0]] : 0);
      const outputs = await this.#run(ready, feeds);
      for (const [i, row] of group.entries()) {
        results[row] = part(outputs, i, { length: lengths[row], time: feeds.time });
      }
    }
    return at.map((row) => results[row]);
  }

  async #run(ready: Ready<T>, feeds: ReturnType<typeof encoderFeeds>): Promise<Record<string, Float32Array>> {
    const { batch, time } = feeds;
    const inputs: Record<string, T> = {
      input_ids: this.compute.tensor("int64", [batch, time], feeds.input_ids),
      position_ids: this.compute.tensor("int64", [batch, time], feeds.position_ids),
      attention_bias: this.compute.tensor("float32", [batch, 1, 1, time], feeds.attention_bias),
    };
    if (feeds.token_type_ids) {
      inputs.token_type_ids = this.compute.tensor("int64", [batch, time], feeds.token_type_ids);
    }
    let outputs: Record<string, T> = {};
    try {
      outputs = await ready.program.run({ ...ready.weights, ...inputs });
      const read: Record<string, Float32Array> = {};
      for (const [name, tensor] of Object.entries(outputs))
        read[name] = (await tensor.read()) as Float32Array;
      return read;
    } finally {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.release();
    }
  }
}

/** The different rows, and for each row of the input which of them it is. */
function distinctRows(rows: readonly EncoderRow[]): { distinct: EncoderRow[]; at: number[] } {
  const known = new Map<string, number>();
  const distinct: EncoderRow[] = [];
  const at = rows.map((row) => {
    const key = `${Array.from(row.ids).join()}|${row.typeIds ? Array.from(row.typeIds).join("") : ""}`;
    let index = known.get(key);
    if (index === undefined) {
      index = distinct.push(row) - 1;
      known.set(key, index);
    }
    return index;
  });
  return { distinct, at };
}
