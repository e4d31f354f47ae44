/**
 * @file An engine whose library computes in a worker thread, because it would block the event loop. Feeds and results are
 * copied on each run. Memory that the engine allocates is shared with the worker (SharedArrayBuffer), so those copies
 * happen there; an array that the caller wrapped is copied on the calling thread.
 */
import type { Graph } from "../../graph/index.js";
import { checkData, dtypeInfo, elementCount } from "../dtypes.js";
import { EngineError } from "../errors.js";
import { LeakGuard } from "../leak-guard.js";
import { NativeProgram, pinned } from "../native-program.js";
import { RunQueue } from "../run-queue.js";
import { checkRun, renameOutputs, type Signature } from "../signature.js";
import { Storage } from "../storage.js";
import { ownTensor, StoredTensor, type TensorContext } from "../tensor.js";
import type {
  CompileOptions,
  Engine,
  EngineData,
  EngineDevice,
  EngineDType,
  EngineStats,
  EngineTensor,
  Program,
} from "../types.js";
import type { WorkerLink } from "./link.js";
import type { ReturnedTensor, SentTarget, SentTensor, WorkerSettings, WorkerValueSpec } from "./messages.js";

/** What tells one such engine from another. */
export interface WorkerEngineOptions<M> {
  name: string;
  settings: WorkerSettings;
  /** The line to a worker that has started. */
  link: WorkerLink<M>;
  /** A graph in the form the worker takes; throws where it cannot be put so. */
  toModel(graph: Graph | Uint8Array): M;
}

interface WorkerContext<M> extends TensorContext {
  readonly link: WorkerLink<M>;
  readonly queue: RunQueue;
}

/** Engine over a worker's library. */
export class WorkerEngine<M> implements Engine {
  readonly name: string;
  readonly device: EngineDevice;
  readonly threads: number;
  readonly #toModel: (graph: Graph | Uint8Array) => M;
  readonly #context: WorkerContext<M>;
  #nextValue = 1n;
  #nextProgram = 1;
  #closing: Promise<void> | undefined;

