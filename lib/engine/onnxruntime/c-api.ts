/**
 * @file The part of ONNX Runtime's C API that the engine uses, called through koffi.
 *
 * `OrtGetApiBase()->GetApi(version)` returns a table of function pointers that only ever grows at its end, so an index
 * means the same function in every release (onnxruntime_c_api.h, struct OrtApi). Every function that can fail returns
 * an OrtStatus*, null for success; `call`, `out` and `callAsync` turn one into an OrtStatusError and release it.
 *
 * Pointers are bigint addresses, 0n for null. A typed array is passed as itself: its address goes to the library, and the array
 * stays reachable until the call has come back. An address alone keeps nothing alive: V8 may collect an array right after
 * `addressOf`, its last use, and free the memory before the library reads it. Who needs an address for longer uses `hold`.
 */
import { createRequire } from "node:module";

/** The OrtApi version asked for; ONNX Runtime 1.23 and later have it. */
const API_VERSION = 23;

/**
 * koffi runs native code on stacks of its own. Its default of 128 KiB for asynchronous calls is too little for graph
 * optimization and for MLAS, which keeps panels of matrices on the stack. Only touched pages cost memory.
 */
const STACK_BYTES = 8 * 1024 * 1024;

/** koffi's type of each letter used in the table below; `f` is a file name, UTF-16 on Windows. */
const letters = {
  p: "void*",
  s: "const char*",
  f: process.platform === "win32" ? "const char16_t*" : "const char*",
  i: "int",
  z: "size_t",
} as const;

/** Functions that return an OrtStatus*: index in the table and argument types. */
const fallible = {
  CreateEnv: [3, "isp"],
  CreateSessionFromArray: [8, "ppzpp"],
  Run: [9, "ppppzpzp"],
  CreateSessionOptions: [10, "p"],
  EnableProfiling: [14, "pf"],
  DisableMemPattern: [17, "p"],
  SetSessionLogSeverityLevel: [22, "pi"],
  SetSessionGraphOptimizationLevel: [23, "pi"],
  SetIntraOpNumThreads: [24, "pi"],
  SetInterOpNumThreads: [25, "pi"],
  SessionGetInputCount: [30, "pp"],
  SessionGetOutputCount: [31, "pp"],
  SessionGetInputTypeInfo: [33, "pzp"],
  SessionGetOutputTypeInfo: [34, "pzp"],
  SessionGetInputName: [36, "pzpp"],
  SessionGetOutputName: [37, "pzpp"],
  CreateRunOptions: [39, "p"],
  RunOptionsSetRunLogSeverityLevel: [41, "pi"],
  CreateTensorWithDataAsOrtValue: [49, "ppzpzip"],
  GetTensorMutableData: [51, "pp"],
  CastTypeInfoToTensorInfo: [55, "pp"],
  GetTensorElementType: [60, "pp"],
  GetDimensionsCount: [61, "pp"],
  GetDimensions: [62, "ppz"],
  GetSymbolicDimensions: [63, "ppz"],
  GetTensorTypeAndShape: [65, "pp"],
  CreateMemoryInfo: [68, "siiip"],
  CreateCpuMemoryInfo: [69, "iip"],
  AllocatorAlloc: [75, "pzp"],
  AllocatorFree: [76, "pp"],
  GetAllocatorWithDefaultOptions: [78, "p"],
  SessionEndProfiling: [110, "ppp"],
  GetAvailableProviders: [125, "pp"],
  ReleaseAvailableProviders: [126, "pi"],
  AddSessionConfigEntry: [130, "pss"],
  CreateAllocator: [131, "ppp"],
  RunWithBinding: [133, "ppp"],
  CreateIoBinding: [134, "pp"],
  BindInput: [136, "psp"],
  BindOutput: [137, "psp"],
  BindOutputToDevice: [138, "psp"],
  GetBoundOutputValues: [140, "pppp"],
  CreateAndRegisterAllocator: [144, "ppp"],
  SynchronizeBoundInputs: [202, "p"],
  SynchronizeBoundOutputs: [203, "p"],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, "pp"],
  CreateCUDAProviderOptions: [205, "p"],
  UpdateCUDAProviderOptions: [206, "pppz"],
  SessionOptionsAppendExecutionProvider: [216, "psppz"],
} as const;

/** Functions that free one object and return nothing. */
const releasers = {
  ReleaseEnv: 92,
  ReleaseStatus: 93,
  ReleaseMemoryInfo: 94,
  ReleaseSession: 95,
  ReleaseValue: 96,
  ReleaseRunOptions: 97,
  ReleaseTypeInfo: 98,
  ReleaseTensorTypeAndShapeInfo: 99,
  ReleaseSessionOptions: 100,
  ReleaseAllocator: 132,
  ReleaseIoBinding: 135,
  ReleaseCUDAProviderOptions: 208,
} as const;

