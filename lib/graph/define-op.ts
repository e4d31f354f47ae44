/**
 * @file How an op is declared: its shape rule, its gradient and its ONNX form in one entry. Declaring registers
 * it, so that emission, gradients and other engines find it by the name in the node.
 */
import { GraphError } from "./errors.js";
import type { Graph } from "./graph.js";
import type { OnnxForm } from "./onnx-form.js";
import type { GraphNode, Tensor, TensorType } from "./tensor.js";

/** What a gradient rule sees. */
export interface VjpContext<A> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attrs: A;
  /** Gradient of the loss by the first output, with that output's shape. Zeros when only others are used. */
  readonly dy: Tensor;
  /** Gradients by each output; undefined where the loss does not depend on it. */
  readonly dys: readonly (Tensor | undefined)[];
  /** Which inputs' gradients are wanted; others may be left undefined. */
  readonly needs: readonly boolean[];
}

/** Vector-Jacobian product: a gradient for each input; undefined means zero, or not wanted. */
export type Vjp<A> = (context: VjpContext<A>) => readonly (Tensor | undefined)[];

/** Says that an op has no gradient and why. Asking for one through this op is an error that gives the reason. */
export interface NoGradient {
  readonly none: string;
}

/** One op. */
export interface OpSpec<A> {
  /** Shape and type of the outputs; throws GraphError on operands that do not fit. */
  infer(inputs: readonly Tensor[], attrs: A): TensorType | readonly TensorType[];
  /** The gradient, or the reason why there is none. */
  vjp: Vjp<A> | NoGradient;
  /** ONNX op type when inputs, outputs and (no) attributes map one to one; else code that writes the nodes. */
  onnx: string | OnnxForm<A>;
}

/** A declared op, to be applied to tensors. */
export interface Op<A> extends OpSpec<A> {
  readonly name: string;
  /** Applies the op and returns its only (or first) output. */
  one(inputs: readonly (Tensor | undefined)[], attrs: A): Tensor;
  /** Applies the op and returns all its outputs. `graph` is needed only when there are no inputs. */
  many(inputs: readonly (Tensor | undefined)[], attrs: A, graph?: Graph): readonly Tensor[];
}

const registry = new Map<string, Op<object>>();

/** Declares an op under a name that no other op has. */
export function defineOp<A extends object = Record<string, never>>(name: string, spec: OpSpec<A>): Op<A> {
  if (registry.has(name)) throw new GraphError(`op ${name} is declared twice`);
  const many = (inputs: readonly (Tensor | undefined)[], attrs: A, graph?: Graph): readonly Tensor[] => {
    const home = graph ?? inputs.find((t) => t !== undefined)?.graph;
    if (!home) throw new GraphError(`${name}: needs an operand or a graph`);
    // Optional inputs are undefined; the rules of ops that have them look for that.
    const types = spec.infer(inputs as readonly Tensor[], attrs);
    return home.apply(name, inputs, attrs, "shape" in types ? [types] : types).outputs;
  };
  const op: Op<A> = { ...spec, name, many, one: (inputs, attrs) => many(inputs, attrs)[0] };
  registry.set(name, op as unknown as Op<object>);
  return op;
}

/** The op of a node. Leaves ("Input", "Parameter", "Constant") have none: undefined. */
export function opOf(node: GraphNode): Op<object> | undefined {
  return registry.get(node.op);
}

/** Names of all declared ops, sorted. */
export function opNames(): string[] {
  return [...registry.keys()].sort();
}
