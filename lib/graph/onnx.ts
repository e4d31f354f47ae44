/**
 * @file A graph as ONNX bytes (ModelProto; ai.onnx 18 and com.microsoft 1). Only what the outputs need is written,
 * in the order of creation, under names counted by kind: the same graph always gives the same bytes.
 * Parameters are inputs of the model, never constants in it.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { opOf } from "./define-op.js";
import { type Dim, dimTerms, isStatic, type Shape } from "./dims.js";
import { GraphError } from "./errors.js";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "./gen/onnx/onnx_pb.js";
import type { ConstantAttrs, Graph } from "./graph.js";
import { bytesOf, toTypedArray } from "./host-data.js";
import type { EmitOptions, OnnxAttr, OnnxEmitter } from "./onnx-form.js";
import { ONNX_DTYPES } from "./ops/unary.js";
import type { DType, GraphNode, Tensor, TypedArray } from "./tensor.js";

const IR_VERSION = 8n;
const OPSETS = [
  { domain: "", version: 18n },
  { domain: "com.microsoft", version: 1n },
];

/**
 * The bytes of an ONNX model that computes the graph's outputs. Inputs and parameters keep their names; so do
 * outputs, unless an input has the same name (see `onnxOutputName`).
 */
export function toOnnx(graph: Graph): Uint8Array {
  if (graph.outputs.length === 0) throw new GraphError(`graph ${graph.name} has no outputs`);
  const writer = new Writer(graph);
  for (const node of graph.schedule()) writer.write(node);
  const inputs = [...graph.inputs, ...graph.parameters].map((t) => valueInfo(t.name!, t.dtype, t.shape));
  const outputs = graph.outputs.map(({ name, tensor }) => {
    writer.bindOutput(onnxOutputName(graph, name), tensor);
    return valueInfo(onnxOutputName(graph, name), tensor.dtype, tensor.shape);
  });
  const model = create(ModelProtoSchema, {
    irVersion: IR_VERSION,
    producerName: "rlhf-mesh",
    opsetImport: OPSETS,
    graph: {
      name: graph.name,
      node: writer.nodes,
      initializer: writer.initializers,
      input: inputs,
      output: outputs,
    },
  });
  return toBinary(ModelProtoSchema, model);
}

/**
 * What the ONNX model calls the graph's output `name`: the name itself, or `name:out` when an input or parameter
 * has that name (an updated weight), because ONNX allows each name only once.
 */
export function onnxOutputName(graph: Graph, name: string): string {
  return [...graph.inputs, ...graph.parameters].some((t) => t.name === name) ? `${name}:out` : name;
}

class Writer {
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[] = [];
  readonly #graph: Graph;
  readonly #names = new Map<Tensor, string>();
  readonly #counts = new Map<string, number>();
  readonly #constants = new Map<string, string>();
  readonly #dims = new Map<string, string>();
  readonly #read = new Set<Tensor>();
  readonly #outputNames = new Map<Tensor, string>();

  constructor(graph: Graph) {
    this.#graph = graph;
    for (const node of graph.schedule()) for (const t of node.inputs) if (t) this.#read.add(t);
    for (const { name, tensor } of graph.outputs) {
      this.#read.add(tensor);
      // A computed tensor takes the name of its first output at once; others are copies.
      if (!this.#outputNames.has(tensor)) this.#outputNames.set(tensor, onnxOutputName(graph, name));
    }
  }

  write(node: GraphNode): void {
    if (node.op === "Input" || node.op === "Parameter") {
      this.#names.set(node.outputs[0], node.outputs[0].name!);
      return;
    }
    if (node.op === "Constant") {
      const [t] = node.outputs;
      this.#names.set(t, this.#constant(t.dtype, t.shape, (node.attrs as ConstantAttrs).data));
      return;
    }
    const op = opOf(node);
    if (!op) throw new GraphError(`op ${node.op} is not declared`);
    const inputs = node.inputs.map((t) => (t ? this.#nameOf(t) : ""));
    const outputs = node.outputs.map((t) => {
      if (!this.#read.has(t)) return "";
      const name = this.#outputNames.get(t) ?? this.#fresh(node.op);
      this.#names.set(t, name);
      return name;
    });
    const emit: OnnxEmitter = {
      inputs,
      outputs,
      node: (type, attrs = {}, options = {}) => this.#node(type, attrs, { inputs, outputs, ...options }),
      helper: (type, from, attrs = {}) => this.#helper(type, from, attrs),
      ints: (values) => this.#ints(values),
      scalar: (value, dtype) => this.#constant(dtype, [], toTypedArray(value, dtype).values),
      dims: (dims) => this.#dimVector(dims),
      alias: () => this.#names.set(node.outputs[0], inputs[0]),
    };
    if (typeof op.onnx === "string") emit.node(op.onnx);
    else op.onnx(emit, node.attrs, node);
  }

  /** Makes sure that the model computes a value called `name`. */
  bindOutput(name: string, tensor: Tensor): void {
    const source = this.#nameOf(tensor);
    if (source !== name) this.#node("Identity", {}, { inputs: [source], outputs: [name] });
  }

  #nameOf(t: Tensor): string {
    const name = this.#names.get(t);
    if (name === undefined) throw new GraphError(`${t.node.op}: written before what it reads`);
    return name;
  }

  #node(
    type: string,
    attrs: Readonly<Record<string, OnnxAttr>>,
    { domain, inputs = [], outputs = [], omitUnread = false }: EmitOptions,
  ): void {
    this.nodes.push(
      create(NodeProtoSchema, {
        name: this.#fresh(`node/${type}`),
        opType: type,
        input: trimEnd(inputs),
        output: omitUnread
          ? trimEnd(outputs)
          : outputs.map((output) => output || this.#fresh(`unread/${type}`)),
        attribute: Object.entries(attrs).map(([name, value]) => attribute(name, value)),
        ...(domain ? { domain } : {}),
      }),
    );
  }

  #helper(type: string, inputs: readonly string[], attrs: Readonly<Record<string, OnnxAttr>> = {}): string {
    const name = this.#fresh(type);
    this.#node(type, attrs, { inputs, outputs: [name] });
    return name;
  }

  /** A name that nothing in the model has: `/Add/0`, `/Add/1`, … */
  #fresh(kind: string): string {
    const count = this.#counts.get(kind) ?? 0;
    this.#counts.set(kind, count + 1);
    return `/${kind}/${count}`;
  }

  #ints(values: readonly number[]): string {
    return this.#constant("int64", [values.length], BigInt64Array.from(values, BigInt));
  }

