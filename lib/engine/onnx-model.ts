/**
 * @file Writes small ONNX models straight from a list of nodes, for the engine's own use (moving bytes to and from a
 * device) and its tests. Models proper come from `lib/graph`.
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  type AttributeProtoSchema,
  ModelProtoSchema,
  type ValueInfoProtoSchema,
} from "../graph/gen/onnx/onnx_pb.js";

/** One input or output: ONNX type number and dimensions, named ones as strings. */
export interface OnnxValue {
  name: string;
  onnxType: number;
  dims: readonly (number | string)[];
}

/** One node; number attributes that are whole become INT, others FLOAT. */
export interface OnnxNode {
  op: string;
  inputs: string[];
  outputs: string[];
  domain?: string;
  ints?: Record<string, number>;
  floats?: Record<string, number>;
}

function valueInfo({ name, onnxType, dims }: OnnxValue): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = dims.map((d) =>
    typeof d === "string"
      ? { value: { case: "dimParam" as const, value: d } }
      : { value: { case: "dimValue" as const, value: BigInt(d) } },
  );
  return { name, type: { value: { case: "tensorType", value: { elemType: onnxType, shape: { dim } } } } };
}

function attributes(node: OnnxNode): MessageInitShape<typeof AttributeProtoSchema>[] {
  const ints = Object.entries(node.ints ?? {}).map(([name, i]) => ({
    name,
    type: AttributeProto_AttributeType.INT,
    i: BigInt(i),
  }));
  const floats = Object.entries(node.floats ?? {}).map(([name, f]) => ({
    name,
    type: AttributeProto_AttributeType.FLOAT,
    f,
  }));
  return [...ints, ...floats];
}

/** Bytes of a ModelProto with these inputs, outputs and nodes; opset 17 and com.microsoft 1. */
export function onnxModel(
  name: string,
  inputs: readonly OnnxValue[],
  outputs: readonly OnnxValue[],
  nodes: readonly OnnxNode[],
): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    producerName: "rlhf-mesh",
    opsetImport: [
      { domain: "", version: 17n },
      { domain: "com.microsoft", version: 1n },
    ],
    graph: {
      name,
      input: inputs.map(valueInfo),
      output: outputs.map(valueInfo),
      node: nodes.map((node, i) => ({
        name: `${node.op}_${i}`,
        opType: node.op,
        domain: node.domain ?? "",
        input: node.inputs,
        output: node.outputs,
        attribute: attributes(node),
      })),
    },
  });
  return toBinary(ModelProtoSchema, model);
}
