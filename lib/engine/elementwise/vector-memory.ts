/**
 * @file Where long vectors lie that elementwise programs run over together: on a CPU in one WebAssembly memory, which the threads of a
 * fused kernel share and every program of the engine reads as it reads any other; elsewhere wherever the engine puts them.
 */
import type { Engine, EngineTensor } from "../types.js";
import { MAX_PAGES, PAGE_BYTES } from "./webassembly.js";

/** The memory behind an array that lies in one. */
const memories = new WeakMap<ArrayBufferLike, WebAssembly.Memory>();

/** Vectors begin at multiples of this many bytes. */
const ALIGNMENT = 64;

/** A vector on a CPU and the memory it lies in. */
export interface PlacedVector {
  readonly memory: WebAssembly.Memory;
  /** First byte. */
  readonly address: number;
}

/** Most elements of a vector of which `count` fit together. */
export function longestTogether(count: number): number {
  return Math.floor((MAX_PAGES * PAGE_BYTES) / count / ALIGNMENT) * (ALIGNMENT / 4);
}

/** Room for up to `count` vectors of `size` float32 elements each. */
export class VectorMemory {
  readonly #engine: Engine;
  readonly #size: number;
  readonly #count: number;
  readonly #memory: WebAssembly.Memory | undefined;
  #taken = 0;

  constructor(engine: Engine, { size, count }: { size: number; count: number }) {
    this.#engine = engine;
    this.#size = size;
    this.#count = count;
    this.#memory = engine.device === "cpu" ? reserve(this.#stride * count) : undefined;
  }

  /** The next vector, zeros. The caller's to release. Throws RangeError beyond `count`. */
  take(): EngineTensor {
    if (this.#taken === this.#count) throw new RangeError(`all ${this.#count} vectors are taken`);
    const place = this.#taken++;
    if (!this.#memory) return this.#engine.tensor("float32", [this.#size]);
    const data = new Float32Array(this.#memory.buffer, place * this.#stride, this.#size);
    return this.#engine.tensor("float32", [this.#size], data);
  }

  get #stride(): number {
    return Math.ceil((4 * this.#size) / ALIGNMENT) * ALIGNMENT;
  }
}

/** Memory of this many bytes, of which untouched pages cost nothing; undefined where there is no such room. */
function reserve(bytes: number): WebAssembly.Memory | undefined {
  const pages = Math.max(1, Math.ceil(bytes / PAGE_BYTES));
  if (pages > MAX_PAGES) return undefined;
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    memories.set(memory.buffer, memory);
    return memory;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Where vectors lie, if all lie in one memory. */
export function placeVectors(vectors: readonly EngineTensor[]): PlacedVector[] | undefined {
  const placed = vectors.map(({ data: { buffer, byteOffset } }) => ({
    memory: memories.get(buffer),
    address: byteOffset,
  }));
  const { memory } = placed[0];
  return memory && placed.every((vector) => vector.memory === memory)
    ? (placed as PlacedVector[])
    : undefined;
}
