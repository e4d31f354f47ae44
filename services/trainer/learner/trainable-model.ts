/**
 * @file A model that learns by an objective: forward and backward pass, accumulation, clipping, Adam. PPO, next-token and
 * classifier training differ only in the objective they hand in.
 *
 * Weights, gradients and moments lie in one flat buffer each and are updated in place. On cpu everything here is
 * deterministic: the same weights, batches and thread count give the same bits.
 */
import type { Engine, Program } from "../../../lib/engine/index.js";
import { Graph, gradients, type Tensor } from "../../../lib/graph/index.js";
import { Adam, type AdamOptions, type AdamState } from "./adam.js";
import { LearnerNonFiniteError, LearnerStateError } from "./errors.js";
import { GradientBuffer } from "./gradients.js";
import {
  type HostParameter,
  type ParameterBuffer,
  ParameterLayout,
  ParameterMemory,
} from "./parameter-store.js";
import { type HostFeed, runProgram } from "./run-program.js";
import { type ScheduleOptions, scheduleFactor } from "./schedule.js";

/** What a model is trained to do: a loss written as a graph, and how a batch is fed to it. */
export interface Objective<Batch> {
  /** Names the graph in profiles and errors. */
  readonly name: string;
  /** Writes forward pass and loss. The loss has one element; `outputs` are read back after each minibatch. */
  build(graph: Graph): { loss: Tensor; outputs: Readonly<Record<string, Tensor>> };
  /** The graph's inputs for one minibatch, by name. */
  feeds(batch: Batch): Record<string, HostFeed>;
}

/** How a model learns. */
export interface LearnerOptions extends AdamOptions {
  /** Base learning rate. */
  learningRate: number;
  /** How it changes; default constant. Steps are counted by `advanceSchedule`. */
  schedule?: ScheduleOptions;
  /** Global gradient norm to clip to; null (default) for none. */
  maxGradNorm?: number | null;
  /** Which optimizer steps are clipped: `all` (default), or only the `first`, which is what TRL v0.7.11 did by mistake. */
  gradClipping?: "all" | "first";
}

/** Everything but the weights that a resumed run needs. */
export interface LearnerState extends AdamState {
  /** Steps of the learning-rate schedule. */
  scheduleStep: number;
}

/** What one minibatch gave. */
export interface MinibatchResult {
  /** The loss, before `scale`. */
  loss: number;
  /** The objective's outputs, read back. */
  outputs: Record<string, Float32Array>;
  /** Whether its gradient counts. */
  kept: boolean;
}

/** How one minibatch enters the optimizer step. */
export interface AccumulateOptions {
  /** Weight of this minibatch's loss in the step, e.g. 1 / minibatches; default 1. */
  scale?: number;
  /** Says after the forward pass whether the gradient counts; default always. Then a loss that is not finite is no error. */
  keep?: (outputs: Record<string, Float32Array>) => boolean;
  /** Names the minibatch in errors. */
  where?: string;
}

/** What an optimizer step did. */
export interface UpdateResult {
  /** Global gradient norm before clipping. */
  gradNorm: number;
  /** Learning rate used. */
  learningRate: number;
  /** Wall seconds of the optimizer alone. */
  optimizerSeconds: number;
}

const LOSS_SCALE = "loss_scale";
const GRADIENT = "gradient:";

/** Upstream adds this to the norm before it divides by it. */
const CLIP_EPSILON = 1e-6;

/** Weights, gradients and optimizer of one model under one objective. Calls must not overlap. */
export class TrainableModel<Batch> {
  readonly engine: Engine;
  /** The weights, updated in place. */
  readonly weights: ParameterBuffer;
  readonly #objective: Objective<Batch>;
  readonly #options: LearnerOptions;
  readonly #program: Program;
  readonly #gradients: GradientBuffer;
  readonly #optimizer: Adam;
  #forward?: Promise<Program>;
  #scheduleStep = 0;

  private constructor(
    parts: {
      engine: Engine;
      weights: ParameterBuffer;
      program: Program;
      gradients: GradientBuffer;
      adam: Adam;
    },
    objective: Objective<Batch>,
    options: LearnerOptions,
  ) {
    this.engine = parts.engine;
    this.weights = parts.weights;
    this.#program = parts.program;
    this.#gradients = parts.gradients;
    this.#optimizer = parts.adam;
    this.#objective = objective;
    this.#options = options;
  }

  /**
   * Compiles the objective and copies the weights it reads (by checkpoint name; others are let be). Throws LearnerStateError
   * where one is missing or of another size.
   */
  static async create<Batch>(
    engine: Engine,
    objective: Objective<Batch>,
    weights: ReadonlyMap<string, Float32Array>,
    options: LearnerOptions,
  ): Promise<TrainableModel<Batch>> {
    const graph = trainingGraph(objective);
    const layout = new ParameterLayout(
      graph.parameters.map((p) => ({ name: p.name!, shape: p.shape as number[] })),
    );
    const made: { release(): void }[] = [];
    const keep = <T extends { release(): void }>(part: T): T => {
      made.push(part);
      return part;
    };
    try {
      const memory = new ParameterMemory(engine, layout);
      const buffer = keep(memory.buffer());
      await buffer.write(weights, "weight");
      const program = keep(await engine.compile(graph));
      const gradientBuffer = keep(new GradientBuffer(memory));
      const adam = keep(new Adam(memory, buffer, gradientBuffer.total, options));
      const parts = { engine, weights: buffer, program, gradients: gradientBuffer, adam };
      return new TrainableModel(parts, objective, options);
    } catch (error) {
      for (const part of made) part.release();
      throw error;
    }
  }