  #constant(dtype: DType, shape: Shape, data: TypedArray): string {
    const bytes = bytesOf(data);
    const key = bytes.length <= 256 ? `${dtype} [${shape}] ${Buffer.from(bytes).toString("hex")}` : undefined;
    const known = key === undefined ? undefined : this.#constants.get(key);
    if (known !== undefined) return known;
    const name = this.#fresh("Constant");
    this.initializers.push(
      create(TensorProtoSchema, {
        name,
        dims: shape.map(BigInt),
        dataType: ONNX_DTYPES[dtype],
        rawData: bytes,
      }),
    );
    if (key !== undefined) this.#constants.set(key, name);
    return name;
  }

  /** An int64 vector of dimensions: a constant when all are numbers, else put together from inputs' shapes. */
  #dimVector(dims: readonly Dim[]): string {
    if (isStatic(dims)) return this.#ints(dims);
    return this.#once(`[${dims}]`, () => {
      const parts = dims.map((dim) => this.#dim(dim));
      return parts.length === 1 ? parts[0] : this.#helper("Concat", parts, { axis: 0 });
    });
  }

  /** One dimension as an int64 vector of one element. */
  #dim(dim: Dim): string {
    if (typeof dim === "number") return this.#ints([dim]);
    return this.#once(dim, () => {
      const terms = dimTerms(dim).map(({ coefficient, names }) => {
        const factors = names.map((name) => this.#dimName(name));
        if (coefficient !== 1 || factors.length === 0) factors.push(this.#ints([coefficient]));
        return factors.reduce((a, b) => this.#helper("Mul", [a, b]));
      });
      return terms.reduce((a, b) => this.#helper("Add", [a, b]));
    });
  }

  #dimName(name: string): string {
    return this.#once(`name ${name}`, () => {
      const { tensor, axis } = this.#graph.dimSource(name);
      return this.#helper("Shape", [tensor.name!], { start: axis, end: axis + 1 });
    });
  }

  #once(key: string, make: () => string): string {
    const known = this.#dims.get(key);
    if (known !== undefined) return known;
    const name = make();
    this.#dims.set(key, name);
    return name;
  }
}

function valueInfo(name: string, dtype: DType, shape: Shape): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: ONNX_DTYPES[dtype],
          shape: {
            dim: shape.map((dim) => ({
              value:
                typeof dim === "number"
                  ? { case: "dimValue" as const, value: BigInt(dim) }
                  : { case: "dimParam" as const, value: dim },
            })),
          },
        },
      },
    },
  });
}

function attribute(name: string, value: OnnxAttr): AttributeProto {
  const base = { name };
  if (typeof value === "number") {
    return create(AttributeProtoSchema, { ...base, type: AttributeType.INT, i: BigInt(value) });
  }
  if (typeof value === "string") {
    return create(AttributeProtoSchema, {
      ...base,
      type: AttributeType.STRING,
      s: new TextEncoder().encode(value),
    });
  }
  if ("float" in value) {
    return create(AttributeProtoSchema, { ...base, type: AttributeType.FLOAT, f: value.float });
  }
  return create(AttributeProtoSchema, { ...base, type: AttributeType.INTS, ints: value.map(BigInt) });
}

function trimEnd(names: readonly string[]): string[] {
  const last = names.findLastIndex((name) => name !== "");
  return names.slice(0, last + 1);
}
