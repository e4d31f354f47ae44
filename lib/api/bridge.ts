/**
 * @file Joins protobuf-es and grpc-js: a generated service in, a grpc-js service definition out.
 * Messages cross as they are on the wire; wrapping the encoder's output in a Buffer does not copy it.
 */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";

/** Views the memory of `bytes` as a Buffer, without a copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Encodes a message, or the plain object that one is made from. Throws if a field has the wrong type or range. */
export function encodeMessage<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Buffer {
  return asBuffer(toBinary(schema, create(schema, init)));
}

/** Decodes a message. `bytes` fields may share the memory of `wire`. Throws on malformed bytes and invalid UTF-8. */
export function decodeMessage<D extends DescMessage>(schema: D, wire: Uint8Array): MessageShape<D> {
  return fromBinary(schema, wire);
}

/** Path of a method on the wire: `/package.Service/Method`. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The grpc-js definition of a generated service, keyed by the method's name in code (`score` for `Score`). */
export function toGrpcService(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, toGrpcMethod(method)]));
}

/** The grpc-js definition of one method. */
export function toGrpcMethod(method: DescMethod): MethodDefinition<unknown, unknown> {
  const { input, output, methodKind } = method;
  return {
    path: methodPath(method),
    originalName: method.localName,
    requestStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
    responseStream: methodKind === "server_streaming" || methodKind === "bidi_streaming",
    requestSerialize: (value) => encodeMessage(input, value as MessageInitShape<DescMessage>),
    requestDeserialize: (wire) => decodeMessage(input, wire),
    responseSerialize: (value) => encodeMessage(output, value as MessageInitShape<DescMessage>),
    responseDeserialize: (wire) => decodeMessage(output, wire),
  };
}
