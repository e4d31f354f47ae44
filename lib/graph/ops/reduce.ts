/**
 * @file Sums, means and maxima over axes, and softmax.
 */
import { defineOp, type Op, type Vjp } from "../define-op.js";
import { type Dim, formatShape, normalizeAxis, type Shape, sizeOf } from "../dims.js";
import { GraphError } from "../errors.js";
import type { OnnxForm } from "../onnx-form.js";
import { isFloat, type Tensor } from "../tensor.js";
import { dimValue } from "./indices.js";

/** Attributes of the reductions. */
export interface ReduceAttrs {
  /** Axes summed over, ascending. */
  readonly axes: readonly number[];
  /** Whether reduced axes stay as 1. */
  readonly keepDims: boolean;
}

/** Options of the reductions. */
export interface ReduceOptions {
  /** Keep reduced axes as dimensions of 1; default false. */
  keepDims?: boolean;
}

const reduceSumOp = reduction("ReduceSum", ({ inputs: [x], attrs: { axes }, dy }) => [
  dy.reshape(reducedShape(x.shape, axes, true)).expand(x.shape),
]);

/** Sum over `axes` (default all). */
export function reduceSum(x: Tensor, axes?: readonly number[], options?: ReduceOptions): Tensor {
  return reduce(reduceSumOp, x, axes, options);
}

const reduceMeanOp = reduction("ReduceMean", ({ inputs: [x], attrs: { axes }, dy }) => {
  const count = sizeOf(axes.map((axis) => x.shape[axis]));
  const scaled = typeof count === "number" ? dy.mul(1 / count) : dy.div(dimValue(x.graph, count, x.dtype));
  return [scaled.reshape(reducedShape(x.shape, axes, true)).expand(x.shape)];
});

/** Mean over `axes` (default all). */
export function reduceMean(x: Tensor, axes?: readonly number[], options?: ReduceOptions): Tensor {
  return reduce(reduceMeanOp, x, axes, options);
}

const reduceMaxOp = reduction("ReduceMax", ({ inputs: [x], outputs: [y], attrs: { axes }, dy }) => {
  // Elements that share the maximum share the gradient equally, as in PyTorch's amax.
  const kept = reducedShape(x.shape, axes, true);
  const hit = x.equal(y.reshape(kept)).cast(x.dtype);
  return [hit.mul(dy.reshape(kept).div(hit.reduceSum(axes, { keepDims: true })))];
});

/** Largest element over `axes` (default all); equal largest elements share the gradient. */
export function reduceMax(x: Tensor, axes?: readonly number[], options?: ReduceOptions): Tensor {
  return reduce(reduceMaxOp, x, axes, options);
}

const logSumExpOp = reduction(
  "ReduceLogSumExp",
  ({ inputs: [x], outputs: [y], attrs: { axes }, dy }) => {
    const kept = reducedShape(x.shape, axes, true);
    const p = isLastAxis(x, axes) ? x.softmax(-1) : x.sub(y.reshape(kept)).exp();
    return [dy.reshape(kept).mul(p)];
  },
  (emit, { axes, keepDims }, { inputs: [x] }) => {
    const attrs = { keepdims: Number(keepDims) };
    const over = emit.ints(axes);
    if (!isLastAxis(x!, axes)) {
      emit.node("ReduceLogSumExp", attrs, { inputs: [emit.inputs[0], over] });
      return;
    }
    // max x − max log softmax x is the same number, from kernels that use vectors and threads: over a vocabulary of
    // 50257 four times as fast as ReduceLogSumExp, and as exact, because both terms are near the result or near 0.
    const logSoftmaxed = emit.helper("LogSoftmax", [emit.inputs[0]], { axis: axes[0] });
    const largest = emit.helper("ReduceMax", [emit.inputs[0], over], attrs);
    emit.node("Sub", {}, { inputs: [largest, emit.helper("ReduceMax", [logSoftmaxed, over], attrs)] });
  },
);

/** log Σ exp x over `axes` (default all), without overflow. */
export function logSumExp(x: Tensor, axes?: readonly number[], options?: ReduceOptions): Tensor {
  return reduce(logSumExpOp, x, axes, options);
}

/** Attributes of "Softmax", "LogSoftmax", "ArgMax" and "CumSum". */
export interface AxisAttrs {
  readonly axis: number;
}

