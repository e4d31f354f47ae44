/**
 * @file Ops that move elements without computing: reshape, transpose, expand, slice, pad, concat, split.
 * Their arguments may hold symbolic dimensions.
 */
import { defineOp } from "../define-op.js";
import {
  addDims,
  broadcastShapes,
  type Dim,
  divideDims,
  formatShape,
  normalizeAxis,
  normalizeDim,
  type Shape,
  sameShape,
  sizeOf,
  subDims,
} from "../dims.js";
import { GraphError } from "../errors.js";
import type { DType, Tensor } from "../tensor.js";
import { unbroadcast } from "./binary.js";

/** Attributes of "Reshape", "Expand" and "AssumeShape". */
export interface ShapeAttrs {
  /** The resulting shape. */
  readonly shape: Shape;
}

const reshapeOp = defineOp<ShapeAttrs>("Reshape", {
  infer: ([x], { shape }) => {
    if (sizeOf(x.shape) !== sizeOf(shape)) {
      throw new GraphError(`Reshape: ${formatShape(x.shape)} and ${formatShape(shape)} differ in size`);
    }
    return { dtype: x.dtype, shape };
  },
  vjp: ({ inputs: [x], dy }) => [dy.reshape(x.shape)],
  onnx: (emit, { shape }, { inputs: [x] }) => {
    // ONNX lets a target say 0 for "as in the input" and -1 for "what remains", which saves computing a shape.
    const target = shape.map((dim, i) => (typeof dim === "string" && dim === x!.shape[i] ? 0 : dim));
    const symbolic = target.filter((dim) => typeof dim === "string");
    if (symbolic.length <= 1 && !shape.includes(0)) {
      const value = emit.ints(target.map((dim) => (typeof dim === "string" ? -1 : dim)));
      emit.node("Reshape", {}, { inputs: [emit.inputs[0], value] });
    } else {
      // A computed dimension may be 0 in the run, and then it means 0.
      emit.node("Reshape", { allowzero: 1 }, { inputs: [emit.inputs[0], emit.dims(shape)] });
    }
  },
});

/** x with the same elements in another shape; one dimension may be -1, meaning what remains. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.indexOf(-1);
  const known = shape.map((dim, i) => (i === unknown ? 1 : normalizeDim(dim)));
  if (unknown >= 0) {
    const rest = divideDims(sizeOf(x.shape), sizeOf(known));
    if (rest === undefined) {
      throw new GraphError(`Reshape: cannot divide ${formatShape(x.shape)} into ${formatShape(shape)}`);
    }
    known[unknown] = rest;
  }
  if (sameShape(x.shape, known)) return x;
  const source = x.node.op === "Reshape" ? x.node.inputs[0]! : x;
  return source !== x && sameShape(source.shape, known) ? source : reshapeOp.one([source], { shape: known });
}

/** x with a dimension of 1 inserted before `axis` of the result. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis("unsqueeze", axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** x without its dimension of 1 at `axis`. */
export function squeeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis("squeeze", axis, x.rank);
  if (x.shape[at] !== 1) throw new GraphError(`squeeze: axis ${axis} of ${formatShape(x.shape)} is not 1`);
  return reshape(x, [...x.shape.slice(0, at), ...x.shape.slice(at + 1)]);
}

const assumeShapeOp = defineOp<ShapeAttrs>("AssumeShape", {
  infer: ([x], { shape }) => {
    if (x.rank !== shape.length) {
      throw new GraphError(`assumeShape: ${formatShape(x.shape)} cannot be ${formatShape(shape)}`);
    }
    return { dtype: x.dtype, shape };
  },
  vjp: ({ inputs: [x], dy }) => [dy.assumeShape(x.shape)],
  onnx: (emit) => emit.alias(),
});

/** x itself, declared to have `shape`: for dimensions that are equal in every run but written differently. */
export function assumeShape(x: Tensor, shape: Shape): Tensor {
  const wanted = shape.map(normalizeDim);
  return sameShape(x.shape, wanted) ? x : assumeShapeOp.one([x], { shape: wanted });
}

/** Attributes of "Transpose". */
export interface TransposeAttrs {
  /** Axis i of the result is axis perm[i] of the operand. */
  readonly perm: readonly number[];
}

const transposeOp = defineOp<TransposeAttrs>("Transpose", {
  infer: ([x], { perm }) => ({ dtype: x.dtype, shape: perm.map((axis) => x.shape[axis]) }),
  vjp: ({ attrs: { perm }, dy }) => [dy.transpose(perm.map((_, axis) => perm.indexOf(axis)))],
  onnx: (emit, { perm }) => emit.node("Transpose", { perm }),
});

