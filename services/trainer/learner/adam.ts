/**
 * @file Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101) as a graph of its own, run over whole vectors of weights and in place.
 * Formula and order of operations are those of torch's single-tensor Adam, so results agree to the last digits.
 */
import { ElementwiseProgram } from "../../../lib/engine/index.js";
import { Graph } from "../../../lib/graph/index.js";
import { LearnerStateError } from "./errors.js";
import type { HostParameter, ParameterBuffer, ParameterMemory, Segment } from "./parameter-store.js";

const { fround } = Math;

/** Settings of Adam. */
export interface AdamOptions {
  /** Decay of the first moment; default 0.9. */
  beta1?: number;
  /** Decay of the second moment; default 0.999. */
  beta2?: number;
  /** Added to the root of the second moment; default 1e-8. */
  epsilon?: number;
  /** Decoupled weight decay (AdamW) of matrices; biases and norms do not decay. Default 0, which is Adam. */
  weightDecay?: number;
}

/** Moments and step count, to go on from a checkpoint bit for bit. */
export interface AdamState {
  /** Optimizer steps taken. */
  step: number;
  /** First moments by weight. */
  moment1: Map<string, HostParameter>;
  /** Second moments by weight. */
  moment2: Map<string, HostParameter>;
}

const FIRST = "first moment of";
const SECOND = "second moment of";

/** The optimizer of one model. */
export class Adam {
  readonly #options: Required<AdamOptions>;
  readonly #program: ElementwiseProgram;
  readonly #weights: ParameterBuffer;
  readonly #gradients: ParameterBuffer;
  readonly #moment1: ParameterBuffer;
  readonly #moment2: ParameterBuffer;
  readonly #pieces: readonly Piece[];
  #step = 0;

  /** An optimizer that updates `weights` by `gradients`, with moments of zero. All lie in `memory`. */
  constructor(
    memory: ParameterMemory,
    weights: ParameterBuffer,
    gradients: ParameterBuffer,
    { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0 }: AdamOptions = {},
  ) {
    this.#options = { beta1, beta2, epsilon, weightDecay };
    this.#program = new ElementwiseProgram(memory.engine, adamGraph(this.#options));
    this.#weights = weights;
    this.#gradients = gradients;
    this.#moment1 = memory.buffer();
    this.#moment2 = memory.buffer();
    this.#pieces = memory.layout.segments.flatMap((segment, i) => piecesOf(segment, i, weightDecay !== 0));
  }

  /** Optimizer steps taken so far. */
  get step(): number {
    return this.#step;
  }

  /** Updates every weight in place. The gradients are used times `gradientScale` (from clipping), and left as they are. */
  async update({
    learningRate,
    gradientScale,
  }: {
    learningRate: number;
    gradientScale: number;
  }): Promise<void> {
    const { beta1, beta2, weightDecay } = this.#options;
    this.#step += 1;
    const correction1 = 1 - beta1 ** this.#step;
    const correction2 = 1 - beta2 ** this.#step;
    const common = {
      gradientScale,
      correction2: Math.sqrt(correction2),
      negativeStepSize: -(learningRate / correction1),
    };
    for (const { segment, offset, size, decays } of this.#pieces) {
      const view = ({ vectors }: ParameterBuffer) => vectors[segment].view([size], offset);
      const vectors = {
        weight: view(this.#weights),
        gradient: view(this.#gradients),
        moment1: view(this.#moment1),
        moment2: view(this.#moment2),
      };
      const scalars = { ...common, decay: decays ? 1 - learningRate * weightDecay : 1 };
      try {
        await this.#program.run(vectors, scalars, {
          nextWeight: vectors.weight,
          nextMoment1: vectors.moment1,
          nextMoment2: vectors.moment2,
        });
      } finally {
        for (const vector of Object.values(vectors)) vector.release();
      }
    }
  }

  /** A copy of the moments, for a checkpoint. */
  async exportState(): Promise<AdamState> {
    return { step: this.#step, moment1: await this.#moment1.read(), moment2: await this.#moment2.read() };
  }

  /** Goes on from a checkpoint. Rejects with LearnerStateError, and changes nothing, where a moment is missing or does not fit. */
  async importState({ step, moment1, moment2 }: AdamState): Promise<void> {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new LearnerStateError(`optimizer step: expected a whole number from 0, got ${step}`);
    }
    const [first, second] = [dataOf(moment1), dataOf(moment2)];
    this.#moment1.check(first, FIRST);
    this.#moment2.check(second, SECOND);
    await this.#moment1.write(first, FIRST);
    await this.#moment2.write(second, SECOND);
    this.#step = step;
  }

  /** Idempotent. */
  release(): void {
    this.#moment1.release();
    this.#moment2.release();
    this.#program.release();
  }
}

function dataOf(parameters: ReadonlyMap<string, HostParameter>): Map<string, Float32Array> {
  return new Map([...parameters].map(([name, { data }]) => [name, data]));
}

/** A stretch of a segment that is updated in one go. */
interface Piece {
  readonly segment: number;
  readonly offset: number;
  readonly size: number;
  readonly decays: boolean;
}

/** The whole segment, or where weights decay its matrices and the rest. */
function piecesOf({ size, matrixSize }: Segment, segment: number, decay: boolean): Piece[] {
  const pieces = decay
    ? [
        { segment, offset: 0, size: matrixSize, decays: true },
        { segment, offset: matrixSize, size: size - matrixSize, decays: false },
      ]
    : [{ segment, offset: 0, size, decays: false }];
  return pieces.filter((piece) => piece.size > 0);
}

/** One update of a vector [n]. In: weight, gradient, moments, scalars. Out: next weight and moments. */
function adamGraph({ beta1, beta2, epsilon, weightDecay }: Required<AdamOptions>): Graph {
  const graph = new Graph("adam");
  const vector = (name: string) => graph.input(name, "float32", ["n"]);
  const scalar = (name: string) => graph.input(name, "float32", []);
  const weight = vector("weight");
  const raw = vector("gradient");
  const moment1 = vector("moment1");
  const moment2 = vector("moment2");
  const gradient = raw.mul(scalar("gradientScale"));
  // torch: m.lerp_(g, 1 - β1); s.mul_(β2).addcmul_(g, g, value=1 - β2)
  const next1 = moment1.add(gradient.sub(moment1).mul(fround(1 - beta1)));
  const next2 = moment2.mul(fround(beta2)).add(gradient.mul(fround(1 - beta2)).mul(gradient));
  const denominator = next2.sqrt().div(scalar("correction2")).add(fround(epsilon));
  const kept = weightDecay === 0 ? weight : weight.mul(scalar("decay"));
  const change = next1.mul(scalar("negativeStepSize")).div(denominator);
  graph.output("nextWeight", kept.add(change));
  graph.output("nextMoment1", next1);
  graph.output("nextMoment2", next2);
  return graph;
}
