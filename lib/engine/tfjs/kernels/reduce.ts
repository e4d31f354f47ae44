/**
 * @file Sums, means and maxima over axes, softmax, and layer normalisation.
 */
import type { AxisAttrs, CumSumAttrs, LayerNormAttrs, ReduceAttrs } from "../../../graph/index.js";
import type { Kernel, KernelTable, Tensor } from "./kernel.js";

const reduceSum: Kernel<ReduceAttrs> = ({ tf, attrs: { axes, keepDims }, outputs: [y] }, x) =>
  x.size === 0 ? tf.zeros(y.shape, x.dtype) : tf.sum(x, [...axes], keepDims);

const reduceMean: Kernel<ReduceAttrs> = ({ tf, attrs: { axes, keepDims }, outputs: [y] }, x) =>
  x.size === 0 ? tf.fill(y.shape, Number.NaN) : tf.mean(x, [...axes], keepDims);

const softmax: Kernel<AxisAttrs> = ({ tf, attrs: { axis } }, x) => {
  if (axis === x.rank - 1) return tf.softmax(x);
  const e = tf.exp(x.sub(tf.max(x, axis, true)));
  return e.div(tf.sum(e, axis, true));
};

const logSoftmax: Kernel<AxisAttrs> = ({ tf, attrs: { axis } }, x) => {
  const shifted = x.sub(tf.max(x, axis, true));
  return shifted.sub(tf.log(tf.sum(tf.exp(shifted), axis, true)));
};

/** Results: normalised x, mean, 1/√(variance + eps); the statistics keep the last axis as 1. */
const layerNorm: Kernel<LayerNormAttrs> = ({ tf, attrs: { eps } }, x, weight, bias): Tensor[] => {
  const mean = tf.mean(x, -1, true);
  const centred = x.sub(mean);
  const inverseStd = tf.rsqrt(tf.mean(centred.mul(centred), -1, true).add(eps));
  return [centred.mul(inverseStd).mul(weight).add(bias), mean, inverseStd];
};

/** Kernels that reduce or normalise. */
export const reduceKernels: KernelTable = {
  ReduceSum: reduceSum,
  ReduceMean: reduceMean,
  ReduceMax: (({ tf, attrs: { axes, keepDims } }, x) =>
    tf.max(x, [...axes], keepDims)) as Kernel<ReduceAttrs>,
  ReduceLogSumExp: (({ tf, attrs: { axes, keepDims } }, x) =>
    tf.logSumExp(x, [...axes], keepDims)) as Kernel<ReduceAttrs>,
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  ArgMax: (({ tf, attrs: { axis } }, x) => tf.argMax(x, axis)) as Kernel<AxisAttrs>,
  CumSum: (({ tf, attrs: { axis, reverse } }, x) =>
    tf.cumsum(x, axis, false, reverse)) as Kernel<CumSumAttrs>,
  LayerNorm: layerNorm,
};