  constructor({ name, settings, link, toModel }: WorkerEngineOptions<M>) {
    this.name = name;
    this.device = settings.device;
    this.threads = settings.threads;
    this.#toModel = toModel;
    this.#context = {
      guard: new LeakGuard(),
      link,
      queue: new RunQueue(1),
      // the native value is the worker's private copy, made there on first use
      createValue: () => this.#nextValue++,
      freeValue: (value) => link.post({ type: "forget", id: Number(value) }),
    };
  }

  tensor(dtype: EngineDType, dims: readonly number[], data?: EngineData): EngineTensor {
    this.#checkOpen("tensor");
    const count = elementCount(dims);
    const byteLength = count * dtypeInfo(dtype).bytes;
    if (data !== undefined) {
      checkData(dtype, count, data);
      return wrap(this.#context, dtype, dims, data);
    }
    const host = new Uint8Array(new SharedArrayBuffer(byteLength));
    const storage = new Storage(this.#context.guard, byteLength, { host });
    return new StoredTensor(this.#context, storage, dtype, dims);
  }

  async compile(
    graph: Graph | Uint8Array,
    { optimize = true, fixedShapes = false, profile }: CompileOptions = {},
  ): Promise<Program> {
    this.#checkOpen("compile");
    const { link } = this.#context;
    const program = this.#nextProgram++;
    const what = graph instanceof Uint8Array ? "model" : graph.name;
    try {
      const model = this.#toModel(graph);
      const { inputs, outputs } = await link.compile({ program, model, optimize, fixedShapes, profile });
      this.#checkOpen("compile");
      const signature = { inputs: inputs.map(toSpec), outputs: outputs.map(toSpec) };
      return new WorkerProgram(this.#context, program, renameOutputs(signature, graph));
    } catch (error) {
      if (this.#closing !== undefined) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError("COMPILE_FAILED", `compile ${what}: ${reason}`, { name: what, cause: error });
    }
  }

  stats(): EngineStats {
    return this.#context.guard.stats();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { guard, link, queue } = this.#context;
    guard.releaseAll(); // refuses new runs; what a run in flight uses is freed when it ends
    await queue.run(async () => {}); // first come, first served: when its turn comes, all runs before it are done
    guard.releaseAll(); // outputs of those runs
    await link.close();
  }

  #checkOpen(what: string): void {
    if (this.#closing !== undefined) throw new EngineError("RELEASED", `${what}: this engine was closed`);
  }
}

class WorkerProgram<M> implements Program {
  readonly #context: WorkerContext<M>;
  readonly #program: number;
  readonly #native: NativeProgram;
  readonly #signature: Signature;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];

  constructor(context: WorkerContext<M>, program: number, signature: Signature) {
    this.#context = context;
    this.#program = program;
    this.#signature = signature;
    this.inputNames = signature.inputs.map((spec) => spec.name);
    this.outputNames = signature.outputs.map((spec) => spec.name);
    this.#native = new NativeProgram(context.guard, () =>
      context.link.post({ type: "releaseProgram", program }),
    );
    context.guard.watch(this, this.#native);
  }

  async run(
    feeds: Record<string, EngineTensor>,
    into: Record<string, EngineTensor> = {},
  ): Promise<Record<string, EngineTensor>> {
    if (this.#native.released) throw new EngineError("RELEASED", "run: this program was released");
    checkRun(this.#signature, feeds, into);
    const inputs = this.inputNames.map((name) => ownTensor(this.#context, name, feeds[name]));
    const given = this.outputNames.map((name) =>
      into[name] === undefined ? undefined : ownTensor(this.#context, name, into[name]),
    );
    const used = [...inputs, ...given].flatMap((tensor) => tensor?.native ?? []);
    return pinned([this.#native, ...used], () => this.#context.queue.run(() => this.#runNow(inputs, given)));
  }

  release(): void {
    this.#native.release();
  }

  async #runNow(
    inputs: StoredTensor[],
    given: (StoredTensor | undefined)[],
  ): Promise<Record<string, EngineTensor>> {
    const feeds = Object.fromEntries(this.inputNames.map((name, i) => [name, toSent(inputs[i])]));
    const targets = given.map((tensor) => (tensor === undefined ? undefined : toTarget(tensor)));
    let results: (ReturnedTensor | undefined)[];
    try {
      results = await this.#context.link.run(this.#program, feeds, targets);
    } catch (error) {
      if (error instanceof EngineError) throw error;
      throw new EngineError("RUN_FAILED", `run: ${(error as Error).message}`, { cause: error });
    }
    const outputs = given.map((tensor, i) => {
      const result = results[i];
      if (result === undefined) return tensor as StoredTensor; // the worker wrote into shared memory
      const data = toArray(result);
      if (tensor === undefined) return wrap(this.#context, result.dtype, result.dims, data);
      (tensor.native.storage.host as Uint8Array).set(result.bytes, tensor.native.byteOffset);
      return tensor;
    });
    return Object.fromEntries(this.outputNames.map((name, i) => [name, outputs[i]]));
  }
}

function wrap(
  context: TensorContext,
  dtype: EngineDType,
  dims: readonly number[],
  data: EngineData,
): StoredTensor {
  const host = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const storage = new Storage(context.guard, data.byteLength, { host });
  return new StoredTensor(context, storage, dtype, dims, { data });
}

function toSpec({ name, type, dims }: WorkerValueSpec) {
  dtypeInfo(type as EngineDType); // throws on a type engines do not carry
  return { name, dtype: type as EngineDType, dims };
}

/** The tensor's bytes: shared memory as it is, anything else as a copy the worker may keep. */
function toSent({ native }: StoredTensor): SentTensor {
  const id = Number(native.value());
  const { dtype, dims, byteOffset, byteLength } = native;
  const host = native.storage.host as Uint8Array;
  const bytes = host.subarray(byteOffset, byteOffset + byteLength);
  return { dtype, dims, id, bytes: bytes.buffer instanceof SharedArrayBuffer ? bytes : bytes.slice() };
}

function toTarget(tensor: StoredTensor): SentTarget {
  const { dims, byteOffset, byteLength, storage } = tensor.native;
  const host = storage.host as Uint8Array;
  const shared = host.buffer instanceof SharedArrayBuffer;
  return { dims, bytes: shared ? host.subarray(byteOffset, byteOffset + byteLength) : undefined };
}

function toArray({ dtype, bytes }: ReturnedTensor): EngineData {
  const info = dtypeInfo(dtype);
  return new info.array(bytes.buffer, bytes.byteOffset, bytes.byteLength / info.bytes);
}
