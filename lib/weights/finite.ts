/** @file Finds NaN and infinities fast: an all-ones exponent in the float's bits. Pure. */
import { BREATH_BYTES, Breather } from "../checkpoint/index.js";

const BLOCK = BREATH_BYTES / Float32Array.BYTES_PER_ELEMENT;

/** Index of the first element that is NaN or infinite, or -1. Lets other work run in between. */
export async function findNonFinite(data: Float32Array, breather = new Breather()): Promise<number> {
  const bits = new Int32Array(data.buffer, data.byteOffset, data.length);
  for (let from = 0; from < bits.length; from += BLOCK) {
    const block = bits.subarray(from, from + BLOCK);
    const found = scan(block);
    if (found >= 0) return from + found;
    await breather.after(block.byteLength);
  }
  return -1;
}

function scan(bits: Int32Array): number {
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & 0x7f800000) === 0x7f800000) return i;
  }
  return -1;
}
