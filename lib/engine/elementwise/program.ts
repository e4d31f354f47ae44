/**
 * @file Runs an elementwise graph over long vectors: in one pass, four elements at a time and on all threads, where they lie together
 * (vector-memory.ts); else by the engine's own operators, a chunk of all vectors after the other.
 */
import type { Graph } from "../../graph/index.js";
import { EngineError } from "../errors.js";
import type { Engine, EngineTensor, Program } from "../types.js";
import { BLOCK, Kernel, kernelCall } from "./kernel.js";
import { kernelCode } from "./kernel-code.js";
import { type ElementwisePlan, planElementwise } from "./plan.js";
import { ThreadPool } from "./threads.js";
import { type PlacedVector, placeVectors } from "./vector-memory.js";

/** Up to here a run is over before threads have woken: 65,536 elements. */
const ALONE = 4 * BLOCK;

/**
 * Elements of a chunk, where the engine's operators do the work: 1 MiB a vector on cpu, so that temporaries stay in the caches
 * (measured best of 64 KiB to 4 MiB); large enough on a device that starting a kernel costs little.
 */
const CHUNK = { host: 262_144, device: 4_194_304 };

/** Kernels of one memory: the one of this thread, and the number that the pool knows it by. */
interface Loaded {
  readonly here: Kernel;
  shared?: number;
}

/** A graph over vectors [n] and scalars, compiled. */
export class ElementwiseProgram {
  readonly #engine: Engine;
  readonly #graph: Graph;
  readonly #plan: ElementwisePlan;
  readonly #threads: ThreadPool;
  readonly #loaded = new Map<WebAssembly.Memory, Loaded>();
  #module?: WebAssembly.Module;
  #compiling?: Promise<Program>;
  #operators?: Program;
  #released = false;

  /** Throws EngineError (COMPILE_FAILED) naming what in the graph is not elementwise. */
  constructor(engine: Engine, graph: Graph) {
    this.#engine = engine;
    this.#graph = graph;
    this.#plan = planElementwise(graph);
    this.#threads = ThreadPool.acquire(engine.threads);
  }

  /**
   * One run over all elements. `vectors` and `scalars` give the inputs by name (others are let be), `into` the vectors for the outputs, which may be those
   * of inputs. Resolves with the graph's sums by name, added in float64. The same inputs give the same bits, whatever the number of
   * threads; the two ways of running agree but for the order of a sum. Calls must not overlap where they write. Rejects with EngineError
   * (INVALID_FEED) on a missing name or a vector of another length.
   */
  async run(
    vectors: Readonly<Record<string, EngineTensor>>,
    scalars: Readonly<Record<string, number>> = {},
    into: Readonly<Record<string, EngineTensor>> = {},
  ): Promise<Record<string, number>> {
    if (this.#released) throw new EngineError("RELEASED", `${this.#graph.name}: this program was released`);
    const plan = this.#plan;
    const ins = plan.vectors.map((name) => given(vectors, name));
    const outs = plan.outputs.map(({ name }) => given(into, name));
    const values = plan.scalars.map((name) => given(scalars, name));
    const size = ins[0].size;
    for (const [i, vector] of [...ins, ...outs].entries()) {
      if (vector.size !== size || vector.dtype !== "float32") {
        const name = [...plan.vectors, ...plan.outputs.map((output) => output.name)][i];
        throw invalid(name, `float32 [${size}]`, `${vector.dtype} [${vector.dims.join(", ")}]`);
      }
    }
    const placed = this.#engine.device === "cpu" ? placeVectors([...ins, ...outs]) : undefined;
    const sums = placed
      ? await this.#fused(placed, values, size)
      : await this.#chunked(ins, outs, values, size);
    return Object.fromEntries(plan.sums.map(({ name }, i) => [name, sums[i]]));
  }

  /** Idempotent. A run in flight must have ended. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    for (const { shared } of this.#loaded.values()) if (shared !== undefined) this.#threads.forget(shared);
    this.#loaded.clear();
    this.#threads.release();
    this.#operators?.release();
  }

  async #fused(placed: readonly PlacedVector[], scalars: number[], size: number): Promise<number[]> {
    const { memory } = placed[0];
    this.#module ??= new WebAssembly.Module(kernelCode(this.#plan));
    const loaded = this.#loaded.get(memory) ?? { here: new Kernel(this.#module, memory) };
    this.#loaded.set(memory, loaded);
    const addresses = placed.map(({ address }) => address);
    const count = this.#plan.sums.length;
    const call = kernelCall(addresses, scalars, size, count);
    if (size <= ALONE) {
      loaded.here.work(call);
    } else {
      loaded.shared ??= this.#threads.load(this.#module, memory);
      await this.#threads.work(loaded.shared, call);
    }
    const sums = new Array<number>(count).fill(0);
    for (const [i, partial] of call.partials.entries()) sums[i % count] += partial;
    return sums;
  }

  async #chunked(
    ins: readonly EngineTensor[],
    outs: readonly EngineTensor[],
    values: readonly number[],
    size: number,
  ): Promise<number[]> {
    this.#compiling ??= this.#engine.compile(this.#graph);
    this.#operators = await this.#compiling;
    const program = this.#operators;
    const { vectors, scalars, outputs, sums } = this.#plan;
    const fed = scalars.map((name, i) => {
      return [name, this.#engine.tensor("float32", [], Float32Array.of(values[i]))] as const;
    });
    const totals = sums.map(() => 0);
    const step = this.#engine.device === "cpu" ? CHUNK.host : CHUNK.device;
    try {
      for (let offset = 0; offset < size; offset += step) {
        const length = Math.min(step, size - offset);
        const views = [...ins, ...outs].map((vector) => vector.view([length], offset));
        const made = [...views];
        try {
          const feeds = Object.fromEntries([...vectors.map((name, i) => [name, views[i]] as const), ...fed]);
          const into = Object.fromEntries(outputs.map(({ name }, i) => [name, views[ins.length + i]]));
          const results = await program.run(feeds, into);
          made.push(...sums.map(({ name }) => results[name]));
          for (const [i, { name }] of sums.entries())
            totals[i] += Number(((await results[name].read()) as Float32Array)[0]);
        } finally {
          for (const tensor of made) tensor.release();
        }
      }
    } finally {
      for (const [, tensor] of fed) tensor.release();
    }
    return totals;
  }
}

function given<T>(values: Readonly<Record<string, T>>, name: string): T {
  const value = values[name];
  if (value === undefined) throw invalid(name, "a value", "nothing");
  return value;
}

function invalid(name: string, expected: string, got: string): EngineError {
  return new EngineError("INVALID_FEED", `${name}: expected ${expected}, got ${got}`, {
    name,
    expected,
    got,
  });
}
