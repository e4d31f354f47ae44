/**
 * @file When an output may be written over an input while a graph runs. An operator that runs later than the one that
 * writes the output must not read the input any more, and the one that writes it must read each element before it
 * writes there. Where that is not certain, the engine computes beside the input and copies.
 */
import type { Graph, GraphNode, Tensor } from "../graph/index.js";

/** Ops of which element i of the result depends on element i of each operand, whatever kernel computes them. */
const elementwise = new Set(
  "Add Sub Mul Div Pow Min Max Equal Less LessOrEqual Greater GreaterOrEqual And Or Not Where".split(" "),
);
for (const op of "Neg Sqrt Exp Log Tanh Sigmoid Erf Relu Abs Sign Clip Gelu GeluTanh Cast".split(" ")) {
  elementwise.add(op);
}

/** Of those, the ops whose kernels read an element once, before they write it: ONNX Runtime runs them in place itself. */
const inPlace = new Set("Add Sub Mul Div Neg Sqrt Exp Log Tanh Sigmoid Relu Abs Clip".split(" "));

/** Ops that are written to take one operand's memory for a result: operand index of each result index. */
const documented: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  GroupQueryAttention: { 1: 3, 2: 4 }, // present key and value over past key and value
  ScatterNd: { 0: 0 },
  ScatterElements: { 0: 0 },
};

/** Ops that are only another name for their operand. */
const transparent = new Set(["StopGradient", "AssumeShape"]);

/** What one graph allows. */
export class SharingRules {
  readonly #graph: Graph;
  readonly #consumers = new Map<Tensor, Set<GraphNode>>();
  readonly #answers = new Map<string, boolean>();

  constructor(graph: Graph) {
    this.#graph = graph;
    for (const node of graph.schedule()) {
      if (transparent.has(node.op)) continue;
      for (const operand of node.inputs) {
        if (operand === undefined) continue;
        const source = resolve(operand);
        const readers = this.#consumers.get(source) ?? new Set();
        this.#consumers.set(source, readers.add(node));
      }
    }
  }

  /** Whether the output called `output` may be written over the very memory of the input called `input`. */
  allows(input: string, output: string): boolean {
    const key = JSON.stringify([input, output]);
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = this.#decide(input, output);
      this.#answers.set(key, answer);
    }
    return answer;
  }

  #decide(input: string, output: string): boolean {
    const { inputs, parameters, outputs } = this.#graph;
    const source = [...inputs, ...parameters].find((t) => t.name === input);
    const result = outputs.find((o) => o.name === output)?.tensor;
    if (source === undefined || result === undefined) return false;
    if (outputs.some((o) => resolve(o.tensor) === source)) return false; // passed through: copied at any time
    const readers = this.#consumers.get(source) ?? new Set();
    const written = resolve(result);
    const writer = written.node;
    const operand = documented[writer.op]?.[written.index];
    if (operand !== undefined) {
      const reads = writer.inputs.filter((t) => t !== undefined && resolve(t) === source).length;
      return readers.size === 1 && reads === 1 && writer.inputs[operand] === source;
    }
    if (!inPlace.has(writer.op)) return false;
    const before = ancestors(writer);
    // readers that are not elementwise might be fused with the writer, or hand on the memory itself (Reshape)
    return [...readers].every(
      (reader) => reader === writer || (elementwise.has(reader.op) && before.has(reader)),
    );
  }
}

/** What a tensor is another name for, or itself. */
function resolve(tensor: Tensor): Tensor {
  let source = tensor;
  while (transparent.has(source.node.op)) source = source.node.inputs[0] as Tensor;
  return source;
}

/** The nodes that must have run before `node` can. */
function ancestors(node: GraphNode): Set<GraphNode> {
  const found = new Set<GraphNode>();
  const pending = [node];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const operand of next.inputs) {
      if (operand === undefined || found.has(operand.node)) continue;
      found.add(operand.node);
      pending.push(operand.node);
    }
  }
  return found;
}
