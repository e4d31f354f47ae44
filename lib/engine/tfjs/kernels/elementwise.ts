/**
 * @file Elementwise ops.
 */

import { float16Bits } from "../../../graph/host-data.js";
import type { CastAttrs, ClipAttrs } from "../../../graph/index.js";
import { float16Value, type Tfjs } from "../host-data.js";
import { type Kernel, type KernelTable, numeric, type Tensor } from "./kernel.js";

type Unary = (tf: Tfjs, x: Tensor) => Tensor;
type Binary = (tf: Tfjs, a: Tensor, b: Tensor) => Tensor;

const unary =
  (compute: Unary): Kernel<object> =>
  ({ tf }, x) =>
    compute(tf, x);

const binary =
  (compute: Binary): Kernel<object> =>
  ({ tf }, a, b) =>
    compute(tf, a, b);

/** Integer division that drops the remainder; TensorFlow.js rounds down. */
function truncatedDivision(tf: Tfjs, a: Tensor, b: Tensor): Tensor {
  const negative = tf.notEqual(tf.less(a, 0).cast("int32"), tf.less(b, 0).cast("int32"));
  const size = tf.floorDiv(tf.abs(a), tf.abs(b));
  return tf.where(negative, tf.neg(size), size);
}

/** √(2/π)·(x + 0.044715·x³) through tanh: Hugging Face "gelu_new". */
function geluTanh(tf: Tfjs, x: Tensor): Tensor {
  const inner = x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
  return x.mul(0.5).mul(tf.tanh(inner).add(1));
}

const cast: Kernel<CastAttrs> = ({ tf, attrs: { to } }, x) => {
  if (to === "bool") return tf.notEqual(numeric(x), tf.scalar(0, numeric(x).dtype));
  if (to === "float32") return x.cast("float32");
  if (to === "int32" || to === "int64") return x.cast("int32");
  // half precision is float32 with half the digits: rounded here, because no kernel does
  const rounded = Float32Array.from(x.dataSync(), (value) => float16Value(float16Bits(value)));
  return tf.tensor(rounded, x.shape, "float32");
};

const clip: Kernel<ClipAttrs> = ({ tf, attrs: { min, max } }, x) => {
  const above = min === undefined ? x : tf.maximum(x, tf.scalar(min, x.dtype));
  return max === undefined ? above : tf.minimum(above, tf.scalar(max, x.dtype));
};

const where: Kernel<object> = ({ tf, outputs: [y] }, condition, a, b) => {
  const chosen = tf.where(condition, numeric(a), numeric(b));
  return y.dtype === "bool" ? chosen.cast("bool") : chosen;
};

/** Kernels of the elementwise ops. */
export const elementwiseKernels: KernelTable = {
  Add: binary((tf, a, b) => tf.add(a, b)),
  Sub: binary((tf, a, b) => tf.sub(a, b)),
  Mul: binary((tf, a, b) => tf.mul(a, b)),
  Div: binary((tf, a, b) => (a.dtype === "int32" ? truncatedDivision(tf, a, b) : tf.div(a, b))),
  Pow: binary((tf, a, b) => tf.pow(a, b)),
  Min: binary((tf, a, b) => tf.minimum(a, b)),
  Max: binary((tf, a, b) => tf.maximum(a, b)),
  Equal: binary((tf, a, b) => tf.equal(numeric(a), numeric(b))),
  Less: binary((tf, a, b) => tf.less(a, b)),
  LessOrEqual: binary((tf, a, b) => tf.lessEqual(a, b)),
  Greater: binary((tf, a, b) => tf.greater(a, b)),
  GreaterOrEqual: binary((tf, a, b) => tf.greaterEqual(a, b)),
  And: binary((tf, a, b) => tf.logicalAnd(a, b)),
  Or: binary((tf, a, b) => tf.logicalOr(a, b)),
  Not: unary((tf, x) => tf.logicalNot(x)),
  Where: where,
  Neg: unary((tf, x) => tf.neg(x)),
  Sqrt: unary((tf, x) => tf.sqrt(x)),
  Exp: unary((tf, x) => tf.exp(x)),
  Log: unary((tf, x) => tf.log(x)),
  Tanh: unary((tf, x) => tf.tanh(x)),
  Sigmoid: unary((tf, x) => tf.sigmoid(x)),
  Erf: unary((tf, x) => tf.erf(x)),
  Relu: unary((tf, x) => tf.relu(x)),
  Abs: unary((tf, x) => tf.abs(x)),
  Sign: unary((tf, x) => tf.sign(x)),
  Gelu: unary((tf, x) => x.mul(0.5).mul(tf.erf(x.mul(Math.SQRT1_2)).add(1))),
  GeluTanh: unary(geluTanh),
  Clip: clip,
  Cast: cast,
  StopGradient: unary((_, x) => x),
};
