/**
 * @file What an op's ONNX form can do: write nodes, and turn whole numbers or (symbolic) dimensions into values.
 */
import type { Dim } from "./dims.js";
import type { DType, GraphNode } from "./tensor.js";

/** A float attribute; plain numbers are written as integers. */
export interface FloatAttr {
  readonly float: number;
}

/** An attribute's value: integer, float, string or list of integers. */
export type OnnxAttr = number | FloatAttr | string | readonly number[];

/** Where a node goes and what it reads and writes; by default those of the op's node. */
export interface EmitOptions {
  /** Operator set; default ai.onnx. */
  readonly domain?: "com.microsoft";
  /** Value names; "" is an absent optional input. */
  readonly inputs?: readonly string[];
  readonly outputs?: readonly string[];
  /** Leave out results that nothing reads; only for kernels that then skip computing them. Default false. */
  readonly omitUnread?: boolean;
}

/** What an op's ONNX form is given. */
export interface OnnxEmitter {
  /** Names of the node's inputs, "" where absent. */
  readonly inputs: readonly string[];
  /** Names of the node's outputs, "" where nothing reads them. */
  readonly outputs: readonly string[];
  /** Writes a node. */
  node(type: string, attrs?: Readonly<Record<string, OnnxAttr>>, options?: EmitOptions): void;
  /** Writes a helper node with one result and returns that result's name. */
  helper(type: string, inputs: readonly string[], attrs?: Readonly<Record<string, OnnxAttr>>): string;
  /** A constant vector of int64, shared between equal ones. */
  ints(values: readonly number[]): string;
  /** A constant scalar, shared between equal ones. */
  scalar(value: number, dtype: DType): string;
  /** An int64 vector with the values of `dims` in the run. */
  dims(dims: readonly Dim[]): string;
  /** Declares that the node's first output is just another name of its first input: nothing is written. */
  alias(): void;
}

/** Writes a node of an op as ONNX nodes. */
export type OnnxForm<A> = (emit: OnnxEmitter, attrs: A, node: GraphNode) => void;

/** Marks a float attribute. */
export function float(value: number): FloatAttr {
  return { float: value };
}
