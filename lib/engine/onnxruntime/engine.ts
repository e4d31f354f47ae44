/**
 * @file The default engine: ONNX Runtime's C API, asynchronous and without copies.
 */
import { availableParallelism } from "node:os";
import type { Graph } from "../../graph/index.js";
import { toOnnx } from "../../graph/index.js";
import { checkData, dtypeInfo, elementCount } from "../dtypes.js";
import { EngineError } from "../errors.js";
import { LeakGuard } from "../leak-guard.js";
import { RunQueue } from "../run-queue.js";
import { SharingRules } from "../sharing.js";
import { renameOutputs } from "../signature.js";
import { Storage } from "../storage.js";
import { StoredTensor } from "../tensor.js";
import type {
  CompileOptions,
  Engine,
  EngineData,
  EngineDevice,
  EngineDType,
  EngineOptions,
  EngineStats,
  EngineTensor,
  Program,
} from "../types.js";
import type { Pointer } from "./c-api.js";
import { DeviceMemory, type MemoryName } from "./device-memory.js";
import { LOG_FATAL, type OrtEnvironment, ortEnvironment } from "./environment.js";
import { allocateHost, wrapHost } from "./host-memory.js";
import { findOrtLibrary } from "./library.js";
import { OrtProgram, type ProgramContext } from "./program.js";
import { checkProvider, unavailable } from "./providers.js";
import { createSession, createSessionOptions, readSignature, type SessionSettings } from "./session.js";

/** Settings of `createOrtEngine` beyond EngineOptions. */
export interface OrtEngineOptions extends EngineOptions {
  /** Path of another libonnxruntime (a GPU build); default: the one onnxruntime-node ships. */
  library?: string;
  /** Treat this kind of memory as the device's. Tests use it to take the device path over host memory. */
  deviceMemory?: MemoryName;
}

/**
 * An engine on the C API. Rejects with DeviceUnavailableError where the device's provider is missing, and with the
 * loader's Error where koffi or the library cannot be loaded here.
 */
export async function createOrtEngine(options: OrtEngineOptions = {}): Promise<Engine> {
  const device = options.device ?? "cpu";
  const library = findOrtLibrary(options.library);
  const environment = ortEnvironment(library);
  const settings: SessionSettings = {
    device,
    library,
    deviceId: options.deviceId ?? 0,
    threads: options.intraOpThreads ?? availableParallelism(),
    spin: options.spin ?? false,
    optimize: true,
    fixedShapes: false,
  };
  checkProvider(environment, settings);
  // WebGPU buffers are handles without addresses, so tensors stay on the host there and travel with each run
  const memoryName =
    options.deviceMemory ?? (device === "cuda" ? { name: "Cuda", deviceId: settings.deviceId } : undefined);
  const queue = new RunQueue(1);
  const memory = await openMemory(environment, queue, settings, memoryName);
  return new OrtEngine(environment, queue, settings, memory);
}

/** Starts the provider once, so that a device that cannot work is found now and not at the first compile. */
async function openMemory(
  environment: OrtEnvironment,
  queue: RunQueue,
  settings: SessionSettings,
  memoryName: MemoryName | undefined,
): Promise<DeviceMemory | undefined> {
  if (settings.device === "cpu" && memoryName === undefined) return undefined;
  const sessionOptions = createSessionOptions(environment.api, settings);
  try {
    const memory = await DeviceMemory.open(
      environment,
      queue,
      sessionOptions,
      memoryName ?? { name: "Cpu", deviceId: 0 },
    );
    if (memoryName !== undefined) return memory;
    memory.close();
    return undefined;
  } catch (error) {
    throw settings.device === "cpu" ? error : unavailable(settings.device, error);
  } finally {
    environment.api.free("ReleaseSessionOptions", sessionOptions);
  }
}

class OrtEngine implements Engine {
  readonly name: string;
  readonly device: EngineDevice;
  readonly threads: number;
  readonly #settings: SessionSettings;
  readonly #memory: DeviceMemory | undefined;
  readonly #context: ProgramContext;
  #closing: Promise<void> | undefined;

