/**
 * @file What a fused kernel has to do, read off a graph. In: a graph of elementwise ops over vectors [n] and scalars [], whose outputs
 * are vectors or sums over all elements. Out: a straight line of steps. Pure.
 */
import type { ConstantAttrs, Graph, GraphNode, Tensor } from "../../graph/index.js";
import { EngineError } from "../errors.js";

/** Ops of one operand that a kernel has an instruction for. */
export const UNARY = ["Abs", "Neg", "Sqrt"] as const;
/** Ops of two operands that a kernel has an instruction for. */
export const BINARY = ["Add", "Sub", "Mul", "Div"] as const;

/** An op of a kernel. */
export type KernelOp = (typeof UNARY)[number] | (typeof BINARY)[number];

/** One value of a kernel; operands are positions of earlier steps. */
export type Step =
  | { readonly kind: "vector"; readonly input: number }
  | { readonly kind: "scalar"; readonly input: number }
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "op"; readonly op: KernelOp; readonly operands: readonly number[] };

/** A result and the step that computes it. */
export interface PlannedOutput {
  readonly name: string;
  readonly step: number;
}

/** What a kernel reads, computes and writes. */
export interface ElementwisePlan {
  /** Names of the inputs [n], in the order in which steps count them. */
  readonly vectors: readonly string[];
  /** Names of the inputs []. */
  readonly scalars: readonly string[];
  readonly steps: readonly Step[];
  /** Outputs [n]. */
  readonly outputs: readonly PlannedOutput[];
  /** Outputs that are the sum of a step over all elements. */
  readonly sums: readonly PlannedOutput[];
}

/** Reads the plan off a graph. Throws EngineError (COMPILE_FAILED) naming what is not elementwise in it. */
export function planElementwise(graph: Graph): ElementwisePlan {
  const inputs = [...graph.inputs, ...graph.parameters];
  const vectors = inputs.filter((tensor) => tensor.rank === 1).map(({ name }) => name as string);
  const scalars = inputs.filter((tensor) => tensor.rank === 0).map(({ name }) => name as string);
  const steps: Step[] = [];
  const places = new Map<Tensor, number>();
  const placeOf = (tensor: Tensor | undefined, node: GraphNode): number => {
    const place = tensor && places.get(tensor);
    if (place === undefined) throw refusal(graph, `${node.op} reads a sum`);
    return place;
  };
  const sums = new Set(graph.outputs.filter(({ tensor }) => tensor.node.op === "ReduceSum"));
  for (const node of graph.schedule()) {
    const [result] = node.outputs;
    if (result.dtype !== "float32") throw refusal(graph, `${node.op} gives ${result.dtype}`);
    if (node.op === "ReduceSum" && [...sums].some(({ tensor }) => tensor === result)) continue;
    places.set(result, steps.push(stepOf(graph, node, vectors, scalars, placeOf)) - 1);
  }
  const planned = ({ name, tensor }: { name: string; tensor: Tensor }): PlannedOutput => ({
    name,
    step: placeOf(tensor, tensor.node),
  });
  return {
    vectors,
    scalars,
    steps,
    outputs: graph.outputs.filter((output) => !sums.has(output)).map(planned),
    sums: [...sums].map(({ name, tensor: { node } }) => ({ name, step: placeOf(node.inputs[0], node) })),
  };
}

function stepOf(
  graph: Graph,
  node: GraphNode,
  vectors: readonly string[],
  scalars: readonly string[],
  placeOf: (tensor: Tensor | undefined, node: GraphNode) => number,
): Step {
  const { op } = node;
  const [{ name = "", rank }] = node.outputs;
  if (op === "Input" || op === "Parameter") {
    if (rank === 1) return { kind: "vector", input: vectors.indexOf(name) };
    if (rank === 0) return { kind: "scalar", input: scalars.indexOf(name) };
    throw refusal(graph, `input ${name} has ${rank} dimensions`);
  }
  if (op === "Constant") {
    const { data } = node.attrs as ConstantAttrs;
    if (data.length !== 1) throw refusal(graph, `a constant has ${data.length} elements`);
    return { kind: "constant", value: Number(data[0]) };
  }
  if (([...UNARY, ...BINARY] as string[]).includes(op)) {
    return { kind: "op", op: op as KernelOp, operands: node.inputs.map((input) => placeOf(input, node)) };
  }
  throw refusal(graph, `it has ${op}`);
}

function refusal(graph: Graph, found: string): EngineError {
  const expected = `float32 vectors [n] and scalars, ${[...UNARY, ...BINARY].join(", ")}, and sums as outputs`;
  return new EngineError(
    "COMPILE_FAILED",
    `graph ${graph.name} is not elementwise: ${found}; accepted: ${expected}`,
    {
      name: graph.name,
      expected,
      got: found,
    },
  );
}
