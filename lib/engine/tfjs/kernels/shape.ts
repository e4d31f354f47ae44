/**
 * @file Ops that move elements, and ops that make tensors from shapes.
 */
import type {
  ConcatAttrs,
  ConstantAttrs,
  DimValueAttrs,
  PadAttrs,
  RangeAttrs,
  ShapeAttrs,
  ShapeOfAttrs,
  SliceAttrs,
  SplitAttrs,
  TransposeAttrs,
} from "../../../graph/index.js";
import { toTf } from "../host-data.js";
import { type Kernel, type KernelTable, numeric, type Tensor } from "./kernel.js";

/** Runs a kernel that only knows numbers; truth values become them and come back. */
function asNumbers(x: Tensor, move: (x: Tensor) => Tensor): Tensor {
  return x.dtype === "bool" ? move(numeric(x)).cast("bool") : move(x);
}

const constant: Kernel<ConstantAttrs> = ({ tf, attrs: { data }, outputs: [y] }) =>
  toTf(tf, y.dtype, y.shape, data);

const reshape: Kernel<ShapeAttrs> = ({ outputs: [y] }, x) => x.reshape(y.shape);

const expand: Kernel<ShapeAttrs> = ({ outputs: [y] }, x) => asNumbers(x, (n) => n.broadcastTo(y.shape));

const transpose: Kernel<TransposeAttrs> = ({ attrs: { perm } }, x) => x.transpose([...perm]);

const slice: Kernel<SliceAttrs> = ({ attrs: { axis, start }, outputs: [y], dim }, x) => {
  const begin = y.shape.map((_, i) => (i === axis ? dim(start) : 0));
  return x.slice(begin, y.shape);
};

const pad: Kernel<PadAttrs> = ({ tf, attrs: { axis, before, after }, outputs: [y], dim }, x) => {
  if (x.size === 0) return tf.zeros(y.shape, x.dtype);
  const room = x.shape.map((_, i): [number, number] => (i === axis ? [dim(before), dim(after)] : [0, 0]));
  return asNumbers(x, (n) => tf.pad(n, room));
};

const concat: Kernel<ConcatAttrs> = ({ tf, attrs: { axis } }, ...parts) => {
  const filled = parts.filter((part) => part.size > 0);
  return filled.length === 1 ? filled[0] : asNumbers(filled[0], () => tf.concat(filled.map(numeric), axis));
};

const split: Kernel<SplitAttrs> = ({ tf, attrs: { axis }, outputs }, x): Tensor[] => {
  let start = 0;
  return outputs.map(({ shape }) => {
    const begin = shape.map((_, i) => (i === axis ? start : 0));
    start += shape[axis];
    return shape.includes(0) ? tf.zeros(shape, x.dtype) : x.slice(begin, shape);
  });
};

const dimValue: Kernel<DimValueAttrs> = ({ tf, attrs, dim }) => tf.scalar(dim(attrs.dim), "int32");

const shapeOf: Kernel<ShapeOfAttrs> = ({ tf, attrs, dims }) => tf.tensor1d(dims(attrs.shape), "int32");

const range: Kernel<RangeAttrs> = ({ tf, attrs, dim }) => tf.range(0, dim(attrs.length), 1, "int32");

/** Kernels that move elements or make them from shapes. */
export const shapeKernels: KernelTable = {
  Constant: constant,
  Reshape: reshape,
  AssumeShape: (_, x) => x,
  Expand: expand,
  Transpose: transpose,
  Slice: slice,
  Pad: pad,
  Concat: concat,
  Split: split,
  DimValue: dimValue,
  ShapeOf: shapeOf,
  Range: range,
};
