import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { ElementType, TensorSchema } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { cutBySize } from "./servers.js";
import { float32Of } from "./tensors.js";

describe("calls for whole distributions", () => {
  const span = (tokens: number) => ({ ids: Array(tokens + 1).fill(1), start: 1 });
  const sizes = (parts: { ids: readonly number[] }[][]) =>
    parts.map((part) => part.map(({ ids }) => ids.length - 1));

  it("are cut so that each reply fits, in order, and a sequence that alone is too large goes alone", () => {
    const parts = cutBySize([span(2), span(3), span(9), span(1)], 10, 5 * 10 * 4);
    assert.deepEqual(sizes(parts), [[2, 3], [9], [1]]);
  });

  it("are one where no distribution is asked for, and none for no sequence", () => {
    assert.deepEqual(sizes(cutBySize([span(2), span(300)], 0, 1)), [[2, 300]]);
    assert.deepEqual(cutBySize([], 10, 1), []);
  });
});

describe("a tensor of the wire", () => {
  const tensor = (elementType: ElementType, bytes: number) =>
    create(TensorSchema, { elementType, shape: [BigInt(bytes / 4)], data: new Uint8Array(bytes) });

  it("is read whatever its alignment in the message", () => {
    const buffer = new Uint8Array(9);
    new DataView(buffer.buffer).setFloat32(1, 1.5, true);
    new DataView(buffer.buffer).setFloat32(5, -2, true);
    const message = create(TensorSchema, {
      elementType: ElementType.FLOAT32,
      shape: [2n],
      data: buffer.subarray(1),
    });
    assert.deepEqual(float32Of(message, 2, "logprobs"), new Float32Array([1.5, -2]));
  });

  it("that is missing, of another type or length is an error that says so", () => {
    assert.throws(() => float32Of(undefined, 2, "logprobs"), /logprobs: expected float32 \[2\], got nothing/);
    assert.throws(() => float32Of(tensor(ElementType.INT32, 8), 2, "logprobs"), /got INT32 \[2\] in 8 bytes/);
    assert.throws(
      () => float32Of(tensor(ElementType.FLOAT32, 4), 2, "logprobs"),
      /got FLOAT32 \[1\] in 4 bytes/,
    );
  });
});
