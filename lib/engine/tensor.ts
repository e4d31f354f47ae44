/**
 * @file Tensors over counted memory, shared by the bindings of ONNX Runtime: a shape, an element type, and the native
 * value made for them on first use and kept until release.
 */
import { checkData, dtypeInfo, elementCount } from "./dtypes.js";
import { EngineError } from "./errors.js";
import type { LeakGuard, Releasable } from "./leak-guard.js";
import type { Storage } from "./storage.js";
import type { EngineData, EngineDType, EngineTensor } from "./types.js";

/** Copies between the host and memory that only a device sees. */
export interface DeviceCopies {
  /** Host → device; the source may be reused at once. */
  copyIn(target: bigint, source: EngineData): void;
  /** Device → host, without blocking the event loop. */
  copyOut(target: EngineData, source: bigint): Promise<void>;
}

/** Copies `byteLength` bytes of host memory, each end an array or an address. */
export type HostCopy = (
  target: EngineData | bigint,
  source: EngineData | bigint,
  byteLength: number,
) => Promise<void>;

/** What a tensor needs of its engine. */
export interface TensorContext {
  readonly guard: LeakGuard;
  /** Present where tensors do not lie in host memory. */
  readonly device?: DeviceCopies;
  /** The native value over this memory. */
  createValue(tensor: NativeTensor): bigint;
  freeValue(value: bigint): void;
  /** Copies a large block of host memory without blocking the event loop, where the binding can. */
  readonly copyAsync?: HostCopy;
}

/** Below this a copy is quicker done than handed to another thread. */
const SMALL_COPY_BYTES = 1 << 20;

/** The native side of one tensor; knows nothing of the object the caller holds. */
export class NativeTensor implements Releasable {
  readonly #context: TensorContext;
  readonly storage: Storage;
  readonly byteOffset: number;
  readonly byteLength: number;
  /** The address as a number: exact, because addresses have at most 52 bits. */
  readonly start: number;
  readonly dtype: EngineDType;
  readonly dims: readonly number[];
  #value: bigint | undefined;
  /** Runs that use this tensor now; it is freed after the last of them. */
  #pins = 0;
  #released = false;

  constructor(
    context: TensorContext,
    storage: Storage,
    dtype: EngineDType,
    dims: readonly number[],
    byteOffset: number,
  ) {
    this.#context = context;
    this.storage = storage;
    this.byteOffset = byteOffset;
    this.byteLength = elementCount(dims) * dtypeInfo(dtype).bytes;
    this.start = Number(storage.address) + byteOffset;
    this.dtype = dtype;
    this.dims = dims;
    context.guard.liveTensors += 1;
  }

  get address(): bigint {
    return this.storage.address + BigInt(this.byteOffset);
  }

  /** Whether this tensor and `other`, both with addresses, have memory in common. */
  overlaps(other: NativeTensor): boolean {
    return this.start < other.start + other.byteLength && other.start < this.start + this.byteLength;
  }

  get released(): boolean {
    return this.#released;
  }

  /** Keeps the tensor alive through a run. */
  pin(): void {
    this.#pins += 1;
  }

  /** The run is over. */
  unpin(): void {
    this.#pins -= 1;
    if (this.#released && this.#pins === 0) this.#free();
  }

  /** The engine's native value over this memory. Throws EngineError where the memory was taken away. */
  value(): bigint {
    const { host, byteLength } = this.storage;
    if (host !== undefined && host.byteLength < byteLength) {
      // a detached buffer has freed its memory: using the address would read or write somebody else's
      throw new EngineError("INVALID_TENSOR", "tensor: its ArrayBuffer was transferred away", {
        expected: `${byteLength} bytes`,
        got: `${host.byteLength} bytes`,
      });
    }
    if (this.#value === undefined) {
      this.#value = this.#context.createValue(this);
      this.#context.guard.liveValues += 1;
    }
    return this.#value;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#context.guard.forget(this);
    this.#context.guard.liveTensors -= 1;
    if (this.#pins === 0) this.#free();
  }

  #free(): void {
    if (this.#value !== undefined) {
      this.#context.freeValue(this.#value);
      this.#context.guard.liveValues -= 1;
      this.#value = undefined;
    }
    this.storage.drop();
  }
}

/** An EngineTensor over counted memory. */
export class StoredTensor implements EngineTensor {
  readonly context: TensorContext;
  readonly native: NativeTensor;
  readonly size: number;
  #data: EngineData | undefined;

