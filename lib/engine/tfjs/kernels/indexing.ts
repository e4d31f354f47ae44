/**
 * @file Reading and writing by index.
 */
import type {
  AxisAttrs,
  GatherNdAttrs,
  ScatterElementsAttrs,
  ScatterNdAttrs,
  ScatterReduction,
} from "../../../graph/index.js";
import type { Tfjs } from "../host-data.js";
import type { Kernel, KernelTable, Tensor } from "./kernel.js";

/** Positions along one axis of `shape`, shaped to broadcast over all of it, times `scale`. */
function positions(tf: Tfjs, shape: readonly number[], axis: number, scale = 1): Tensor {
  const column = shape.map((size, i) => (i === axis ? size : 1));
  return tf.range(0, shape[axis], 1, "int32").mul(tf.scalar(scale, "int32")).reshape(column);
}

/** For indices along `axis` of a tensor of shape `full`: where each lies in that tensor's row-major elements. */
function flatIndices(tf: Tfjs, full: readonly number[], indices: Tensor, axis: number): Tensor {
  const stride = full.map((_, i) => full.slice(i + 1).reduce((product, size) => product * size, 1));
  let flat = indices.mul(tf.scalar(stride[axis], "int32"));
  for (let i = 0; i < full.length; i++) {
    if (i !== axis) flat = flat.add(positions(tf, indices.shape, i, stride[i]));
  }
  return flat.reshape([-1]);
}

/** x with updates written or added at index vectors [n, depth]. */
function scatter(tf: Tfjs, x: Tensor, indices: Tensor, updates: Tensor, reduction: ScatterReduction): Tensor {
  if (updates.size === 0) return x;
  const placed = tf.scatterND(indices, updates, x.shape);
  if (reduction === "add") return x.add(placed);
  const written = tf.scatterND(indices, tf.onesLike(updates), x.shape);
  return tf.where(tf.greater(written, 0), placed, x);
}

const gather: Kernel<AxisAttrs> = ({ tf, attrs: { axis } }, x, indices) =>
  tf.gather(x, indices as never, axis);

const gatherElements: Kernel<AxisAttrs> = ({ tf, attrs: { axis } }, x, indices) =>
  tf.gather(x.reshape([-1]), flatIndices(tf, x.shape, indices, axis) as never).reshape(indices.shape);

const gatherNd: Kernel<GatherNdAttrs> = ({ tf, attrs: { batchDims } }, x, indices) => {
  const column = [...indices.shape.slice(0, -1), 1];
  const leading = Array.from({ length: batchDims }, (_, axis) =>
    positions(tf, column, axis).broadcastTo(column),
  );
  return tf.gatherND(x, batchDims === 0 ? indices : tf.concat([...leading, indices], indices.rank - 1));
};

const scatterNd: Kernel<ScatterNdAttrs> = ({ tf, attrs: { reduction } }, x, indices, updates) =>
  scatter(tf, x, indices, updates, reduction);

const scatterElements: Kernel<ScatterElementsAttrs> = (
  { tf, attrs: { axis, reduction } },
  x,
  indices,
  updates,
) => {
  if (updates.size === 0) return x;
  const at = flatIndices(tf, x.shape, indices, axis).reshape([-1, 1]);
  return scatter(tf, x.reshape([-1]), at, updates.reshape([-1]), reduction).reshape(x.shape);
};

/** Kernels that read or write by index. */
export const indexingKernels: KernelTable = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherNd: gatherNd,
  ScatterNd: scatterNd,
  ScatterElements: scatterElements,
};
