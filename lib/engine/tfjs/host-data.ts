/**
 * @file Bytes of an engine's tensor to and from TensorFlow.js, which knows neither int64 nor float16: the first travels
 * as int32 and must fit, the second is computed with as float32.
 */
import type * as tfjs from "@tensorflow/tfjs";
import { float16Bits } from "../../graph/host-data.js";
import type { DType } from "../../graph/index.js";
import type { EngineData } from "../types.js";

/** TensorFlow.js, whichever package it comes from. */
export type Tfjs = typeof tfjs;

/** TensorFlow.js's element type for one of ours. */
export function tfDtype(dtype: DType): "float32" | "int32" | "bool" {
  if (dtype === "bool") return "bool";
  return dtype === "int64" || dtype === "int32" ? "int32" : "float32";
}

/** A tensor of these elements. Throws RangeError on an int64 that int32 cannot hold. */
export function toTf(tf: Tfjs, dtype: DType, dims: readonly number[], data: EngineData): tfjs.Tensor {
  return tf.tensor(toNumbers(dtype, data), [...dims], tfDtype(dtype));
}

/** The tensor's elements as `dtype`, in memory of their own. */
export function fromTf(dtype: DType, tensor: tfjs.Tensor): EngineData {
  const values = tensor.dataSync() as Float32Array | Int32Array | Uint8Array;
  switch (dtype) {
    case "float32":
      return Float32Array.from(values);
    case "float16":
      return Uint16Array.from(values, float16Bits);
    case "int64":
      return BigInt64Array.from(values as unknown as ArrayLike<bigint>, BigInt);
    case "int32":
      return Int32Array.from(values);
    case "bool":
      return Uint8Array.from(values);
  }
}

function toNumbers(dtype: DType, data: EngineData): Float32Array | Int32Array | Uint8Array {
  if (dtype === "float16") return Float32Array.from(data as Uint16Array, float16Value);
  if (dtype !== "int64") return data as Float32Array | Int32Array | Uint8Array;
  return Int32Array.from(data as BigInt64Array as unknown as ArrayLike<number>, (value) => {
    const number = Number(value);
    if (number === (number | 0)) return number;
    throw new RangeError(`int64 ${value}: TensorFlow.js holds whole numbers in 32 bits`);
  });
}

/** The number that half-precision bits stand for. */
export function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
