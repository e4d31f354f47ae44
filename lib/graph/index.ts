/**
 * @file Symbolic tensors: build a graph with ops, differentiate it, write it as ONNX or walk it node by node.
 */
import "./methods.js";

export {
  type NoGradient,
  type Op,
  type OpSpec,
  opNames,
  opOf,
  type Vjp,
  type VjpContext,
} from "./define-op.js";
export * from "./dims.js";
export { GraphError } from "./errors.js";
export * from "./functions.js";
export { type GradientOptions, gradients } from "./gradients.js";
export { type ConstantAttrs, type ConstantOptions, Graph, type GraphOutput } from "./graph.js";
export { onnxOutputName, toOnnx } from "./onnx.js";
export * from "./ops/attention.js";
export * from "./ops/binary.js";
export * from "./ops/gather.js";
export * from "./ops/indices.js";
export * from "./ops/layer-norm.js";
export * from "./ops/matmul.js";
export * from "./ops/reduce.js";
export * from "./ops/shape.js";
export * from "./ops/unary.js";
export {
  type Attrs,
  type DType,
  type GraphNode,
  isFloat,
  Tensor,
  type TensorType,
  type TypedArray,
} from "./tensor.js";
