/**
 * @file `pytorch_model.bin`: a ZIP of raw storages and a pickle that says which tensor lies where.
 * In: the file. Out: float32 arrays. The pickle is interpreted by a reader that can run no code (pickle.ts).
 */
import type { FileHandle } from "node:fs/promises";
import { DTYPE_BITS, isFloatDtype, ownFloat32, type SafetensorsDtype, widenInto } from "./dtypes.js";
import { CheckpointError } from "./errors.js";
import { type PickledTensor, PickleError, readTensorPickle } from "./pickle.js";
import { openForReading } from "./safetensors.js";
import { readZipMembers, type ZipMember } from "./zip.js";

/** Limit on data.pkl; that of a large model has a few hundred kilobytes. */
const MAX_PICKLE_BYTES = 64 << 20;

/** A PyTorch checkpoint file, open and checked; tensors are read on demand. */
export class TorchFile {
  /** PyTorch files carry no metadata of ours. */
  readonly metadata: Readonly<Record<string, string>> = {};

  private constructor(
    readonly path: string,
    readonly shapes: ReadonlyMap<
      string,
      { readonly shape: readonly number[]; readonly dtype: SafetensorsDtype }
    >,
    private readonly tensors: ReadonlyMap<string, PickledTensor>,
    private readonly storages: ReadonlyMap<string, ZipMember>,
    private readonly handle: FileHandle,
  ) {}

  /**
   * Opens `path`. Throws {@link CheckpointError} when it is damaged, older than PyTorch 1.6, or asks for code
   * to run.
   */
  static async open(path: string): Promise<TorchFile> {
    const handle = await openForReading(path);
    try {
      await refuseOldFormat(handle, path);
      const members = await readZipMembers(handle, path);
      const root = [...members.keys()]
        .find((name) => /^[^/]+\/data\.pkl$/.test(name))
        ?.slice(0, -"data.pkl".length);
      if (root === undefined)
        throw new CheckpointError({ file: path, expected: "a member data.pkl", found: "none" });
      const order = members.get(`${root}byteorder`);
      if (order && (await readMember(handle, order, 16, path)).toString() !== "little") {
        throw new CheckpointError({ file: path, expected: "byte order little", found: "another" });
      }
      const pickle = await readMember(handle, members.get(`${root}data.pkl`)!, MAX_PICKLE_BYTES, path);
      const tensors = parsePickle(pickle, path);
      const storages = new Map<string, ZipMember>();
      for (const [name, tensor] of tensors) {
        const member = members.get(`${root}data/${tensor.key}`);
        checkTensor(name, tensor, member, path);
        storages.set(tensor.key, member!);
      }
      return new TorchFile(path, tensors, tensors, storages, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * A tensor as float32, gathered by its strides. Throws {@link CheckpointError} for types that are no
   * floats.
   */
  async readFloat32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.tensors.get(name)!;
    const { dtype, shape, stride, offset } = tensor;
    if (!isFloatDtype(dtype)) {
      const expected = "float, half, bfloat16 or double";
      throw new CheckpointError({ file: this.path, tensor: name, expected, found: dtype });
    }
    const width = DTYPE_BITS[dtype] / 8;
    const member = this.storages.get(tensor.key)!;
    const span = spanOf(tensor);
    const bytes = new Uint8Array(new ArrayBuffer(span * width));
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await this.handle.read(
        bytes,
        done,
        Math.min(64 << 20, bytes.length - done),
        member.offset + offset * width + done,
      );
      if (bytesRead === 0) {
        throw new CheckpointError({
          file: this.path,
          tensor: name,
          expected: `${bytes.length} bytes`,
          found: `${done}`,
        });
      }
      done += bytesRead;
    }
    if (isContiguous(shape, stride) && dtype === "F32") return new Float32Array(bytes.buffer);
    const flat = ownFloat32(span);
    widenInto(flat, 0, dtype, bytes);
    return isContiguous(shape, stride) ? flat : gather(flat, shape, stride);
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.handle.close();
  }
}

async function refuseOldFormat(handle: FileHandle, path: string): Promise<void> {
  const start = Buffer.alloc(2);
  await handle.read(start, 0, 2, 0);
  if (start.toString("latin1") !== "PK") {
    throw new CheckpointError({
      file: path,
      expected: "a ZIP archive as PyTorch 1.6 and later write it",
      found: "another format; load it with PyTorch and save it again, best as safetensors",
    });
  }
}

async function readMember(
  handle: FileHandle,
  { offset, size }: ZipMember,
  limit: number,
  path: string,
): Promise<Buffer> {
  if (size > limit) {
    throw new CheckpointError({
      file: path,
      expected: `a member of at most ${limit} bytes`,
      found: `${size}`,
    });
  }
  const bytes = Buffer.alloc(size);
  const { bytesRead } = await handle.read(bytes, 0, size, offset);
  if (bytesRead !== size)
    throw new CheckpointError({ file: path, expected: `${size} bytes`, found: `${bytesRead}` });
  return bytes;
}

function parsePickle(bytes: Buffer, path: string): Map<string, PickledTensor> {
  try {
    return readTensorPickle(bytes);
  } catch (cause) {
    if (!(cause instanceof PickleError)) throw cause;
    const expected = "data.pkl to hold a dictionary of tensors";
    throw new CheckpointError({ file: path, expected, found: cause.message }, { cause });
  }
}

function checkTensor(name: string, tensor: PickledTensor, member: ZipMember | undefined, path: string): void {
  const fault = (expected: string, found: string) =>
    new CheckpointError({ file: path, tensor: name, expected, found });
  if (member === undefined) throw fault(`a storage data/${tensor.key}`, "no such member");
  const bytes = (tensor.storageElements * DTYPE_BITS[tensor.dtype]) / 8;
  if (member.size !== bytes) throw fault(`a storage of ${bytes} bytes`, `${member.size}`);
  const elements = tensor.shape.reduce((product, size) => product * size, 1);
  if (elements > tensor.storageElements || tensor.offset + spanOf(tensor) > tensor.storageElements) {
    throw fault(
      `a tensor within its storage of ${tensor.storageElements} elements`,
      `shape [${tensor.shape}]`,
    );
  }
}

/** Elements from the first to the last that a tensor touches, both included. */
function spanOf({ shape, stride }: PickledTensor): number {
  if (shape.includes(0)) return 0;
  return 1 + shape.reduce((sum, size, axis) => sum + (size - 1) * stride[axis]!, 0);
}

function isContiguous(shape: readonly number[], stride: readonly number[]): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== step) return shape.includes(0);
    step *= shape[axis]!;
  }
  return true;
}

function gather(
  flat: Float32Array,
  shape: readonly number[],
  stride: readonly number[],
): Float32Array<ArrayBuffer> {
  const out = ownFloat32(shape.reduce((product, size) => product * size, 1));
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = flat[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += stride[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= stride[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}
