/**
 * @file The graph: a list of nodes in the order they were made, its inputs, parameters and named outputs. Equal
 * nodes are shared as they are made (same op, inputs and attributes), so nothing is computed twice.
 */
import { type DimBindings, dimNames, evalDim, formatShape, normalizeDim, type Shape } from "./dims.js";
import { GraphError } from "./errors.js";
import { bytesOf, type ConstantData, toTypedArray } from "./host-data.js";
import {
  type Attrs,
  type DType,
  type GraphNode,
  Tensor,
  type TensorType,
  type TypedArray,
} from "./tensor.js";

/** Options of `Graph.constant`. */
export interface ConstantOptions {
  /** Element type; default: that of a typed array, else float32. */
  dtype?: DType;
  /** Shape; default `[]` for a number, else `[length]`. */
  shape?: readonly number[];
}

/** Attributes of a "Constant" node. */
export interface ConstantAttrs {
  /** Row-major elements; float16 as bits, bool as bytes. */
  readonly data: TypedArray;
}

/** A named result of a graph. */
export interface GraphOutput {
  /** What callers bind and read. It may equal a parameter's name: then the engine may write in place. */
  readonly name: string;
  readonly tensor: Tensor;
}

/** A computation over symbolic tensors. */
export class Graph {
  readonly #inputs: Tensor[] = [];
  readonly #parameters: Tensor[] = [];
  readonly #outputs: GraphOutput[] = [];
  readonly #nodes: GraphNode[] = [];
  readonly #shared = new Map<string, GraphNode>();

  constructor(
    /** Names the graph in profiles and errors. */
    readonly name: string,
  ) {}

  /** Tensors fed at every run, in order of declaration. */
  get inputs(): readonly Tensor[] {
    return this.#inputs;
  }

  /** Weights, in order of declaration; also fed at every run. */
  get parameters(): readonly Tensor[] {
    return this.#parameters;
  }

  /** Results, in order of declaration. */
  get outputs(): readonly GraphOutput[] {
    return this.#outputs;
  }

  /** Every node made so far, each after the nodes it reads, including those no output needs. */
  get nodes(): readonly GraphNode[] {
    return this.#nodes;
  }

  /** Declares a tensor that is fed at every run. Symbolic dimensions get their value from what is fed. */
  input(name: string, dtype: DType, shape: Shape): Tensor {
    const tensor = this.#leaf("Input", name, dtype, shape);
    this.#inputs.push(tensor);
    return tensor;
  }

  /** Declares a float32 weight, bound by name; asking again for the same name and shape gives the same tensor. */
  parameter(name: string, shape: readonly number[]): Tensor {
    const known = this.#parameters.find((p) => p.name === name);
    if (known && formatShape(known.shape) === formatShape(shape)) return known;
    const tensor = this.#leaf("Parameter", name, "float32", shape);
    this.#parameters.push(tensor);
    return tensor;
  }

  /** A constant; small equal constants are shared. Numbers are float32 unless `dtype` says otherwise. */
  constant(data: ConstantData, options: ConstantOptions = {}): Tensor {
    const { dtype, values } = toTypedArray(data, options.dtype);
    const shape = options.shape ?? (typeof data === "number" ? [] : [values.length]);
    const count = shape.reduce((product, dim) => product * dim, 1);
    if (count !== values.length) {
      throw new GraphError(
        `constant: shape ${formatShape(shape)} needs ${count} values, got ${values.length}`,
      );
    }
    const attrs: ConstantAttrs = { data: values };
    const type = { dtype, shape: shape.map(normalizeDim) };
    const key =
      values.byteLength <= 256
        ? `Constant ${dtype} ${formatShape(shape)} ${Buffer.from(bytesOf(values)).toString("hex")}`
        : undefined;
    return this.#add("Constant", [], attrs, [type], key).outputs[0];
  }

  /** Makes `tensor` a result called `name`. An output may carry the name of an input, not of another output. */
  output(name: string, tensor: Tensor): Tensor {
    if (tensor.graph !== this) throw new GraphError(`output ${name}: the tensor belongs to another graph`);
    if (this.#outputs.some((o) => o.name === name)) {
      throw new GraphError(`output ${name}: graph ${this.name} already has an output of this name`);
    }
    this.#outputs.push({ name, tensor });
    return tensor;
  }

