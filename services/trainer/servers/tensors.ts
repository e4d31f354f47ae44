/** @file Tensors of the wire as typed arrays. Bytes are little-endian, as this machine is; copied so that they are aligned. */
import { ElementType, type Tensor } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";

/** The elements of a float32 tensor with `count` of them. Throws RangeError naming `what` if it holds anything else. */
export function float32Of(tensor: Tensor | undefined, count: number, what: string): Float32Array {
  if (!tensor) throw new RangeError(`${what}: expected float32 [${count}], got nothing`);
  if (tensor.elementType !== ElementType.FLOAT32 || tensor.data.byteLength !== count * 4) {
    const type = ElementType[tensor.elementType] ?? tensor.elementType;
    throw new RangeError(
      `${what}: expected float32 [${count}], got ${type} [${tensor.shape.join(", ")}] in ${tensor.data.byteLength} bytes`,
    );
  }
  const floats = new Float32Array(count);
  new Uint8Array(floats.buffer).set(tensor.data);
  return floats;
}
