/** @file Tensors of the toy servers' replies. */
import { ElementType } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";

/** A float32 tensor, little-endian. */
export function floats(values: readonly number[], shape: readonly number[] = [values.length]) {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true);
  return { elementType: ElementType.FLOAT32, shape: shape.map(BigInt), data: new Uint8Array(view.buffer) };
}