  constructor(
    environment: OrtEnvironment,
    queue: RunQueue,
    settings: SessionSettings,
    memory: DeviceMemory | undefined,
  ) {
    const { api } = environment;
    const guard = new LeakGuard();
    this.name = `onnxruntime ${api.version} (koffi, ${settings.device})`;
    this.device = settings.device;
    this.threads = settings.threads;
    this.#settings = settings;
    this.#memory = memory;
    const runOptions = api.out("CreateRunOptions");
    api.call("RunOptionsSetRunLogSeverityLevel", runOptions, LOG_FATAL);
    const memoryInfo = memory?.memoryInfo ?? environment.hostMemory;
    this.#context = {
      guard,
      environment,
      runOptions,
      device: memory,
      queue,
      allocate: (byteLength) => this.#allocate(byteLength),
      createValue: (tensor) => {
        const dims = new BigInt64Array(tensor.dims.map(BigInt));
        return api.out(
          "CreateTensorWithDataAsOrtValue",
          memoryInfo,
          tensor.address,
          tensor.byteLength,
          dims,
          dims.length,
          dtypeInfo(tensor.dtype).onnx,
        );
      },
      freeValue: (value) => api.free("ReleaseValue", value),
      copyAsync: api.copyAsync.bind(api),
    };
  }

  tensor(dtype: EngineDType, dims: readonly number[], data?: EngineData): EngineTensor {
    this.#checkOpen("tensor");
    const count = elementCount(dims);
    const byteLength = count * dtypeInfo(dtype).bytes;
    if (data !== undefined) checkData(dtype, count, data);
    if (this.#memory === undefined && data !== undefined) {
      const storage = wrapHost(this.#context.environment.api, this.#context.guard, data);
      return new StoredTensor(this.#context, storage, dtype, dims, { data });
    }
    const tensor = new StoredTensor(this.#context, this.#allocate(byteLength), dtype, dims);
    if (this.#memory === undefined) return tensor; // host memory comes zeroed
    this.#memory.copyIn(tensor.native.address, data ?? new (dtypeInfo(dtype).array)(count));
    return tensor;
  }

  async compile(
    graph: Graph | Uint8Array,
    { optimize = true, fixedShapes = false, profile }: CompileOptions = {},
  ): Promise<Program> {
    this.#checkOpen("compile");
    const { environment } = this.#context;
    const what = graph instanceof Uint8Array ? "model" : graph.name;
    let session: Pointer = 0n;
    try {
      const bytes = graph instanceof Uint8Array ? graph : toOnnx(graph);
      const settings = { ...this.#settings, optimize, fixedShapes, profile };
      session = await createSession(environment, bytes, settings);
      this.#checkOpen("compile");
      const signature = readSignature(environment, session);
      const outputs = signature.outputs.map((spec) => spec.name);
      return new OrtProgram(this.#context, {
        session,
        signature: renameOutputs(signature, graph),
        outputs,
        sharing: graph instanceof Uint8Array ? undefined : new SharingRules(graph),
        profiled: profile !== undefined,
      });
    } catch (error) {
      environment.api.free("ReleaseSession", session);
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
    const { environment, guard, queue, runOptions } = this.#context;
    guard.releaseAll(); // refuses new runs; what a run in flight uses is freed when it ends
    await queue.run(async () => {}); // first come, first served: when its turn comes, all runs before it are done
    guard.releaseAll(); // outputs of those runs
    environment.api.free("ReleaseRunOptions", runOptions);
    this.#memory?.close();
  }

  #allocate(byteLength: number): Storage {
    const { environment, guard } = this.#context;
    const memory = this.#memory;
    if (memory === undefined) return allocateHost(environment.api, guard, byteLength);
    const address = memory.allocate(Math.max(8, byteLength));
    return new Storage(guard, byteLength, { address, free: () => memory.free(address) });
  }

  #checkOpen(what: string): void {
    if (this.#closing !== undefined) throw new EngineError("RELEASED", `${what}: this engine was closed`);
  }
}
