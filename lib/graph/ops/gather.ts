/**
 * @file Reading and writing by index. The gradient of a read adds into zeros at the indices read; when the same
 * tensor has other gradients, `gradients` adds into their sum instead (see `scatterBase`), so that a large
 * embedding table gets no second array of zeros. Indices must be in range: 0 ≤ index < dimension.
 */
import { defineOp } from "../define-op.js";
import { type Dim, formatShape, normalizeAxis, sameShape, sizeOf } from "../dims.js";
import { GraphError } from "../errors.js";
import type { Tensor } from "../tensor.js";
import { range } from "./indices.js";
import type { AxisAttrs } from "./reduce.js";
import { concat, zeros } from "./shape.js";

const gatherOp = defineOp<AxisAttrs>("Gather", {
  infer: ([x, indices], { axis }) => {
    checkIndices("Gather", indices);
    return {
      dtype: x.dtype,
      shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)],
    };
  },
  vjp: ({ inputs: [x, indices], attrs: { axis }, dy }) => {
    const count = sizeOf(indices.shape);
    const outer = x.shape.slice(0, axis);
    const inner = x.shape.slice(axis + 1);
    const updates = dy.reshape([...outer, count, ...inner]);
    // Rows of a table: one index per row is enough. Elsewhere every element needs its own.
    if (axis === 0) return [scatterNd(zeros(x), indices.reshape([count, 1]), updates, "add"), undefined];
    const column = indices.reshape([count, ...inner.map(() => 1)]);
    return [scatterElements(zeros(x), column.expand(updates.shape), updates, axis, "add"), undefined];
  },
  onnx: (emit, { axis }) => emit.node("Gather", { axis }),
});

/** The slices of x at `indices` (int64 or int32, any shape) along `axis` (default 0), which the indices' axes replace. */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return gatherOp.one([x, indices], { axis: normalizeAxis("Gather", axis, x.rank) });
}

const gatherElementsOp = defineOp<AxisAttrs>("GatherElements", {
  infer: ([x, indices], { axis }) => {
    checkIndices("GatherElements", indices);
    if (indices.rank !== x.rank || indices.shape.some((dim, i) => i !== axis && dim !== x.shape[i])) {
      throw new GraphError(
        `GatherElements: indices ${formatShape(indices.shape)} do not fit ${formatShape(x.shape)} along axis ${axis}`,
      );
    }
    return { dtype: x.dtype, shape: indices.shape };
  },
  vjp: ({ inputs: [x, indices], attrs: { axis }, dy }) => [
    scatterElements(zeros(x), indices, dy, axis, "add"),
    undefined,
  ],
  onnx: (emit, { axis }) => emit.node("GatherElements", { axis }),
});

/** y[…, i, …] = x[…, indices[…, i, …], …] along `axis`; the other dimensions are equal. PyTorch's gather. */
export function gatherElements(x: Tensor, indices: Tensor, axis = -1): Tensor {
  return gatherElementsOp.one([x, indices], { axis: normalizeAxis("GatherElements", axis, x.rank) });
}

/** Attributes of "GatherNd". */
export interface GatherNdAttrs {
  /** Leading axes that x and the indices share. */
  readonly batchDims: number;
}

const gatherNdOp = defineOp<GatherNdAttrs>("GatherNd", {
  infer: ([x, indices], { batchDims }) => {
    const depth = indexDepth("GatherNd", indices);
    if (
      batchDims + depth > x.rank ||
      !sameShape(x.shape.slice(0, batchDims), indices.shape.slice(0, batchDims))
    ) {
      throw new GraphError(
        `GatherNd: indices ${formatShape(indices.shape)} do not fit ${formatShape(x.shape)} with ${batchDims} batch axes`,
      );
    }
    return { dtype: x.dtype, shape: [...indices.shape.slice(0, -1), ...x.shape.slice(batchDims + depth)] };
  },
  vjp: ({ inputs: [x, indices], attrs: { batchDims }, dy }) => [
    scatterNd(zeros(x), withBatchIndices(indices, batchDims), dy, "add"),
    undefined,
  ],
  onnx: (emit, { batchDims }) => emit.node("GatherND", { batch_dims: batchDims }),
});

/**
 * Slices of x at index vectors: the last axis of `indices` [..., d] indexes the first d axes of x after
 * `batchDims` shared leading ones.
 */
export function gatherNd(x: Tensor, indices: Tensor, { batchDims = 0 }: Partial<GatherNdAttrs> = {}): Tensor {
  return gatherNdOp.one([x, indices], { batchDims });
}

/** What a scatter does with an element that is there: replace it or add to it. */
export type ScatterReduction = "none" | "add";

/** Attributes of "ScatterNd". */
export interface ScatterNdAttrs {
  readonly reduction: ScatterReduction;
}