/** Name of a function that can fail. */
export type OrtFunction = keyof typeof fallible;
/** Name of a function that frees an object. */
export type OrtReleaser = keyof typeof releasers;
/** An address in this process; 0n is null. */
export type Pointer = bigint;

type NativeArgument = Pointer | number | string | ArrayBufferView;

const NOTHING: readonly NativeArgument[] = [];

/** The slice of koffi used here; its own types are `any` throughout. */
interface NativeFunction {
  (...args: unknown[]): unknown;
  async(...args: unknown[]): void;
}
interface Library {
  func(definition: string): NativeFunction;
}
interface Koffi {
  config(settings?: Record<string, number>): { async_stack_size: number };
  load(path: string | null): Library;
  proto(result: string, args: string[]): unknown;
  decode: {
    (pointer: Pointer, type: unknown): NativeFunction;
    string(pointer: Pointer): string;
    uint64(pointer: Pointer): number | bigint;
  };
  address(value: ArrayBufferView): bigint;
  view(pointer: Pointer, byteLength: number): ArrayBuffer;
}

/** An OrtStatus that was not OK. */
export class OrtStatusError extends Error {
  readonly code = "ORT_STATUS";
  /** The function of the C API that failed. */
  readonly api: string;
  /** OrtErrorCode: 1 fail, 2 invalid argument, 9 not implemented, 10 invalid graph, 11 provider … */
  readonly ortCode: number;

  constructor(api: string, ortCode: number, message: string) {
    super(message);
    this.name = "OrtStatusError";
    this.api = api;
    this.ortCode = ortCode;
  }
}

/** The loaded library. One per JavaScript thread. */
export class OrtApi {
  /** For example `1.30.0`. */
  readonly version: string;
  readonly #koffi: Koffi;
  /** Held because koffi unloads a library once its handle is collected, whatever still points into it. */
  readonly #library: Library;
  readonly #table: Pointer;
  readonly #functions = new Map<string, NativeFunction>();
  readonly #getErrorCode: NativeFunction;
  readonly #getErrorMessage: NativeFunction;
  readonly #memcpy: NativeFunction;
  /** Where a synchronous call leaves its result; read at once. */
  readonly #slot = new BigUint64Array(new ArrayBuffer(16));
  readonly #slotAddress: Pointer;
  /** Arguments of the synchronous call in progress. */
  #lent: readonly NativeArgument[] = [];
  /** Arguments of asynchronous calls in progress, and what `hold` was given. */
  readonly #held = new Set<unknown>();

  /** Loads the library at `path`. Throws Error where koffi or the library cannot be loaded or is too old. */
  constructor(path: string) {
    this.#koffi = createRequire(import.meta.url)("koffi") as Koffi;
    growStack(this.#koffi);
    this.#library = this.#koffi.load(path);
    keepLoaded(this.#koffi, path);
    const base = this.#library.func("void* OrtGetApiBase()")() as Pointer;
    const member = (index: number) => this.#read(base + BigInt(index * 8));
    const getApi = this.#koffi.decode(member(0), this.#koffi.proto("void*", ["uint32_t"]));
    const getVersion = this.#koffi.decode(member(1), this.#koffi.proto("const char*", []));
    this.version = getVersion() as string;
    const table = getApi(API_VERSION) as Pointer | null;
    if (table === null) throw new Error(`${path}: ONNX Runtime ${this.version} has no C API ${API_VERSION}`);
    this.#table = table;
    this.#getErrorCode = this.#bind("GetErrorCode", 1, "int", ["void*"]);
    this.#getErrorMessage = this.#bind("GetErrorMessage", 2, "const char*", ["void*"]);
    for (const name in fallible) {
      const [index, args] = fallible[name as OrtFunction];
      const types = [...args].map((letter) => letters[letter as keyof typeof letters]);
      this.#functions.set(name, this.#bind(name, index, "void*", types));
    }
    for (const name in releasers) {
      this.#functions.set(name, this.#bind(name, releasers[name as OrtReleaser], "void", ["void*"]));
    }
    const libc = process.platform === "win32" ? "msvcrt.dll" : null;
    this.#memcpy = this.#koffi.load(libc).func("void* memcpy(void*, void*, size_t)");
    this.#slotAddress = this.#koffi.address(this.#slot);
  }

  /** Calls a function that can fail. Throws OrtStatusError. */
  call(name: OrtFunction, ...args: NativeArgument[]): void {
    this.#check(name, this.#invoke(name, args));
  }

  /** Calls a function whose last argument is `T**` or `size_t*`, and returns what it put there. */
  out(name: OrtFunction, ...args: NativeArgument[]): Pointer {
    this.#slot[0] = 0n;
    this.#check(name, this.#invoke(name, args, this.#slotAddress));
    return this.#slot[0];
  }

  /** `out`, for functions that put two numbers (pointer, then count). */
  out2(name: OrtFunction, ...args: NativeArgument[]): [Pointer, Pointer] {
    this.#slot.fill(0n);
    this.#check(name, this.#invoke(name, args, this.#slotAddress, this.#slotAddress + 8n));
    return [this.#slot[0], this.#slot[1]];
  }

  /** Calls a function on a libuv thread. Rejects with OrtStatusError. */
  callAsync(name: OrtFunction, ...args: NativeArgument[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const release = this.hold(args);
      this.#function(name).async(...this.#natives(args), (error: unknown, status: unknown) => {
        release();
        try {
          if (error) throw error;
          this.#check(name, status);
          resolve();
        } catch (failure) {
          reject(failure as Error);
        }
      });
    });
  }

