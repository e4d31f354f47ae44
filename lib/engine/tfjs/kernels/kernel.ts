/**
 * @file What a kernel is: one op of `lib/graph` computed with TensorFlow.js.
 */
import type * as tfjs from "@tensorflow/tfjs";
import type { Dim, DType, Shape } from "../../../graph/index.js";
import type { Tfjs } from "../host-data.js";

export type Tensor = tfjs.Tensor;

/** What a kernel is told besides its operands. */
export interface KernelContext<A> {
  readonly tf: Tfjs;
  readonly attrs: A;
  /** Element type and shape of each result in this run. */
  readonly outputs: readonly { readonly dtype: DType; readonly shape: number[] }[];
  /** The value of a dimension in this run. */
  dim(dim: Dim): number;
  /** The values of dimensions in this run. */
  dims(shape: Shape): number[];
}

/** Computes the results of one op. Runs inside `tf.tidy`, so that intermediate tensors need no care. */
export type Kernel<A = object> = (
  context: KernelContext<A>,
  ...inputs: Tensor[]
) => Tensor | readonly Tensor[];

/** Kernels by the op's name; each takes the attributes of its op. */
export type KernelTable = Readonly<Record<string, Kernel<never>>>;

/** `x` as int32 where it is bool, for kernels of TensorFlow.js that only know numbers. */
export function numeric(x: Tensor): Tensor {
  return x.dtype === "bool" ? x.cast("int32") : x;
}