  /**
   * The nodes that the outputs need, each after the nodes it reads; leaves included. Inputs and parameters are
   * always in `inputs` and `parameters`, needed or not.
   */
  schedule(): GraphNode[] {
    const live = new Set<number>();
    const pending = this.#outputs.map((o) => o.tensor.node);
    for (let node = pending.pop(); node; node = pending.pop()) {
      if (live.has(node.id)) continue;
      live.add(node.id);
      for (const input of node.inputs) if (input) pending.push(input.node);
    }
    return this.#nodes.filter((node) => live.has(node.id));
  }

  /**
   * What each symbolic name is, given the shapes fed for inputs (and parameters, when listed).
   * Throws GraphError naming the input whose shape does not fit its declaration.
   */
  bindDims(shapes: Readonly<Record<string, readonly number[]>>): DimBindings {
    const bindings: Record<string, number> = {};
    const declared = [...this.#inputs, ...this.#parameters].flatMap((t) => {
      const fed = shapes[t.name ?? ""];
      return fed === undefined ? [] : [{ tensor: t, fed }];
    });
    for (const { tensor, fed } of declared) {
      if (fed.length !== tensor.rank) throw unfit(tensor, fed);
      for (const [axis, dim] of tensor.shape.entries()) {
        if (typeof dim === "string" && dimNames(dim)[0] === dim) bindings[dim] ??= fed[axis];
      }
    }
    for (const { tensor, fed } of declared) {
      if (tensor.shape.some((dim, axis) => evalDim(dim, bindings) !== fed[axis])) {
        throw unfit(tensor, fed, bindings);
      }
    }
    return bindings;
  }

  /** Where a symbolic name gets its value: the first input that has it as a dimension of its own. */
  dimSource(name: string): { tensor: Tensor; axis: number } {
    for (const tensor of this.#inputs) {
      const axis = tensor.shape.indexOf(name);
      if (axis >= 0) return { tensor, axis };
    }
    throw new GraphError(`dimension ${name}: no input of graph ${this.name} has it`);
  }

  /**
   * Adds a node, or returns the equal one made before. For ops (see `defineOp`), which check their arguments.
   * `key` identifies the op and its attributes.
   */
  apply(
    op: string,
    inputs: readonly (Tensor | undefined)[],
    attrs: Attrs,
    types: readonly TensorType[],
  ): GraphNode {
    for (const input of inputs) {
      if (input && input.graph !== this) {
        throw new GraphError(`${op}: an operand belongs to graph ${input.graph.name}, not ${this.name}`);
      }
    }
    const operands = inputs.map((t) => (t ? `${t.node.id}.${t.index}` : "-")).join(",");
    return this.#add(op, inputs, attrs, types, `${op}(${operands})${JSON.stringify(attrs)}`);
  }

  #leaf(op: string, name: string, dtype: DType, shape: Shape): Tensor {
    if (name === "" || [...this.#inputs, ...this.#parameters].some((t) => t.name === name)) {
      throw new GraphError(`input "${name}": expected a name that graph ${this.name} does not use yet`);
    }
    return this.#add(op, [], {}, [{ dtype, shape: shape.map(normalizeDim) }], undefined, name).outputs[0];
  }

  #add(
    op: string,
    inputs: readonly (Tensor | undefined)[],
    attrs: Attrs,
    types: readonly TensorType[],
    key?: string,
    name?: string,
  ): GraphNode {
    const known = key === undefined ? undefined : this.#shared.get(key);
    if (known) return known;
    const outputs: Tensor[] = [];
    const node: GraphNode = { id: this.#nodes.length, op, graph: this, inputs, attrs, outputs };
    for (const [i, { dtype, shape }] of types.entries()) {
      outputs.push(new Tensor(node, i, dtype, Object.freeze([...shape]), name));
    }
    this.#nodes.push(node);
    if (key !== undefined) this.#shared.set(key, node);
    return node;
  }
}

function unfit(tensor: Tensor, fed: readonly number[], bindings?: DimBindings): GraphError {
  const known = Object.entries(bindings ?? {}).map(([name, value]) => `${name} = ${value}`);
  const where = known.length > 0 ? ` with ${known.join(", ")}` : "";
  return new GraphError(
    `input ${tensor.name}: expected shape ${formatShape(tensor.shape)}${where}, got ${formatShape(fed)}`,
  );
}
