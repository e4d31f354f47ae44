/**
 * @file A graph as plain data, to be sent to the worker thread that interprets it.
 */
import type { DType, Graph, Shape, Tensor } from "../../graph/index.js";

/** A value's place in the run, its element type, and its shape with symbolic dimensions. */
export interface PlanValue {
  readonly id: number;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A value fed at every run. */
export interface PlanInput extends PlanValue {
  readonly name: string;
}

/** One operation. */
export interface PlanNode {
  readonly op: string;
  readonly attrs: object;
  /** Ids of the operands; undefined where an optional one is absent. */
  readonly inputs: readonly (number | undefined)[];
  readonly outputs: readonly PlanValue[];
}

/** A graph without its classes. */
export interface GraphPlan {
  readonly name: string;
  readonly inputs: readonly PlanInput[];
  /** Each after the nodes it reads; constants included, inputs not. */
  readonly nodes: readonly PlanNode[];
  readonly outputs: readonly PlanInput[];
}

/** What the graph's outputs need, in order. */
export function planGraph(graph: Graph): GraphPlan {
  const ids = new Map<Tensor, number>();
  const value = (tensor: Tensor): PlanValue => {
    const id = ids.get(tensor) ?? ids.size;
    ids.set(tensor, id);
    return { id, dtype: tensor.dtype, shape: tensor.shape };
  };
  const inputs = [...graph.inputs, ...graph.parameters].map((t) => ({ name: t.name as string, ...value(t) }));
  const nodes = graph
    .schedule()
    .filter(({ op }) => op !== "Input" && op !== "Parameter")
    .map(({ op, attrs, inputs: operands, outputs }) => ({
      op,
      attrs,
      inputs: operands.map((t) => (t === undefined ? undefined : value(t).id)),
      outputs: outputs.map(value),
    }));
  const outputs = graph.outputs.map(({ name, tensor }) => ({ name, ...value(tensor) }));
  return { name: graph.name, inputs, nodes, outputs };
}
