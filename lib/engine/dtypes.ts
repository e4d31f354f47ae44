/**
 * @file Element types: size, host array, and the name or number each library gives them.
 */
import { EngineError } from "./errors.js";
import type { EngineData, EngineDType } from "./types.js";

/** Constructor of the host array of one element type. */
export interface EngineDataConstructor {
  new (length: number): EngineData;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): EngineData;
  readonly name: string;
}

/** One element type. */
export interface DTypeInfo {
  readonly bytes: number;
  readonly array: EngineDataConstructor;
  /** ONNXTensorElementDataType of the ONNX Runtime C API, equal to onnx.TensorProto.DataType. */
  readonly onnx: number;
}

const table: Record<EngineDType, DTypeInfo> = {
  float32: { bytes: 4, array: Float32Array as EngineDataConstructor, onnx: 1 },
  float16: { bytes: 2, array: Uint16Array as EngineDataConstructor, onnx: 10 },
  int64: { bytes: 8, array: BigInt64Array as EngineDataConstructor, onnx: 7 },
  int32: { bytes: 4, array: Int32Array as EngineDataConstructor, onnx: 6 },
  bool: { bytes: 1, array: Uint8Array as EngineDataConstructor, onnx: 9 },
};

/** Facts about an element type. Throws EngineError on a type engines do not carry. */
export function dtypeInfo(dtype: EngineDType): DTypeInfo {
  const info = table[dtype];
  if (info === undefined) {
    const expected = Object.keys(table).join(", ");
    throw new EngineError("INVALID_TENSOR", `dtype: expected one of ${expected}, got ${String(dtype)}`, {
      name: "dtype",
      expected,
      got: String(dtype),
    });
  }
  return info;
}

/** The element type an ONNX type number stands for, or undefined for one that engines do not carry. */
export function dtypeFromOnnx(onnx: number): EngineDType | undefined {
  for (const [dtype, info] of Object.entries(table)) if (info.onnx === onnx) return dtype as EngineDType;
  return undefined;
}

/** Number of elements of a shape; throws EngineError unless every dimension is a whole number ≥ 0. */
export function elementCount(dims: readonly number[], name = "dims"): number {
  let count = 1;
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new EngineError(
        "INVALID_TENSOR",
        `${name}: expected whole numbers ≥ 0, got [${dims.join(", ")}]`,
        {
          name,
          expected: "whole numbers ≥ 0",
          got: `[${dims.join(", ")}]`,
        },
      );
    }
    count *= dim;
  }
  return count;
}

/** Throws EngineError unless `data` is the host array of `dtype` with exactly `count` elements. */
export function checkData(dtype: EngineDType, count: number, data: EngineData): void {
  const { array } = dtypeInfo(dtype);
  const got = `${data?.constructor?.name ?? typeof data}(${data?.length ?? "?"})`;
  const expected = `${array.name}(${count})`;
  if (!(data instanceof (array as unknown as typeof Float32Array)) || data.length !== count) {
    throw new EngineError("INVALID_TENSOR", `data of a ${dtype} tensor: expected ${expected}, got ${got}`, {
      name: "data",
      expected,
      got,
    });
  }
}