  /** Takes over one use of `storage`. `data` is the array to hand out as live view, where the caller brought one. */
  constructor(
    context: TensorContext,
    storage: Storage,
    dtype: EngineDType,
    dims: readonly number[],
    { byteOffset = 0, data }: { byteOffset?: number; data?: EngineData } = {},
  ) {
    this.context = context;
    this.native = new NativeTensor(context, storage, dtype, Object.freeze([...dims]), byteOffset);
    this.size = elementCount(dims);
    this.#data = data;
    context.guard.watch(this, this.native);
  }

  get dtype(): EngineDType {
    return this.native.dtype;
  }

  get dims(): readonly number[] {
    return this.native.dims;
  }

  get data(): EngineData {
    this.#checkAlive("data");
    if (this.#data !== undefined) return this.#data;
    const { host } = this.native.storage;
    if (host === undefined) {
      throw new EngineError("INVALID_TENSOR", "data: this tensor lies on a device, use read()", {
        expected: "a tensor in host memory",
        got: "a tensor on a device",
      });
    }
    const { array } = dtypeInfo(this.dtype);
    this.#data = new array(host.buffer, host.byteOffset + this.native.byteOffset, this.size);
    return this.#data;
  }

  async read(): Promise<EngineData> {
    this.#checkAlive("read");
    const { device, copyAsync } = this.context;
    const copy = new (dtypeInfo(this.dtype).array)(new ArrayBuffer(this.native.byteLength), 0, this.size);
    this.native.pin();
    try {
      if (device !== undefined) await device.copyOut(copy, this.native.address);
      else if (copyAsync !== undefined && copy.byteLength >= SMALL_COPY_BYTES)
        await copyAsync(copy, this.native.address, copy.byteLength);
      else copy.set(this.data as never);
    } finally {
      this.native.unpin();
    }
    return copy;
  }

  async write(src: EngineData): Promise<void> {
    this.#checkAlive("write");
    checkData(this.dtype, this.size, src);
    const { device, copyAsync } = this.context;
    this.native.pin();
    try {
      if (device !== undefined) device.copyIn(this.native.address, src);
      else if (copyAsync !== undefined && src.byteLength >= SMALL_COPY_BYTES)
        await copyAsync(this.native.address, src, src.byteLength);
      else this.data.set(src as never);
    } finally {
      this.native.unpin();
    }
  }

  view(dims: readonly number[], elementOffset = 0): EngineTensor {
    this.#checkAlive("view");
    const end = elementOffset + elementCount(dims);
    if (!Number.isSafeInteger(elementOffset) || elementOffset < 0 || end > this.size) {
      const got = `[${dims.join(", ")}] from element ${elementOffset}`;
      throw new EngineError("INVALID_TENSOR", `view: expected at most ${this.size} elements, got ${got}`, {
        name: "view",
        expected: `at most ${this.size} elements`,
        got,
      });
    }
    const { storage, byteOffset } = this.native;
    storage.retain();
    return new StoredTensor(this.context, storage, this.dtype, dims, {
      byteOffset: byteOffset + elementOffset * dtypeInfo(this.dtype).bytes,
    });
  }

  release(): void {
    this.#data = undefined;
    this.native.release();
  }

  #checkAlive(what: string): void {
    if (!this.native.released) return;
    throw new EngineError("RELEASED", `${what}: this tensor was released`);
  }
}

/** `tensor` as one of this engine's. Throws EngineError that names the feed or output it was given for. */
export function ownTensor(context: TensorContext, name: string, tensor: EngineTensor): StoredTensor {
  if (!(tensor instanceof StoredTensor) || tensor.context !== context) {
    throw new EngineError("INVALID_FEED", `${name}: expected a tensor of this engine`, {
      name,
      expected: "a tensor of this engine",
      got: tensor instanceof StoredTensor ? "a tensor of another engine" : typeof tensor,
    });
  }
  if (tensor.native.released)
    throw new EngineError("RELEASED", `${name}: this tensor was released`, { name });
  return tensor;
}
