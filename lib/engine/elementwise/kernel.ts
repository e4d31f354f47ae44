/**
 * @file A kernel over one memory, run block by block: by a thread of the pool, or on the spot where that is quicker. Which blocks are
 * taken by whom changes no bit of the result.
 */
import type {} from "./webassembly.js";

/** Elements of a block: long enough that a call costs little, short enough to be shared out evenly. */
export const BLOCK = 16_384;

/** Blocks that a thread takes at once: 1 MiB of each vector, so that memory is read in long stretches. */
const TAKEN_AT_ONCE = 16;

/** One run of a kernel. */
export interface KernelCall {
  /** Byte addresses of input vectors, then of output vectors. */
  readonly addresses: readonly number[];
  readonly scalars: readonly number[];
  /** Elements of each vector. */
  readonly size: number;
  /** Gets the sums of each block, [blocks · sums]; shared between the threads. */
  readonly partials: Float64Array;
  /** The next block that nobody has taken, [1]; shared between the threads. */
  readonly next: Int32Array;
}

/** A call of `size` elements; its counter and sums lie in shared memory. */
export function kernelCall(
  addresses: readonly number[],
  scalars: readonly number[],
  size: number,
  sums: number,
): KernelCall {
  const blocks = Math.ceil(size / BLOCK);
  const partials = new Float64Array(new SharedArrayBuffer(8 * blocks * sums));
  return { addresses, scalars, size, partials, next: new Int32Array(new SharedArrayBuffer(4)) };
}

/** Code of a plan with the memory it works on. */
export class Kernel {
  readonly #run: (...parameters: number[]) => number | number[] | undefined;

  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory) {
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    this.#run = exports.run as (...parameters: number[]) => number | number[] | undefined;
  }

  /** Takes blocks of the call until none is left. */
  work({ addresses, scalars, size, partials, next }: KernelCall): void {
    const blocks = Math.ceil(size / BLOCK);
    for (;;) {
      const first = Atomics.add(next, 0, TAKEN_AT_ONCE);
      if (first >= blocks) return;
      for (let block = first; block < Math.min(blocks, first + TAKEN_AT_ONCE); block++) {
        const begin = block * BLOCK;
        const starts = addresses.map((address) => address + 4 * begin);
        const sums = this.#run(...starts, Math.min(BLOCK, size - begin), ...scalars);
        if (typeof sums === "number") partials[block] = sums;
        else
          sums?.forEach((sum, i) => {
            partials[block * sums.length + i] = sum;
          });
      }
    }
  }
}
