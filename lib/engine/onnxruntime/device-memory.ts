/**
 * @file Memory of an accelerator, and copies between it and the host, with nothing but ONNX Runtime.
 *
 * A tiny session (one Identity over bytes) on the device owns the allocator. A copy is one run of it with the source
 * bound as input and the target as output, of which either lies on the host: ONNX Runtime moves the bytes. So no CUDA
 * library is loaded by us, and the same code is exercised in tests with the host's memory in the device's place.
 */
import { onnxModel } from "../onnx-model.js";
import type { RunQueue } from "../run-queue.js";
import type { DeviceCopies } from "../tensor.js";
import type { EngineData } from "../types.js";
import type { OrtApi, Pointer } from "./c-api.js";
import type { OrtEnvironment } from "./environment.js";

const UINT8 = 2; // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8

/** A model that copies bytes; also the smallest proof that a provider works. */
export function identityModel(): Uint8Array {
  return onnxModel(
    "copy",
    [{ name: "from", onnxType: UINT8, dims: ["bytes"] }],
    [{ name: "to", onnxType: UINT8, dims: ["bytes"] }],
    [{ op: "Identity", inputs: ["from"], outputs: ["to"] }],
  );
}

/** How ONNX Runtime names a kind of memory. */
export interface MemoryName {
  /** `Cuda` or `Cpu`. */
  name: string;
  deviceId: number;
}

/** Allocates on one device and copies to and from it. */
export class DeviceMemory implements DeviceCopies {
  readonly memoryInfo: Pointer;
  readonly #environment: OrtEnvironment;
  readonly #session: Pointer;
  readonly #allocator: Pointer;
  readonly #queue: RunQueue;

  private constructor(
    environment: OrtEnvironment,
    queue: RunQueue,
    session: Pointer,
    memoryInfo: Pointer,
    allocator: Pointer,
  ) {
    this.#environment = environment;
    this.#queue = queue;
    this.#session = session;
    this.memoryInfo = memoryInfo;
    this.#allocator = allocator;
  }

  /**
   * Opens the device's memory with session options that already name its provider. Reads take their turn in `queue`,
   * the engine's own. Rejects with OrtStatusError.
   */
  static async open(
    environment: OrtEnvironment,
    queue: RunQueue,
    sessionOptions: Pointer,
    { name, deviceId }: MemoryName,
  ): Promise<DeviceMemory> {
    const { api, env } = environment;
    const model = identityModel();
    const slot = new BigUint64Array(new ArrayBuffer(8));
    await api.callAsync("CreateSessionFromArray", env, model, model.byteLength, sessionOptions, slot);
    const session = slot[0];
    const memoryInfo = api.out("CreateMemoryInfo", name, 1 /* arena */, deviceId, 0 /* default */);
    const allocator = api.out("CreateAllocator", session, memoryInfo);
    return new DeviceMemory(environment, queue, session, memoryInfo, allocator);
  }

  get #api(): OrtApi {
    return this.#environment.api;
  }

  /** Address of new memory, not initialised. Throws OrtStatusError when the device has none left. */
  allocate(byteLength: number): Pointer {
    return this.#api.out("AllocatorAlloc", this.#allocator, byteLength);
  }

  free(address: Pointer): void {
    this.#api.call("AllocatorFree", this.#allocator, address);
  }

  /** Host → device, on the calling thread: the source may be reused at once. */
  copyIn(target: Pointer, source: EngineData): void {
    if (source.byteLength === 0) return;
    const letGo = this.#api.hold(source);
    const host = { memory: this.#environment.hostMemory, address: this.#api.addressOf(source) };
    const device = { memory: this.memoryInfo, address: target };
    const run = this.#bind(host, device, source.byteLength);
    try {
      this.#api.call("RunWithBinding", this.#session, 0n, run.binding);
      this.#api.call("SynchronizeBoundOutputs", run.binding);
    } finally {
      run.release();
      letGo();
    }
  }

  /** Device → host, on a libuv thread. */
  async copyOut(target: EngineData, source: Pointer): Promise<void> {
    if (target.byteLength === 0) return;
    const letGo = this.#api.hold(target);
    const host = { memory: this.#environment.hostMemory, address: this.#api.addressOf(target) };
    const device = { memory: this.memoryInfo, address: source };
    const run = this.#bind(device, host, target.byteLength);
    try {
      await this.#queue.run(() => this.#api.callAsync("RunWithBinding", this.#session, 0n, run.binding));
      this.#api.call("SynchronizeBoundOutputs", run.binding);
    } finally {
      run.release();
      letGo();
    }
  }

  /** Device → the same device, on a libuv thread; called while the caller holds the queue. */
  async copyWithin(target: Pointer, source: Pointer, byteLength: number): Promise<void> {
    if (byteLength === 0) return;
    const [from, to] = [source, target].map((address) => ({ memory: this.memoryInfo, address }));
    const run = this.#bind(from, to, byteLength);
    try {
      await this.#api.callAsync("RunWithBinding", this.#session, 0n, run.binding);
      this.#api.call("SynchronizeBoundOutputs", run.binding);
    } finally {
      run.release();
    }
  }

  /** Frees the session; all memory taken from it must have been freed. */
  close(): void {
    this.#api.free("ReleaseAllocator", this.#allocator);
    this.#api.free("ReleaseMemoryInfo", this.memoryInfo);
    this.#api.free("ReleaseSession", this.#session);
  }

  #bind(from: Region, to: Region, byteLength: number): { binding: Pointer; release: () => void } {
    const api = this.#api;
    const dims = new BigInt64Array([BigInt(byteLength)]);
    const values = [from, to].map(({ memory, address }) =>
      api.out("CreateTensorWithDataAsOrtValue", memory, address, byteLength, dims, 1, UINT8),
    );
    const binding = api.out("CreateIoBinding", this.#session);
    const release = () => {
      api.free("ReleaseIoBinding", binding);
      for (const value of values) api.free("ReleaseValue", value);
    };
    try {
      api.call("BindInput", binding, "from", values[0]);
      api.call("BindOutput", binding, "to", values[1]);
    } catch (error) {
      release();
      throw error;
    }
    return { binding, release };
  }
}

/** Bytes somewhere: OrtMemoryInfo and address. */
interface Region {
  memory: Pointer;
  address: Pointer;
}