const scatterNdOp = defineOp<ScatterNdAttrs>("ScatterNd", {
  infer: ([x, indices, updates]) => {
    const depth = indexDepth("ScatterNd", indices);
    const expected = [...indices.shape.slice(0, -1), ...x.shape.slice(depth)];
    if (depth > x.rank || !sameShape(updates.shape, expected) || updates.dtype !== x.dtype) {
      throw new GraphError(
        `ScatterNd: expected updates ${formatShape(expected)}, got ${formatShape(updates.shape)}`,
      );
    }
    return { dtype: x.dtype, shape: x.shape };
  },
  vjp: ({ inputs: [, indices, updates], attrs: { reduction }, dy, needs }) => [
    reduction === "add" ? dy : needs[0] ? scatterNd(dy, indices, zeros(updates)) : undefined,
    undefined,
    needs[2] ? gatherNd(dy, indices) : undefined,
  ],
  onnx: (emit, { reduction }) => emit.node("ScatterND", { reduction }),
});

/** x with `updates` written (or added) at the index vectors of `indices`. With "none" indices must not repeat. */
export function scatterNd(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  reduction: ScatterReduction = "none",
): Tensor {
  return scatterNdOp.one([x, indices, updates], { reduction });
}

/** Attributes of "ScatterElements". */
export interface ScatterElementsAttrs extends AxisAttrs {
  readonly reduction: ScatterReduction;
}

const scatterElementsOp = defineOp<ScatterElementsAttrs>("ScatterElements", {
  infer: ([x, indices, updates], { axis }) => {
    checkIndices("ScatterElements", indices);
    const fits =
      indices.rank === x.rank && sameShape(indices.shape, updates.shape) && updates.dtype === x.dtype;
    if (!fits || indices.shape.some((dim, i) => i !== axis && !within(dim, x.shape[i]))) {
      throw new GraphError(
        `ScatterElements: indices ${formatShape(indices.shape)} and updates ${formatShape(updates.shape)} do not fit ${formatShape(x.shape)}`,
      );
    }
    return { dtype: x.dtype, shape: x.shape };
  },
  vjp: ({ inputs: [, indices, updates], attrs: { axis, reduction }, dy, needs }) => [
    reduction === "add" ? dy : needs[0] ? scatterElements(dy, indices, zeros(updates), axis) : undefined,
    undefined,
    needs[2] ? gatherElements(dy, indices, axis) : undefined,
  ],
  onnx: (emit, { axis, reduction }) => emit.node("ScatterElements", { axis, reduction }),
});

/** x with `updates` written (or added) at `indices` along `axis`. With "none" indices must not repeat. */
export function scatterElements(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  axis: number,
  reduction: ScatterReduction = "none",
): Tensor {
  return scatterElementsOp.one([x, indices, updates], {
    axis: normalizeAxis("ScatterElements", axis, x.rank),
    reduction,
  });
}

/**
 * `base` + `scattered` in one pass when `scattered` adds into zeros; else undefined. This is how the gradient of a
 * tied embedding goes straight into the gradient of the output layer.
 */
export function scatterBase(base: Tensor, scattered: Tensor): Tensor | undefined {
  const { op, inputs, attrs } = scattered.node;
  if (op !== "ScatterNd" && op !== "ScatterElements") return undefined;
  const [into, indices, updates] = inputs as Tensor[];
  const { reduction, axis } = attrs as ScatterElementsAttrs;
  if (reduction !== "add" || !isZeros(into)) return undefined;
  return op === "ScatterNd"
    ? scatterNd(base, indices, updates, "add")
    : scatterElements(base, indices, updates, axis, "add");
}

function isZeros(t: Tensor): boolean {
  const source = t.node.op === "Expand" ? t.node.inputs[0]! : t;
  if (source.node.op !== "Constant") return false;
  const { data } = source.node.attrs as { data: ArrayLike<number | bigint> };
  return data.length === 1 && Number(data[0]) === 0;
}

/** Index vectors [..., d] with the positions along the `batchDims` leading axes put before them. */
function withBatchIndices(indices: Tensor, batchDims: number): Tensor {
  const shape = [...indices.shape.slice(0, -1), 1];
  const leading = Array.from({ length: batchDims }, (_, axis) =>
    range(indices.graph, indices.shape[axis])
      .cast(indices.dtype)
      .reshape(shape.map((dim, i) => (i === axis ? dim : 1)))
      .expand(shape),
  );
  return concat([...leading, indices], indices.rank - 1);
}

function checkIndices(op: string, indices: Tensor): void {
  if (indices.dtype !== "int64" && indices.dtype !== "int32") {
    throw new GraphError(`${op}: indices must be int64 or int32, got ${indices.dtype}`);
  }
}

function indexDepth(op: string, indices: Tensor): number {
  const depth = indices.shape.at(-1);
  if (indices.dtype !== "int64" || typeof depth !== "number" || depth < 1) {
    throw new GraphError(
      `${op}: indices must be int64 with a fixed last axis, got ${indices.dtype} ${formatShape(indices.shape)}`,
    );
  }
  return depth;
}

/** Whether indices of extent `dim` can address an axis of extent `limit`. */
function within(dim: Dim, limit: Dim): boolean {
  return dim === limit || (typeof dim === "number" && (typeof limit !== "number" || dim <= limit));
}