  /** Frees one object; null is allowed. */
  free(name: OrtReleaser, pointer: Pointer): void {
    if (pointer !== 0n) this.#function(name)(pointer);
  }

  /** Keeps data reachable until the function that comes back is called; for addresses that outlast a call. */
  hold(data: unknown): () => void {
    const entry = { data };
    this.#held.add(entry);
    return () => void this.#held.delete(entry);
  }

  /**
   * Address of the first element; moves the array off V8's heap for good where it still was on it. Holds nothing: the address is
   * good only while something else keeps the array.
   */
  addressOf(data: ArrayBufferView): Pointer {
    // touching .buffer makes V8 give a small array a backing store that never moves
    return data.buffer.byteLength === 0 ? 0n : this.#koffi.address(data);
  }

  /** UTF-8 text at an address, up to its zero byte. */
  text(pointer: Pointer): string {
    return this.#koffi.decode.string(pointer);
  }

  /** The 64-bit numbers at an address. */
  read64(pointer: Pointer, count: number): bigint[] {
    return Array.from({ length: count }, (_, i) => BigInt.asIntN(64, this.#read(pointer + BigInt(i * 8))));
  }

  /** Copies bytes between addresses on the calling thread. */
  copy(target: Pointer, source: Pointer, byteLength: number): void {
    if (byteLength > 0) this.#memcpy(target, source, byteLength);
  }

  /** Copies bytes on a libuv thread, between addresses or arrays. The caller keeps what lies at an address. */
  copyAsync(
    target: Pointer | ArrayBufferView,
    source: Pointer | ArrayBufferView,
    byteLength: number,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const args = [target, source, byteLength];
      const release = this.hold(args);
      this.#memcpy.async(...this.#natives(args), (error: Error | null) => {
        release();
        if (error) reject(error);
        else resolve();
      });
    });
  }

  /** Calls a function on this thread; `args` are reachable until it has come back. */
  #invoke(name: string, args: readonly NativeArgument[], ...more: Pointer[]): unknown {
    this.#lent = args;
    const result = this.#function(name)(...this.#natives(this.#lent), ...more);
    this.#lent = NOTHING;
    return result;
  }

  /** Arrays as their addresses; null where there is nothing in them. */
  #natives(args: readonly NativeArgument[]): (Pointer | number | string)[] {
    return args.map((arg) => (typeof arg === "object" ? this.addressOf(arg) : arg));
  }

  #read(pointer: Pointer): bigint {
    return BigInt(this.#koffi.decode.uint64(pointer));
  }

  #bind(name: string, index: number, result: string, args: string[]): NativeFunction {
    const address = this.#table === undefined ? 0n : this.#read(this.#table + BigInt(index * 8));
    if (address === 0n) throw new Error(`ONNX Runtime ${this.version} has no ${name}`);
    return this.#koffi.decode(address, this.#koffi.proto(result, args));
  }

  #function(name: string): NativeFunction {
    return this.#functions.get(name) as NativeFunction;
  }

  #check(name: string, status: unknown): void {
    if (status === null) return;
    const code = this.#getErrorCode(status) as number;
    const message = (this.#getErrorMessage(status) as string).trim();
    this.free("ReleaseStatus", status as Pointer);
    throw new OrtStatusError(name, code, message);
  }
}

/** Gives koffi's stacks room before the first library is loaded; afterwards koffi refuses. */
function growStack(koffi: Koffi): void {
  if (koffi.config().async_stack_size >= STACK_BYTES) return;
  koffi.config({ async_stack_size: STACK_BYTES, sync_stack_size: STACK_BYTES });
}

/**
 * Pins the library in memory. The end of a JavaScript thread would otherwise unload it, under the feet of a run still
 * in flight on another thread. Windows keeps it through the binding's own handle.
 */
function keepLoaded(koffi: Koffi, path: string): void {
  if (process.platform === "win32") return;
  const RTLD_NOW = 2;
  const RTLD_NODELETE = process.platform === "darwin" ? 0x80 : 0x1000;
  koffi.load(null).func("void* dlopen(const char*, int)")(path, RTLD_NOW | RTLD_NODELETE);
}

const loaded = new Map<string, OrtApi>();

/** The library at `path`, loaded once. */
export function loadOrtApi(path: string): OrtApi {
  let api = loaded.get(path);
  if (api === undefined) {
    api = new OrtApi(path);
    loaded.set(path, api);
  }
  return api;
}
