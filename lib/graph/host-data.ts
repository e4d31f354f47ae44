/**
 * @file Numbers on the host as typed arrays of the graph's element types.
 */
import { GraphError } from "./errors.js";
import type { DType, TypedArray } from "./tensor.js";

/** What a constant can be made from. */
export type ConstantData = number | readonly number[] | TypedArray;

/** `data` as a typed array of `dtype` (default: the array's own type, else float32). */
export function toTypedArray(data: ConstantData, dtype?: DType): { dtype: DType; values: TypedArray } {
  if (ArrayBuffer.isView(data)) {
    const own = dtypeOf(data, dtype);
    if (dtype && dtype !== own)
      throw new GraphError(`constant: dtype ${dtype} does not fit ${data.constructor.name}`);
    return { dtype: own, values: data };
  }
  const numbers = typeof data === "number" ? [data] : data;
  const type = dtype ?? "float32";
  switch (type) {
    case "float32":
      return { dtype: type, values: Float32Array.from(numbers) };
    case "float16":
      return { dtype: type, values: Uint16Array.from(numbers, float16Bits) };
    case "int32":
      return { dtype: type, values: Int32Array.from(numbers) };
    case "int64":
      return { dtype: type, values: BigInt64Array.from(numbers, (n) => BigInt(n)) };
    case "bool":
      return { dtype: type, values: Uint8Array.from(numbers, (n) => (n === 0 ? 0 : 1)) };
  }
}

/** The bytes under a typed array, without a copy. */
export function bytesOf(values: TypedArray): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** IEEE half-precision bits of `value`, rounded to nearest, ties to even. */
export function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // Below 2^-14 numbers are multiples of 2^-24; above, of 2^(exponent - 10).
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const steps = roundHalfEven(size / 2 ** (exponent - 10));
  // `steps` counts from 0 for subnormals and from 1024 otherwise; a carry lands in the exponent by itself.
  return sign | (size < 2 ** -14 ? steps : ((exponent + 14) << 10) + steps);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function dtypeOf(data: TypedArray, wanted?: DType): DType {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Uint16Array) return "float16";
  if (data instanceof BigInt64Array) return "int64";
  if (data instanceof Int32Array) return "int32";
  if (wanted === "bool") return "bool";
  throw new GraphError(`constant: a Uint8Array holds bool; pass dtype "bool"`);
}
