/**
 * @file The ops as methods of Tensor, so that formulas read from left to right: `dy.mul(y).reduceSum([0])`.
 * Importing this file installs them; `index.ts` does.
 */
import * as binary from "./ops/binary.js";
import * as gather from "./ops/gather.js";
import * as indices from "./ops/indices.js";
import * as products from "./ops/matmul.js";
import * as reduce from "./ops/reduce.js";
import * as shape from "./ops/shape.js";
import * as unary from "./ops/unary.js";
import { Tensor } from "./tensor.js";

/** An op as a method: its first argument is `this`. */
type Method<F> = F extends (x: Tensor, ...rest: infer R) => infer Y ? (...rest: R) => Y : never;

/** The ops that every tensor has as methods; each is documented where it is defined. */
export interface TensorMethods {
  add: Method<typeof binary.add>;
  sub: Method<typeof binary.sub>;
  mul: Method<typeof binary.mul>;
  div: Method<typeof binary.div>;
  pow: Method<typeof binary.pow>;
  minimum: Method<typeof binary.minimum>;
  maximum: Method<typeof binary.maximum>;
  equal: Method<typeof binary.equal>;
  less: Method<typeof binary.less>;
  lessOrEqual: Method<typeof binary.lessOrEqual>;
  greater: Method<typeof binary.greater>;
  greaterOrEqual: Method<typeof binary.greaterOrEqual>;
  and: Method<typeof binary.and>;
  or: Method<typeof binary.or>;
  where: Method<typeof binary.where>;
  not: Method<typeof unary.not>;
  neg: Method<typeof unary.neg>;
  sqrt: Method<typeof unary.sqrt>;
  exp: Method<typeof unary.exp>;
  log: Method<typeof unary.log>;
  tanh: Method<typeof unary.tanh>;
  sigmoid: Method<typeof unary.sigmoid>;
  erf: Method<typeof unary.erf>;
  relu: Method<typeof unary.relu>;
  abs: Method<typeof unary.abs>;
  sign: Method<typeof unary.sign>;
  clip: Method<typeof unary.clip>;
  cast: Method<typeof unary.cast>;
  stopGradient: Method<typeof unary.stopGradient>;
  matmul: Method<typeof products.matmul>;
  reshape: Method<typeof shape.reshape>;
  assumeShape: Method<typeof shape.assumeShape>;
  transpose: Method<typeof shape.transpose>;
  expand: Method<typeof shape.expand>;
  squeeze: Method<typeof shape.squeeze>;
  unsqueeze: Method<typeof shape.unsqueeze>;
  slice: Method<typeof shape.slice>;
  pad: Method<typeof shape.pad>;
  split: Method<typeof shape.split>;
  shapeOf: Method<typeof indices.shapeOf>;
  gather: Method<typeof gather.gather>;
  gatherElements: Method<typeof gather.gatherElements>;
  reduceSum: Method<typeof reduce.reduceSum>;
  reduceMean: Method<typeof reduce.reduceMean>;
  reduceMax: Method<typeof reduce.reduceMax>;
  logSumExp: Method<typeof reduce.logSumExp>;
  softmax: Method<typeof reduce.softmax>;
  logSoftmax: Method<typeof reduce.logSoftmax>;
  argMax: Method<typeof reduce.argMax>;
  cumSum: Method<typeof reduce.cumSum>;
}

declare module "./tensor.js" {
  interface Tensor extends TensorMethods {}
}

const functions: {
  [K in keyof TensorMethods]: (
    x: Tensor,
    ...rest: Parameters<TensorMethods[K]>
  ) => ReturnType<TensorMethods[K]>;
} = {
  add: binary.add,
  sub: binary.sub,
  mul: binary.mul,
  div: binary.div,
  pow: binary.pow,
  minimum: binary.minimum,
  maximum: binary.maximum,
  equal: binary.equal,
  less: binary.less,
  lessOrEqual: binary.lessOrEqual,
  greater: binary.greater,
  greaterOrEqual: binary.greaterOrEqual,
  and: binary.and,
  or: binary.or,
  where: binary.where,
  not: unary.not,
  neg: unary.neg,
  sqrt: unary.sqrt,
  exp: unary.exp,
  log: unary.log,
  tanh: unary.tanh,
  sigmoid: unary.sigmoid,
  erf: unary.erf,
  relu: unary.relu,
  abs: unary.abs,
  sign: unary.sign,
  clip: unary.clip,
  cast: unary.cast,
  stopGradient: unary.stopGradient,
  matmul: products.matmul,
  reshape: shape.reshape,
  assumeShape: shape.assumeShape,
  transpose: shape.transpose,
  expand: shape.expand,
  squeeze: shape.squeeze,
  unsqueeze: shape.unsqueeze,
  slice: shape.slice,
  pad: shape.pad,
  split: shape.split,
  shapeOf: indices.shapeOf,
  gather: gather.gather,
  gatherElements: gather.gatherElements,
  reduceSum: reduce.reduceSum,
  reduceMean: reduce.reduceMean,
  reduceMax: reduce.reduceMax,
  logSumExp: reduce.logSumExp,
  softmax: reduce.softmax,
  logSoftmax: reduce.logSoftmax,
  argMax: reduce.argMax,
  cumSum: reduce.cumSum,
};

for (const [name, op] of Object.entries(functions)) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: never[]) {
      return (op as (x: Tensor, ...rest: never[]) => unknown)(this, ...rest);
    },
  });
}