/** x with its axes in the order `perm`; by default the last two are swapped. */
export function transpose(x: Tensor, perm?: readonly number[]): Tensor {
  const axes = x.shape.map((_, axis) => axis);
  const order = perm
    ? perm.map((axis) => normalizeAxis("Transpose", axis, x.rank))
    : [...axes.slice(0, -2), ...axes.slice(-2).reverse()];
  if (order.length !== x.rank || new Set(order).size !== x.rank) {
    throw new GraphError(`Transpose: [${perm}] is not an order of the axes of ${formatShape(x.shape)}`);
  }
  if (x.node.op === "Transpose") {
    const inner = (x.node.attrs as TransposeAttrs).perm;
    return transpose(
      x.node.inputs[0]!,
      order.map((axis) => inner[axis]),
    );
  }
  if (order.every((axis, i) => axis === i)) return x;
  return transposeOp.one([x], { perm: order });
}

const expandOp = defineOp<ShapeAttrs>("Expand", {
  infer: ([x], { shape }) => {
    if (!sameShape(broadcastShapes("Expand", x.shape, shape), shape)) {
      throw new GraphError(`Expand: ${formatShape(x.shape)} does not broadcast to ${formatShape(shape)}`);
    }
    return { dtype: x.dtype, shape };
  },
  vjp: ({ inputs: [x], dy }) => [unbroadcast(dy, x.shape)],
  onnx: (emit, { shape }) => emit.node("Expand", {}, { inputs: [emit.inputs[0], emit.dims(shape)] }),
});

/** x broadcast to `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  const wanted = shape.map(normalizeDim);
  if (sameShape(x.shape, wanted)) return x;
  const source = x.node.op === "Expand" ? x.node.inputs[0]! : x;
  return expandOp.one([source], { shape: wanted });
}

/** Attributes of "Slice": elements start, start + step, … before end, along one axis. */
export interface SliceAttrs {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
}

const sliceOp = defineOp<SliceAttrs>("Slice", {
  infer: ([x], { axis, start, end }) => {
    const length = subDims(end, start);
    if (typeof length === "number" && length < 0)
      throw new GraphError(`Slice: ${start}..${end} is empty backwards`);
    return { dtype: x.dtype, shape: x.shape.map((dim, i) => (i === axis ? length : dim)) };
  },
  vjp: ({ inputs: [x], attrs: { axis, start, end }, dy }) => [
    dy.pad(axis, start, subDims(x.shape[axis], end)),
  ],
  onnx: (emit, { axis, start, end }) =>
    emit.node(
      "Slice",
      {},
      { inputs: [emit.inputs[0], emit.dims([start]), emit.dims([end]), emit.ints([axis])] },
    ),
});

/** Where a slice starts and ends; a negative number counts from the end of the axis, no end means all of it. */
export interface SliceRange {
  /** Default 0. */
  start?: Dim;
  /** Exclusive; default the length of the axis. */
  end?: Dim;
}

/** The part of x from `start` up to but not including `end` along `axis`. */
export function slice(x: Tensor, axis: number, { start = 0, end }: SliceRange): Tensor {
  const at = normalizeAxis("Slice", axis, x.rank);
  const length = x.shape[at];
  const resolve = (bound: Dim): Dim => {
    const dim = typeof bound === "number" ? bound : normalizeDim(bound);
    const absolute = typeof dim === "number" && dim < 0 ? addDims(length, dim) : dim;
    if (typeof absolute === "number" && (absolute < 0 || (typeof length === "number" && absolute > length))) {
      throw new GraphError(`Slice: bound ${bound} is outside axis ${axis} of ${formatShape(x.shape)}`);
    }
    return absolute;
  };
  const [from, to] = [resolve(start), end === undefined ? length : resolve(end)];
  return from === 0 && to === length ? x : sliceOp.one([x], { axis: at, start: from, end: to });
}

/** Attributes of "Pad". */
export interface PadAttrs {
  readonly axis: number;
  /** Zeros put before and after along the axis. */
  readonly before: Dim;
  readonly after: Dim;
}

