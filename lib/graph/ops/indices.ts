/**
 * @file Tensors made from shapes: a dimension as a number, a tensor's shape, consecutive whole numbers.
 */
import { defineOp } from "../define-op.js";
import { type Dim, isStatic, normalizeDim, type Shape } from "../dims.js";
import type { Graph } from "../graph.js";
import type { DType, Tensor } from "../tensor.js";

/** Attributes of "DimValue". */
export interface DimValueAttrs {
  readonly dim: Dim;
}

const dimValueOp = defineOp<DimValueAttrs>("DimValue", {
  infer: () => ({ dtype: "int64", shape: [] }),
  vjp: { none: "a dimension is a whole number that no input's elements change" },
  onnx: (emit, { dim }) => emit.node("Squeeze", {}, { inputs: [emit.dims([dim])] }),
});

/** The value of a dimension in the run as a scalar; default int64. */
export function dimValue(graph: Graph, dim: Dim, dtype: DType = "int64"): Tensor {
  const value = normalizeDim(dim);
  if (typeof value === "number") return graph.constant(value, { dtype });
  return dimValueOp.many([], { dim: value }, graph)[0].cast(dtype);
}

/** Attributes of "ShapeOf": the shape that the run gives values to. */
export interface ShapeOfAttrs {
  readonly shape: Shape;
}

const shapeOfOp = defineOp<ShapeOfAttrs>("ShapeOf", {
  infer: (_, { shape }) => ({ dtype: "int64", shape: [shape.length] }),
  vjp: { none: "a shape is whole numbers that no input's elements change" },
  onnx: (emit, { shape }) => emit.node("Identity", {}, { inputs: [emit.dims(shape)] }),
});

/** The shape of x as an int64 vector. */
export function shapeOf(x: Tensor): Tensor {
  if (isStatic(x.shape)) return x.graph.constant([...x.shape], { dtype: "int64" });
  return shapeOfOp.many([], { shape: x.shape }, x.graph)[0];
}

/** Attributes of "Range". */
export interface RangeAttrs {
  readonly length: Dim;
}

const rangeOp = defineOp<RangeAttrs>("Range", {
  infer: (_, { length }) => ({ dtype: "int64", shape: [length] }),
  vjp: { none: "positions are whole numbers that no input's elements change" },
  onnx: (emit, { length }) => {
    const limit = emit.helper("Squeeze", [emit.dims([length])]);
    emit.node("Range", {}, { inputs: [emit.scalar(0, "int64"), limit, emit.scalar(1, "int64")] });
  },
});

/** The int64 vector 0, 1, …, length − 1. */
export function range(graph: Graph, length: Dim): Tensor {
  return rangeOp.many([], { length: normalizeDim(length) }, graph)[0];
}
