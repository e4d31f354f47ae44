/**
 * @file The content digest of a set of float32 tensors: the same for equal weights, whatever file they came
 * from.
 *
 * SHA-256 over, for each tensor in ascending order of the name's UTF-8 bytes: the name's length in bytes
 * (u32), the
 * name, the rank (u32), each size (u64), then the elements; every number little-endian, preceded once by the
 * 16 bytes
 * `rlhf-weights-v1\n`.
 */
import { createHash, type Hash } from "node:crypto";
import { BREATH_BYTES, Breather } from "./breather.js";

/** A float32 tensor with its shape. */
export interface Float32Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Names in the order in which the digest takes them. */
export function digestOrder(names: Iterable<string>): string[] {
  return [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** Builds a digest tensor by tensor; the caller adds them in {@link digestOrder}. */
export class WeightsHasher {
  private readonly hash: Hash = createHash("sha256").update("rlhf-weights-v1\n");
  private readonly breather = new Breather();

  /** Adds one tensor, letting other work run in between. Throws RangeError when data and shape disagree. */
  async add(name: string, { shape, data }: Float32Tensor): Promise<void> {
    const bytes = this.addOutline(name, shape, data);
    for (let at = 0; at < bytes.length; at += BREATH_BYTES) {
      const piece = bytes.subarray(at, at + BREATH_BYTES);
      this.hash.update(piece);
      await this.breather.after(piece.length);
    }
  }

  /** The digest, lower-case hex; nothing can be added afterwards. */
  hex(): string {
    return this.hash.digest("hex");
  }

  private addOutline(name: string, shape: readonly number[], data: Float32Array): Uint8Array {
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements !== data.length) {
      throw new RangeError(`${name}: expected ${elements} elements for [${shape}], got ${data.length}`);
    }
    const utf8 = Buffer.from(name);
    const outline = Buffer.alloc(8 + utf8.length + 8 * shape.length);
    let at = outline.writeUInt32LE(utf8.length, 0);
    at += utf8.copy(outline, at);
    at = outline.writeUInt32LE(shape.length, at);
    for (const size of shape) at = outline.writeBigUInt64LE(BigInt(size), at);
    this.hash.update(outline);
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** Digest of the tensors, lower-case hex (64 characters). About 1.5 GB/s on the calling thread, letting other work run in between. */
export async function weightsDigest(tensors: ReadonlyMap<string, Float32Tensor>): Promise<string> {
  const hasher = new WeightsHasher();
  for (const name of digestOrder(tensors.keys())) await hasher.add(name, tensors.get(name)!);
  return hasher.hex();
}