const softmaxOp = defineOp<AxisAttrs>("Softmax", {
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  vjp: ({ outputs: [y], attrs: { axis }, dy }) => {
    const weighted = dy.mul(y);
    return [weighted.sub(y.mul(weighted.reduceSum([axis], { keepDims: true })))];
  },
  onnx: (emit, { axis }) => emit.node("Softmax", { axis }),
});

/** exp x / Σ exp x along `axis` (default the last). */
export function softmax(x: Tensor, axis = -1): Tensor {
  return softmaxOp.one([x], { axis: normalizeAxis("Softmax", axis, x.rank) });
}

const logSoftmaxOp = defineOp<AxisAttrs>("LogSoftmax", {
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  vjp: ({ outputs: [y], attrs: { axis }, dy }) => [
    dy.sub(y.exp().mul(dy.reduceSum([axis], { keepDims: true }))),
  ],
  onnx: (emit, { axis }) => emit.node("LogSoftmax", { axis }),
});

/** Logarithm of softmax along `axis` (default the last). */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return logSoftmaxOp.one([x], { axis: normalizeAxis("LogSoftmax", axis, x.rank) });
}

const argMaxOp = defineOp<AxisAttrs>("ArgMax", {
  infer: ([x], { axis }) => ({ dtype: "int64", shape: reducedShape(x.shape, [axis], false) }),
  vjp: { none: "an index does not change smoothly" },
  onnx: (emit, { axis }) => emit.node("ArgMax", { axis, keepdims: 0 }),
});

/** Index of the largest element along `axis` (default the last), the first at a tie; int64, without that axis. */
export function argMax(x: Tensor, axis = -1): Tensor {
  return argMaxOp.one([x], { axis: normalizeAxis("ArgMax", axis, x.rank) });
}

/** Attributes of "CumSum". */
export interface CumSumAttrs extends AxisAttrs {
  /** Sum from the end instead. */
  readonly reverse: boolean;
}

const cumSumOp = defineOp<CumSumAttrs>("CumSum", {
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  vjp: ({ attrs: { axis, reverse }, dy }) => [cumSum(dy, axis, { reverse: !reverse })],
  onnx: (emit, { axis, reverse }) =>
    emit.node(
      "CumSum",
      { reverse: Number(reverse) },
      { inputs: [emit.inputs[0], emit.scalar(axis, "int64")] },
    ),
});

/** Running sum along `axis`, each element included; from the end when `reverse`. */
export function cumSum(x: Tensor, axis: number, { reverse = false }: { reverse?: boolean } = {}): Tensor {
  return cumSumOp.one([x], { axis: normalizeAxis("CumSum", axis, x.rank), reverse });
}

function isLastAxis(x: Tensor, axes: readonly number[]): boolean {
  return axes.length === 1 && axes[0] === x.rank - 1;
}

function reduction(name: string, vjp: Vjp<ReduceAttrs>, onnx?: OnnxForm<ReduceAttrs>): Op<ReduceAttrs> {
  return defineOp<ReduceAttrs>(name, {
    infer: ([x], { axes, keepDims }) => {
      if (x.dtype === "bool" || (name === "ReduceLogSumExp" && !isFloat(x.dtype))) {
        throw new GraphError(`${name}: cannot reduce ${x.dtype} ${formatShape(x.shape)}`);
      }
      return { dtype: x.dtype, shape: reducedShape(x.shape, axes, keepDims) };
    },
    vjp,
    onnx:
      onnx ??
      ((emit, { axes, keepDims }) =>
        emit.node(name, { keepdims: Number(keepDims) }, { inputs: [emit.inputs[0], emit.ints(axes)] })),
  });
}

function reduce(
  op: Op<ReduceAttrs>,
  x: Tensor,
  axes: readonly number[] | undefined,
  options?: ReduceOptions,
): Tensor {
  const keepDims = options?.keepDims ?? false;
  const chosen = axes
    ? axes.map((axis) => normalizeAxis(op.name, axis, x.rank))
    : x.shape.map((_, axis) => axis);
  const sorted = [...new Set(chosen)].sort((a, b) => a - b);
  if (sorted.length !== chosen.length) throw new GraphError(`${op.name}: axes [${chosen}] repeat`);
  // Over nothing, or over dimensions of 1, these reductions change the shape only.
  if (sorted.every((axis) => x.shape[axis] === 1)) return x.reshape(reducedShape(x.shape, sorted, keepDims));
  return op.one([x], { axes: sorted, keepDims });
}

function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): Dim[] {
  return shape.flatMap((dim, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [dim]));
}
