/**
 * @file A symbolic tensor: one output of one node of a graph, with its element type and shape. It holds no
 * numbers. `methods.ts` gives it the ops as methods.
 */
import { type Dim, normalizeAxis, type Shape } from "./dims.js";
import type { Graph } from "./graph.js";

/** Element types. */
export type DType = "float32" | "float16" | "int64" | "int32" | "bool";

/** Host arrays that hold tensor data; float16 travels as raw bits and bool as bytes. */
export type TypedArray = Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;

/** What an op's shape rule says about one output. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** The settings of a node: plain data, so that nodes can be compared and interpreted. */
export type Attrs = object;

/**
 * One operation of a graph. An interpreter walks `graph.schedule()` and for each node looks at `op`, `inputs`
 * (undefined where an optional input is absent), `attrs` (dimensions in them may be symbolic: `evalDim`) and
 * `outputs`, each of which carries its dtype and shape. Leaves have op "Input", "Parameter" or "Constant".
 */
export interface GraphNode {
  /** Position in the order of creation, which is a topological order. */
  readonly id: number;
  readonly op: string;
  readonly graph: Graph;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attrs: Attrs;
  readonly outputs: readonly Tensor[];
}

/** A value of a graph. Made by `Graph` and the ops, never directly. */
export class Tensor {
  readonly shape: Shape;

  constructor(
    /** The node that computes this tensor. */
    readonly node: GraphNode,
    /** Which of the node's outputs it is. */
    readonly index: number,
    readonly dtype: DType,
    shape: Shape,
    /** Name of an input or parameter; undefined for computed tensors. */
    readonly name?: string,
  ) {
    this.shape = shape;
  }

  /** The graph this tensor belongs to. */
  get graph(): Graph {
    return this.node.graph;
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** One dimension; a negative axis counts from the end. */
  dim(axis: number): Dim {
    return this.shape[normalizeAxis(this.node.op, axis, this.rank)];
  }
}

/** Whether tensors of this type have gradients. */
export function isFloat(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float16";
}
