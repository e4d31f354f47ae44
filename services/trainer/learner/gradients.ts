/**
 * @file The gradients of one optimizer step: collected over minibatches, checked, measured.
 * One flat buffer holds the sum; a second one, made when it is first needed, takes what the next minibatch adds.
 */
import type { Engine, EngineTensor, Program } from "../../../lib/engine/index.js";
import { Graph } from "../../../lib/graph/index.js";
import { type Chunk, cutChunks, releaseChunks } from "./chunks.js";
import { LearnerNonFiniteError } from "./errors.js";
import { ParameterBuffer, type ParameterLayout } from "./parameter-store.js";

/** Room for the gradients of a second minibatch, and the program that adds them. */
interface Extra {
  readonly buffer: ParameterBuffer;
  readonly chunks: Chunk<"total" | "extra">[];
  readonly add: Program;
}

/** Gradients by weight, summed over the minibatches of an optimizer step. */
export class GradientBuffer {
  /** The sum so far. */
  readonly total: ParameterBuffer;
  readonly #engine: Engine;
  readonly #squares: Program;
  readonly #chunks: Chunk<"total">[];
  readonly #partial: EngineTensor;
  readonly #partials: EngineTensor[];
  #extra?: Extra;
  #minibatches = 0;

  private constructor(engine: Engine, layout: ParameterLayout, squares: Program) {
    this.#engine = engine;
    this.#squares = squares;
    this.total = new ParameterBuffer(engine, layout);
    this.#chunks = cutChunks(engine, { total: this.total.flat });
    this.#partial = engine.tensor("float32", [this.#chunks.length]);
    this.#partials = this.#chunks.map((_, i) => this.#partial.view([1], i));
  }

  /** Zeros of this layout. */
  static async create(engine: Engine, layout: ParameterLayout): Promise<GradientBuffer> {
    return new GradientBuffer(engine, layout, await engine.compile(squaresGraph()));
  }

  /** Minibatches collected since the last reset. */
  get minibatches(): number {
    return this.#minibatches;
  }

  /**
   * Collects one minibatch: `compute` writes its gradients into the views it is given, by weight, and says whether they count.
   * When they do not, or it throws, the sum stays as it was.
   */
  async collect(compute: (into: ParameterBuffer) => Promise<boolean>): Promise<void> {
    if (this.#minibatches === 0) {
      // the first writes over the sum of the step before, so nothing has to be cleared
      if (!(await compute(this.total))) this.#clear();
    } else {
      const { buffer, chunks, add } = await this.#second();
      if (await compute(buffer)) {
        for (const { views } of chunks) await add.run(views, { sum: views.total });
      }
    }
    this.#minibatches += 1;
  }

  /**
   * √Σg² over all weights. Squares are summed in float32 within a chunk and in float64 between chunks. Throws
   * LearnerNonFiniteError naming the first weight whose gradient is NaN or infinite.
   */
  async norm(where: string): Promise<number> {
    for (const [i, { views }] of this.#chunks.entries()) {
      await this.#squares.run({ gradient: views.total }, { squares: this.#partials[i] });
    }
    const partial = (await this.#partial.read()) as Float32Array;
    let sum = 0;
    for (const value of partial) sum += value;
    if (!Number.isFinite(sum)) await this.#explain(where);
    return Math.sqrt(sum);
  }

  /** Forgets what was collected. */
  reset(): void {
    this.#minibatches = 0;
  }

  /** Idempotent. */
  release(): void {
    releaseChunks(this.#chunks);
    for (const partial of this.#partials) partial.release();
    this.#partial.release();
    this.#squares.release();
    if (this.#extra) {
      releaseChunks(this.#extra.chunks);
      this.#extra.buffer.release();
      this.#extra.add.release();
    }
    this.total.release();
  }

  async #second(): Promise<Extra> {
    if (!this.#extra) {
      const add = await this.#engine.compile(addGraph());
      const buffer = new ParameterBuffer(this.#engine, this.total.layout);
      const chunks = cutChunks(this.#engine, { total: this.total.flat, extra: buffer.flat });
      this.#extra = { buffer, chunks, add };
    }
    return this.#extra;
  }

  #clear(): void {
    for (const { size, views } of this.#chunks) views.total.write(new Float32Array(size));
  }

  async #explain(where: string): Promise<never> {
    for (const [name, { data }] of await this.total.read()) {
      const bad = data.find((value) => !Number.isFinite(value));
      if (bad !== undefined) throw new LearnerNonFiniteError(`gradient of ${name}`, bad, where);
    }
    throw new LearnerNonFiniteError("gradient norm", Number.POSITIVE_INFINITY, where);
  }
}

/** Σg² of a chunk [n] → [1]. */
function squaresGraph(): Graph {
  const graph = new Graph("squares");
  const gradient = graph.input("gradient", "float32", ["n"]);
  graph.output("squares", gradient.mul(gradient).reduceSum([0], { keepDims: true }));
  return graph;
}

/** Sum of two chunks [n]. */
function addGraph(): Graph {
  const graph = new Graph("add-gradients");
  const total = graph.input("total", "float32", ["n"]);
  graph.output("sum", total.add(graph.input("extra", "float32", ["n"])));
  return graph;
}
