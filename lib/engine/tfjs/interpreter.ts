/**
 * @file Runs a graph's nodes one after the other with TensorFlow.js, freeing each value after its last use.
 */
import type * as tfjs from "@tensorflow/tfjs";
import { type DimBindings, dimNames, evalDim, evalShape } from "../../graph/index.js";
import { type Tfjs, tfDtype } from "./host-data.js";
import { kernels } from "./kernels/index.js";
import type { Kernel, KernelContext } from "./kernels/kernel.js";
import type { GraphPlan, PlanNode } from "./plan.js";

/** A graph ready to run. */
export class Interpreter {
  readonly #tf: Tfjs;
  readonly #plan: GraphPlan;
  /** How often each value is read, by id; outputs count as one more. */
  readonly #uses: Int32Array;
  readonly #constants = new Map<number, tfjs.Tensor>();

  /** Throws Error that names an op without a kernel. */
  constructor(tf: Tfjs, plan: GraphPlan) {
    this.#tf = tf;
    this.#plan = plan;
    const values = [...plan.inputs, ...plan.nodes.flatMap((node) => node.outputs)];
    this.#uses = new Int32Array(1 + Math.max(...values.map(({ id }) => id)));
    const read = (id: number | undefined) => {
      if (id !== undefined) this.#uses[id] += 1;
    };
    for (const node of plan.nodes) node.inputs.forEach(read);
    for (const output of plan.outputs) read(output.id);
    for (const node of plan.nodes) {
      if (kernels[node.op] === undefined) throw new Error(`op ${node.op} has no kernel for TensorFlow.js`);
      if (node.op === "Constant") this.#constants.set(node.outputs[0].id, this.#compute(node, [], {})[0]);
    }
  }

  /**
   * Values of the outputs, in the graph's order, the caller's to dispose; `feeds` stay the caller's. Fed shapes have been
   * checked against the graph.
   */
  run(feeds: Readonly<Record<string, tfjs.Tensor>>): tfjs.Tensor[] {
    const bindings = this.#bind(feeds);
    const left = this.#uses.slice();
    const values = new Map<number, tfjs.Tensor>(this.#constants);
    const borrowed = new Set<number>(this.#constants.keys());
    for (const { id, name } of this.#plan.inputs) {
      values.set(id, feeds[name]);
      borrowed.add(id);
    }
    const drop = (id: number) => {
      if (left[id] > 0 || borrowed.has(id)) return;
      values.get(id)?.dispose();
      values.delete(id);
    };
    try {
      for (const node of this.#plan.nodes) {
        if (node.op === "Constant") continue;
        const inputs = node.inputs.map((id) => (id === undefined ? undefined : values.get(id)));
        const results = this.#compute(node, inputs, bindings);
        for (const [i, { id }] of node.outputs.entries()) values.set(id, results[i]);
        for (const id of node.inputs) if (id !== undefined) left[id] -= 1;
        for (const id of node.inputs) if (id !== undefined) drop(id);
        for (const { id } of node.outputs) drop(id); // a result that nothing reads
      }
      return this.#plan.outputs.map(({ id }) => (values.get(id) as tfjs.Tensor).clone());
    } finally {
      for (const [id, value] of values) if (!borrowed.has(id)) value.dispose();
    }
  }

  /** Frees the constants. */
  release(): void {
    for (const constant of this.#constants.values()) constant.dispose();
    this.#constants.clear();
  }

  #bind(feeds: Readonly<Record<string, tfjs.Tensor>>): DimBindings {
    const bindings: Record<string, number> = {};
    for (const { name, shape } of this.#plan.inputs) {
      shape.forEach((dim, axis) => {
        if (typeof dim === "string" && dimNames(dim)[0] === dim) bindings[dim] ??= feeds[name].shape[axis];
      });
    }
    return bindings;
  }

  #compute(node: PlanNode, inputs: (tfjs.Tensor | undefined)[], bindings: DimBindings): tfjs.Tensor[] {
    const tf = this.#tf;
    const outputs = node.outputs.map(({ dtype, shape }) => ({ dtype, shape: evalShape(shape, bindings) }));
    const context: KernelContext<never> = {
      tf,
      attrs: node.attrs as never,
      outputs,
      dim: (dim) => evalDim(dim, bindings),
      dims: (shape) => evalShape(shape, bindings),
    };
    // most kernels refuse tensors without elements, and there is nothing to compute
    if (outputs.every(({ shape }) => shape.includes(0))) {
      return outputs.map(({ dtype, shape }) => tf.tensor([], shape, tfDtype(dtype)));
    }
    const kernel = kernels[node.op] as Kernel<never>;
    return tf.tidy(() => {
      const results = kernel(context, ...(inputs as tfjs.Tensor[]));
      const list = Array.isArray(results) ? (results as tfjs.Tensor[]) : [results as tfjs.Tensor];
      // a result that is an operand gets a handle of its own, to be disposed of on its own
      return list.map((result) => (inputs.includes(result) ? result.clone() : result));
    });
  }
}
