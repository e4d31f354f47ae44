/**
 * @file The gradients of one optimizer step: collected over minibatches, checked, measured.
 * One flat buffer holds the sum; a second one, made when it is first needed, takes what the next minibatch adds.
 */
import { ElementwiseProgram } from "../../../lib/engine/index.js";
import { Graph } from "../../../lib/graph/index.js";
import { LearnerNonFiniteError } from "./errors.js";
import type { ParameterBuffer, ParameterMemory } from "./parameter-store.js";

/** Gradients by weight, summed over the minibatches of an optimizer step. */
export class GradientBuffer {
  /** The sum so far. */
  readonly total: ParameterBuffer;
  readonly #memory: ParameterMemory;
  readonly #squares: ElementwiseProgram;
  readonly #add: ElementwiseProgram;
  /** Takes the gradients of a second minibatch. */
  #extra?: ParameterBuffer;
  #minibatches = 0;

  /** Zeros. */
  constructor(memory: ParameterMemory) {
    this.#memory = memory;
    this.#squares = new ElementwiseProgram(memory.engine, squaresGraph());
    this.#add = new ElementwiseProgram(memory.engine, addGraph());
    this.total = memory.buffer();
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
      if (!(await compute(this.total))) await this.total.clear();
    } else {
      this.#extra ??= this.#memory.buffer();
      if (await compute(this.#extra)) await this.#addTo(this.total, this.#extra);
    }
    this.#minibatches += 1;
  }

  /**
   * √Σg² over all weights: squares in float32, their sum in float64. Throws LearnerNonFiniteError naming the first weight whose
   * gradient is NaN or infinite.
   */
  async norm(where: string): Promise<number> {
    let sum = 0;
    for (const gradient of this.total.vectors) sum += (await this.#squares.run({ gradient })).squares;
    if (!Number.isFinite(sum)) await this.#explain(where);
    return Math.sqrt(sum);
  }

  /** Forgets what was collected. */
  reset(): void {
    this.#minibatches = 0;
  }

  /** Idempotent. */
  release(): void {
    this.#squares.release();
    this.#add.release();
    this.#extra?.release();
    this.total.release();
  }

  async #addTo({ vectors }: ParameterBuffer, extra: ParameterBuffer): Promise<void> {
    for (const [i, total] of vectors.entries()) {
      await this.#add.run({ total, extra: extra.vectors[i] }, {}, { sum: total });
    }
  }

  async #explain(where: string): Promise<never> {
    for (const [name, { data }] of await this.total.read()) {
      const bad = data.find((value) => !Number.isFinite(value));
      if (bad !== undefined) throw new LearnerNonFiniteError(`gradient of ${name}`, bad, where);
    }
    throw new LearnerNonFiniteError("gradient norm", Number.POSITIVE_INFINITY, where);
  }
}

/** Σg² of a vector [n] → [1]. */
function squaresGraph(): Graph {
  const graph = new Graph("squares");
  const gradient = graph.input("gradient", "float32", ["n"]);
  graph.output("squares", gradient.mul(gradient).reduceSum([0], { keepDims: true }));
  return graph;
}

/** Sum of two vectors [n]. */
function addGraph(): Graph {
  const graph = new Graph("add-gradients");
  const total = graph.input("total", "float32", ["n"]);
  graph.output("sum", total.add(graph.input("extra", "float32", ["n"])));
  return graph;
}
