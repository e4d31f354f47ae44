/**
 * @file Reverse-mode differentiation. The gradients are more nodes of the same graph, so they can be output,
 * clipped, fed to an optimizer, or differentiated again.
 */

import { opOf } from "./define-op.js";
import { formatShape, sameShape } from "./dims.js";
import { GraphError } from "./errors.js";
import { scatterBase } from "./ops/gather.js";
import { ones, zeros } from "./ops/shape.js";
import { type GraphNode, isFloat, type Tensor } from "./tensor.js";

/** Options of `gradients`. */
export interface GradientOptions {
  /** Gradient by the loss itself, of the loss's shape; default 1, and then the loss must have one element. */
  seed?: Tensor;
}

/**
 * The gradient of `loss` by each tensor of `wrt`, of that tensor's shape. A tensor that the loss does not depend on
 * gets zeros. Throws GraphError when the loss has more than one element and no seed, or when an op on the way
 * has no gradient.
 */
export function gradients(loss: Tensor, wrt: readonly Tensor[], { seed }: GradientOptions = {}): Tensor[] {
  if (!seed && loss.shape.some((dim) => dim !== 1)) {
    throw new GraphError(
      `gradients: the loss must have one element, got ${formatShape(loss.shape)}; pass a seed`,
    );
  }
  if (seed && !sameShape(seed.shape, loss.shape)) {
    throw new GraphError(
      `gradients: seed ${formatShape(seed.shape)} must have the loss's shape ${formatShape(loss.shape)}`,
    );
  }
  for (const t of wrt) {
    if (t.graph !== loss.graph || !isFloat(t.dtype)) {
      throw new GraphError(
        `gradients: ${t.name ?? t.node.op} must be a float tensor of the loss's graph, got ${t.dtype}`,
      );
    }
  }
  const found = new Gradients();
  found.add(loss, seed ?? ones(loss));
  const path = nodesBetween(wrt, loss);
  for (const node of path.nodes.reverse()) propagate(node, found, path.dependent);
  return wrt.map((t) => found.of(t) ?? zeros(t));
}

/** Gradients collected so far, summed by tensor. */
class Gradients {
  readonly #sums = new Map<Tensor, Tensor>();

  of(t: Tensor): Tensor | undefined {
    return this.#sums.get(t);
  }

  add(t: Tensor, gradient: Tensor): void {
    if (!sameShape(t.shape, gradient.shape) || t.dtype !== gradient.dtype) {
      throw new GraphError(
        `gradients: ${t.node.op} of ${t.dtype} ${formatShape(t.shape)} got a gradient of ${gradient.dtype} ${formatShape(gradient.shape)}`,
      );
    }
    const sum = this.#sums.get(t);
    this.#sums.set(t, sum ? addGradients(sum, gradient) : gradient);
  }
}

function addGradients(a: Tensor, b: Tensor): Tensor {
  return scatterBase(a, b) ?? scatterBase(b, a) ?? a.add(b);
}

/** The nodes on a way from `wrt` to `loss`, in order, and the tensors that depend on `wrt`. */
function nodesBetween(wrt: readonly Tensor[], loss: Tensor): { nodes: GraphNode[]; dependent: Set<Tensor> } {
  const needed = new Set<number>();
  const pending = [loss.node];
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (needed.has(node.id)) continue;
    needed.add(node.id);
    for (const input of node.inputs) if (input) pending.push(input.node);
  }
  const dependent = new Set<Tensor>(wrt);
  const nodes: GraphNode[] = [];
  for (const node of loss.graph.nodes.slice(0, loss.node.id + 1)) {
    if (!needed.has(node.id) || !node.inputs.some((t) => t && dependent.has(t))) continue;
    // Whole numbers and truth values carry no gradient, so the way ends there.
    const carrying = node.outputs.filter((t) => isFloat(t.dtype));
    if (carrying.length === 0) continue;
    for (const t of carrying) dependent.add(t);
    nodes.push(node);
  }
  return { nodes, dependent };
}

function propagate(node: GraphNode, found: Gradients, dependent: ReadonlySet<Tensor>): void {
  const dys = node.outputs.map((t) => found.of(t));
  if (dys.every((dy) => dy === undefined)) return;
  const op = opOf(node);
  if (!op) throw new GraphError(`gradients: op ${node.op} is not declared`);
  if (!(op.vjp instanceof Function)) {
    throw new GraphError(`gradients: ${node.op} has no gradient, because ${op.vjp.none}`);
  }
  const needs = node.inputs.map((t) => t !== undefined && dependent.has(t));
  const inputGradients = op.vjp({
    inputs: node.inputs as readonly Tensor[],
    outputs: node.outputs,
    attrs: node.attrs,
    dy: dys[0] ?? zeros(node.outputs[0]),
    dys,
    needs,
  });
  for (const [i, gradient] of inputGradients.entries()) {
    if (gradient && needs[i]) found.add(node.inputs[i]!, gradient);
  }
}