const padOp = defineOp<PadAttrs>("Pad", {
  infer: ([x], { axis, before, after }) => ({
    dtype: x.dtype,
    shape: x.shape.map((dim, i) => (i === axis ? addDims(addDims(before, dim), after) : dim)),
  }),
  vjp: ({ inputs: [x], attrs: { axis, before }, dy }) => [
    dy.slice(axis, { start: before, end: addDims(before, x.shape[axis]) }),
  ],
  onnx: (emit, { axis, before, after }, { inputs: [x] }) => {
    const zero = emit.scalar(0, x!.dtype);
    emit.node("Pad", {}, { inputs: [emit.inputs[0], emit.dims([before, after]), zero, emit.ints([axis])] });
  },
});

/** x with `before` and `after` zeros along `axis`. */
export function pad(x: Tensor, axis: number, before: Dim, after: Dim): Tensor {
  const attrs = {
    axis: normalizeAxis("Pad", axis, x.rank),
    before: normalizeDim(before),
    after: normalizeDim(after),
  };
  return attrs.before === 0 && attrs.after === 0 ? x : padOp.one([x], attrs);
}

/** Attributes of "Concat". */
export interface ConcatAttrs {
  readonly axis: number;
}

const concatOp = defineOp<ConcatAttrs>("Concat", {
  infer: (inputs, { axis }) => {
    const [first, ...others] = inputs;
    for (const t of others) {
      const fits = t.rank === first.rank && t.shape.every((dim, i) => i === axis || dim === first.shape[i]);
      if (!fits || t.dtype !== first.dtype) {
        throw new GraphError(
          `Concat: ${t.dtype} ${formatShape(t.shape)} does not join ${first.dtype} ${formatShape(first.shape)} along axis ${axis}`,
        );
      }
    }
    const length = inputs.map((t) => t.shape[axis]).reduce(addDims);
    return { dtype: first.dtype, shape: first.shape.map((dim, i) => (i === axis ? length : dim)) };
  },
  vjp: ({ inputs, attrs: { axis }, dy }) =>
    split(
      dy,
      axis,
      inputs.map((t) => t.shape[axis]),
    ),
  onnx: (emit, { axis }) => emit.node("Concat", { axis }),
});

/** The tensors one after the other along `axis`. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 0) throw new GraphError("Concat: needs at least one tensor");
  return tensors.length === 1
    ? tensors[0]
    : concatOp.one(tensors, { axis: normalizeAxis("Concat", axis, tensors[0].rank) });
}

/** Attributes of "Split". */
export interface SplitAttrs {
  readonly axis: number;
  readonly sizes: readonly Dim[];
}

const splitOp = defineOp<SplitAttrs>("Split", {
  infer: ([x], { axis, sizes }) => {
    const total = sizes.reduce(addDims, 0);
    if (total !== x.shape[axis]) {
      throw new GraphError(`Split: sizes [${sizes}] do not make up axis ${axis} of ${formatShape(x.shape)}`);
    }
    return sizes.map((size) => ({
      dtype: x.dtype,
      shape: x.shape.map((dim, i) => (i === axis ? size : dim)),
    }));
  },
  vjp: ({ inputs: [x], outputs, attrs: { axis }, dys }) => [
    concat(
      outputs.map((y, i) => dys[i] ?? zeros(x, y.shape)),
      axis,
    ),
  ],
  onnx: (emit, { axis, sizes }) =>
    emit.node("Split", { axis }, { inputs: [emit.inputs[0], emit.dims(sizes)] }),
});

/** x cut along `axis` into pieces of the given sizes; a number says into how many equal pieces. */
export function split(x: Tensor, axis: number, sizes: number | readonly Dim[]): readonly Tensor[] {
  const at = normalizeAxis("Split", axis, x.rank);
  if (typeof sizes !== "number") return splitOp.many([x], { axis: at, sizes: sizes.map(normalizeDim) });
  const size = divideDims(x.shape[at], sizes);
  if (size === undefined) {
    throw new GraphError(`Split: axis ${axis} of ${formatShape(x.shape)} has no ${sizes} equal parts`);
  }
  return splitOp.many([x], { axis: at, sizes: Array.from({ length: sizes }, () => size) });
}

/** Zeros of a shape, in the graph of `like` and with its type unless `dtype` says otherwise. */
export function zeros(like: Tensor, shape: Shape = like.shape, dtype: DType = like.dtype): Tensor {
  return like.graph.constant(0, { dtype }).expand(shape);
}

/** Ones of a shape, in the graph of `like` and with its type unless `dtype` says otherwise. */
export function ones(like: Tensor, shape: Shape = like.shape, dtype: DType = like.dtype): Tensor {
  return like.graph.constant(1, { dtype }).expand(shape);
}