  /** Learning rate of the next optimizer step. */
  get learningRate(): number {
    return (
      this.#options.learningRate *
      scheduleFactor(this.#options.schedule ?? { kind: "constant" }, this.#scheduleStep)
    );
  }

  /** Optimizer steps taken. */
  get step(): number {
    return this.#optimizer.step;
  }

  /** Steps of the learning-rate schedule taken. */
  get scheduleStep(): number {
    return this.#scheduleStep;
  }

  /** Moves the learning-rate schedule on: per batch in PPO, per optimizer step in supervised training. */
  advanceSchedule(): void {
    this.#scheduleStep += 1;
  }

  /**
   * Forward and backward pass of one minibatch; its gradients join those since the last update. Throws LearnerNonFiniteError
   * when the loss is not finite; then discard the step with `discardGradients`.
   */
  async accumulate(batch: Batch, options: AccumulateOptions = {}): Promise<MinibatchResult> {
    const { scale = 1, keep, where = "minibatch" } = options;
    const feeds = this.#objective.feeds(batch);
    feeds[LOSS_SCALE] = { dtype: "float32", dims: [], data: Float32Array.of(scale) };
    let result: MinibatchResult | undefined;
    await this.#gradients.collect(async (into) => {
      const bound = Object.fromEntries(
        into.layout.slots.map(({ name }) => [GRADIENT + name, into.view(name)]),
      );
      const { loss, ...outputs } = await runProgram(this.engine, this.#program, this.weights, feeds, bound);
      const kept = keep?.(outputs) ?? true;
      if (kept && !Number.isFinite(loss[0])) throw new LearnerNonFiniteError("loss", loss[0], where);
      result = { loss: loss[0], outputs, kept };
      return kept;
    });
    return result!;
  }

  /** Forward pass of one minibatch without gradients. */
  async evaluate(batch: Batch): Promise<Omit<MinibatchResult, "kept">> {
    this.#forward ??= this.engine.compile(lossGraph(this.#objective));
    const { loss, ...outputs } = await runProgram(
      this.engine,
      await this.#forward,
      this.weights,
      this.#objective.feeds(batch),
    );
    return { loss: loss[0], outputs };
  }

  /**
   * One optimizer step with the gradients accumulated: checks them, clips their global norm, updates every weight in place.
   * Throws LearnerNonFiniteError, and updates nothing, when a gradient is not finite. The gradients are used up either way.
   */
  async update(where = "minibatch"): Promise<UpdateResult> {
    if (this.#gradients.minibatches === 0)
      throw new LearnerStateError("update: no minibatch was accumulated");
    this.#gradients.reset();
    const gradNorm = await this.#gradients.norm(where);
    const gradientScale = this.#clipFactor(gradNorm);
    const { learningRate } = this;
    const started = performance.now();
    await this.#optimizer.update({ learningRate, gradientScale });
    return { gradNorm, learningRate, optimizerSeconds: (performance.now() - started) / 1000 };
  }

  #clipFactor(gradNorm: number): number {
    const { maxGradNorm, gradClipping = "all" } = this.#options;
    if (maxGradNorm === null || maxGradNorm === undefined) return 1;
    if (gradClipping === "first" && this.step > 0) return 1;
    return Math.min(1, maxGradNorm / (gradNorm + CLIP_EPSILON));
  }

  /** Drops what was accumulated since the last update. */
  discardGradients(): void {
    this.#gradients.reset();
  }

  /** A copy of the weights, by name. */
  readWeights(): Promise<Map<string, HostParameter>> {
    return this.weights.read();
  }

  /** A copy of the gradients of the last accumulated minibatches, by name; before clipping. */
  readGradients(): Promise<Map<string, HostParameter>> {
    return this.#gradients.total.read();
  }

  /** A copy of the optimizer's state. With the weights it is all that a bit-exact resume needs. */
  async exportState(): Promise<LearnerState> {
    return { ...(await this.#optimizer.exportState()), scheduleStep: this.#scheduleStep };
  }

  /** Goes on from an exported state. Rejects with LearnerStateError, and changes nothing, where it does not fit. */
  async importState(state: LearnerState): Promise<void> {
    if (!Number.isSafeInteger(state.scheduleStep) || state.scheduleStep < 0) {
      throw new LearnerStateError(`scheduleStep: expected a whole number from 0, got ${state.scheduleStep}`);
    }
    await this.#optimizer.importState(state);
    this.#scheduleStep = state.scheduleStep;
    this.#gradients.reset();
  }

  /** Releases every buffer and program; the engine stays. Idempotent. */
  async release(): Promise<void> {
    (await this.#forward)?.release();
    this.#optimizer.release();
    this.#gradients.release();
    this.#program.release();
    this.weights.release();
  }
}

/** Loss and outputs. */
function lossGraph<Batch>(objective: Objective<Batch>): Graph {
  const graph = new Graph(`${objective.name}-evaluation`);
  addLoss(graph, objective);
  return graph;
}

function addLoss<Batch>(graph: Graph, objective: Objective<Batch>): Tensor {
  const { loss, outputs } = objective.build(graph);
  graph.output("loss", loss);
  for (const [name, tensor] of Object.entries(outputs)) graph.output(name, tensor);
  return loss;
}

/** Loss, outputs and a gradient for every weight that the objective reads. */
function trainingGraph<Batch>(objective: Objective<Batch>): Graph {
  const graph = new Graph(`${objective.name}-training`);
  const loss = addLoss(graph, objective);
  const scaled = loss.mul(graph.input(LOSS_SCALE, "float32", []));
  for (const [i, gradient] of gradients(scaled, graph.parameters).entries()) {
    graph.output(GRADIENT + graph.parameters[i].name, gradient);
  }
  return graph;
}
