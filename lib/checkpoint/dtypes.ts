/**
 * @file Element types of the safetensors format, and their widening to (narrowing from) float32.
 * In: little-endian bytes. Out: Float32Array, exact for F16 and BF16, rounded to nearest for F64.
 */

/** Bits per element of every dtype in the format, in its class order: a writer puts later classes first. */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** Name of an element type as the safetensors header spells it. */
export type SafetensorsDtype = keyof typeof DTYPE_BITS;

/** The element types that can become float32 parameters. */
export type FloatDtype = "F32" | "F16" | "BF16" | "F64";

/** Place of a dtype in the class order. */
export const DTYPE_RANK: ReadonlyMap<string, number> = new Map(
  Object.keys(DTYPE_BITS).map((name, rank) => [name, rank]),
);

/** Whether `name` is an element type of the format. */
export function isDtype(name: unknown): name is SafetensorsDtype {
  return typeof name === "string" && DTYPE_RANK.has(name);
}

/** Whether tensors of this type can be read as float32 parameters. */
export function isFloatDtype(dtype: SafetensorsDtype): dtype is FloatDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16" || dtype === "F64";
}

/** A zeroed Float32Array on its own ArrayBuffer, which an engine may bind without copying. */
export function ownFloat32(length: number): Float32Array<ArrayBuffer> {
  return new Float32Array(new ArrayBuffer(length * 4));
}

let halfTable: Uint32Array | undefined;

/** Float32 bits of each of the 65,536 half floats; 256 KiB, built on first use. */
function halfToFloatBits(): Uint32Array {
  if (halfTable) return halfTable;
  halfTable = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    let fraction = half & 0x3ff;
    let bits: number;
    if (exponent === 0x1f)
      bits = 0x7f800000 | (fraction << 13); // infinity, NaN
    else if (exponent !== 0) bits = ((exponent + 112) << 23) | (fraction << 13);
    else if (fraction === 0) bits = 0;
    else {
      // subnormal half: normalise, every one is a normal float32
      let shift = 0;
      while ((fraction & 0x400) === 0) {
        fraction <<= 1;
        shift++;
      }
      bits = ((113 - shift) << 23) | ((fraction & 0x3ff) << 13);
    }
    halfTable[half] = (sign | bits) >>> 0;
  }
  return halfTable;
}

/**
 * Widens `bytes` (little-endian, `dtype`) into `out` from element `offset` on.
 * `bytes` must be aligned to the element size within its buffer; its length says how many elements there are.
 */
export function widenInto(out: Float32Array, offset: number, dtype: FloatDtype, bytes: Uint8Array): void {
  if (dtype === "F32") {
    new Uint8Array(out.buffer, out.byteOffset + offset * 4, bytes.length).set(bytes);
    return;
  }
  if (dtype === "F64") {
    out.set(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8), offset);
    return;
  }
  const source = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const bits = new Uint32Array(out.buffer, out.byteOffset + offset * 4, source.length);
  if (dtype === "BF16") {
    for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  } else {
    const table = halfToFloatBits();
    for (let i = 0; i < source.length; i++) bits[i] = table[source[i]!]!;
  }
}

/**
 * Rounds float32 values to little-endian BF16 or F16, to nearest, ties to even; NaN stays NaN, overflow is
 * infinity.
 */
export function narrow(values: Float32Array, dtype: "BF16" | "F16"): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(new ArrayBuffer(values.length * 2));
  const one = dtype === "BF16" ? bf16Bits : f16Bits;
  for (let i = 0; i < bits.length; i++) out[i] = one(bits[i]!);
  return out;
}

function bf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN: keep it quiet
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16; // round to nearest even
}

function f16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more round to infinity
  const exponent = magnitude >>> 23;
  if (exponent >= 113) {
    // normal half: drop 13 bits, rounding to even
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
    return sign | ((rounded - (112 << 23)) >>> 13);
  }
  if (exponent < 102) return sign; // under half of the smallest subnormal
  const shift = 126 - exponent; // 14 .. 24
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const halfway = 1 << (shift - 1);
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  return sign | (kept + (rest > halfway || (rest === halfway && (kept & 1) === 1) ? 1 : 0));
}
