/** @file Tests of the bridge between protobuf-es and grpc-js. */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  EchoRequestSchema,
  EchoResponseSchema,
  EchoService,
} from "../rpc/testing/gen/rlhf/testing/v1/echo_pb.js";
import { asBuffer, decodeMessage, encodeMessage, toGrpcService } from "./index.js";

describe("the bridge to grpc-js", () => {
  it("gives each method its path and stream flags", () => {
    const definition = toGrpcService(EchoService);
    const flags = Object.entries(definition).map(([name, m]) => [
      name,
      m.path,
      m.requestStream,
      m.responseStream,
    ]);
    assert.deepEqual(flags, [
      ["echo", "/rlhf.testing.v1.EchoService/Echo", false, false],
      ["echoMany", "/rlhf.testing.v1.EchoService/EchoMany", false, true],
      ["echoJoin", "/rlhf.testing.v1.EchoService/EchoJoin", true, false],
      ["echoEach", "/rlhf.testing.v1.EchoService/EchoEach", true, true],
    ]);
  });

  it("wraps bytes in a Buffer without a copy", () => {
    const memory = new Uint8Array([0, 1, 2, 3, 4]);
    const wrapped = asBuffer(memory.subarray(1, 3));
    memory[1] = 9;
    assert.deepEqual([...wrapped], [9, 2]);
    assert.equal(wrapped.buffer, memory.buffer);
  });

  it("takes a plain object for a message and leaves the encoded bytes alone when the source changes", () => {
    const data = new Uint8Array([1, 2, 3]);
    const wire = encodeMessage(EchoRequestSchema, { text: "a", data });
    data.fill(7);
    assert.deepEqual([...decodeMessage(EchoRequestSchema, wire).data], [1, 2, 3]);
  });

  it("encodes a message of defaults as no bytes and decodes no bytes as defaults", () => {
    const definition = toGrpcService(EchoService);
    const wire = definition.echo?.requestSerialize({}) as Buffer;
    assert.equal(wire.byteLength, 0);
    assert.deepEqual(definition.echo?.requestDeserialize(wire), create(EchoRequestSchema));
  });

  it("keeps fields that this version does not know", () => {
    const newer = Buffer.from([...encodeMessage(EchoResponseSchema, { text: "a" }), 0x9a, 0x06, 0x01, 0x78]); // field 99
    const message = decodeMessage(EchoResponseSchema, newer);
    assert.deepEqual(asBuffer(toBinary(EchoResponseSchema, message)), newer);
  });

  it("refuses truncated bytes and text that is not UTF-8", () => {
    assert.throws(() => decodeMessage(EchoRequestSchema, Buffer.from([0x0a, 0x05, 0x61])));
    assert.throws(() => decodeMessage(EchoRequestSchema, Buffer.from([0x0a, 0x02, 0xc3, 0x28])));
  });
});
