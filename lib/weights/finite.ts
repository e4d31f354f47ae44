/** @file Finds NaN and infinities fast: an all-ones exponent in the float's bits. Pure. */

/** Elements looked at between two breaths of the event loop: about 4 ms. */
const YIELD_ELEMENTS = 2 << 20;

/** Index of the first element that is NaN or infinite, or -1. Lets other work run between blocks of 2 M elements. */
export async function findNonFinite(data: Float32Array): Promise<number> {
  const bits = new Int32Array(data.buffer, data.byteOffset, data.length);
  for (let from = 0; from < bits.length; from += YIELD_ELEMENTS) {
    if (from > 0) await new Promise((resume) => setImmediate(resume));
    const found = scan(bits, from, Math.min(bits.length, from + YIELD_ELEMENTS));
    if (found >= 0) return found;
  }
  return -1;
}

function scan(bits: Int32Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    if ((bits[i] & 0x7f800000) === 0x7f800000) return i;
  }
  return -1;
}
