/**
 * @file Safetensors files on disk: opened, checked and read tensor by tensor; written to a temporary name and
 * renamed.
 * In and out: bytes or float32 arrays, each on an ArrayBuffer of its own.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { DTYPE_BITS, isFloatDtype, ownFloat32, type SafetensorsDtype, widenInto } from "./dtypes.js";
import { CheckpointError, CheckpointWriteError } from "./errors.js";
import {
  encodeHeader,
  parseHeader,
  readHeaderLength,
  type SafetensorsHeader,
  type TensorInfo,
  type TensorOutline,
} from "./safetensors-header.js";

/** A tensor in memory: raw little-endian elements. `data` may be any typed array when writing. */
export interface HostTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array | Float32Array | Uint16Array | Int32Array | BigInt64Array | Float64Array;
}

/** Bytes asked of the file system at a time; a single read may not exceed 2 GiB. */
const READ_BYTES = 64 << 20;

/** Scratch for elements that are widened while they are read. */
const SCRATCH_BYTES = 4 << 20;

/** A safetensors file, open and checked; tensors are read on demand. */
export class SafetensorsFile {
  private constructor(
    readonly path: string,
    readonly header: SafetensorsHeader,
    private readonly handle: FileHandle,
  ) {}

  /** Opens `path` and checks its header against the file's size. Throws {@link CheckpointError}. */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openForReading(path);
    try {
      const { size } = await handle.stat();
      const prefix = new Uint8Array(8);
      await readFully(handle, prefix.subarray(0, Math.min(8, size)), 0, path);
      const json = new Uint8Array(readHeaderLength(prefix, size, path));
      await readFully(handle, json, 8, path);
      return new SafetensorsFile(path, parseHeader(json, size, path), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The raw bytes of a tensor, on an ArrayBuffer of their own. */
  async readBytes(info: TensorInfo): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(new ArrayBuffer(info.end - info.begin));
    await readFully(this.handle, bytes, this.header.dataStart + info.begin, this.path, info.name);
    return bytes;
  }

  /**
   * A tensor as float32, whatever float type it is stored in. Throws {@link CheckpointError} for other types.
   */
  async readFloat32(info: TensorInfo): Promise<Float32Array<ArrayBuffer>> {
    const { dtype, name, begin, end } = info;
    if (!isFloatDtype(dtype)) {
      const expected = "dtype F32, F16, BF16 or F64";
      throw new CheckpointError({ file: this.path, tensor: name, expected, found: dtype });
    }
    const width = DTYPE_BITS[dtype] / 8;
    const values = ownFloat32((end - begin) / width);
    const start = this.header.dataStart + begin;
    if (dtype === "F32") {
      await readFully(this.handle, new Uint8Array(values.buffer), start, this.path, name);
      return values;
    }
    const scratch = new Uint8Array(new ArrayBuffer(Math.min(SCRATCH_BYTES, end - begin)));
    for (let at = 0; at < end - begin; at += scratch.length) {
      const chunk = scratch.subarray(0, Math.min(scratch.length, end - begin - at));
      await readFully(this.handle, chunk, start + at, this.path, name);
      widenInto(values, at / width, dtype, chunk);
    }
    return values;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Reads a whole safetensors file. Throws {@link CheckpointError} when it is missing or damaged. */
export async function readSafetensors(
  path: string,
): Promise<{ tensors: Map<string, HostTensor>; metadata: Readonly<Record<string, string>> }> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, HostTensor>();
    for (const info of file.header.tensors.values()) {
      tensors.set(info.name, { dtype: info.dtype, shape: info.shape, data: await file.readBytes(info) });
    }
    return { tensors, metadata: file.header.metadata };
  } finally {
    await file.close();
  }
}

/**
 * Writes a safetensors file as Hugging Face's own writer would: `{"format":"pt"}` beside the given metadata.
 * The bytes go to a temporary name beside `path`, are synced, and then renamed, so `path` is whole or
 * untouched.
 * Throws {@link CheckpointWriteError}, and RangeError for a tensor whose data does not fit its shape.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
  const { bytes, tensors: order } = encodeHeader(tensors, { format: "pt", ...metadata });
  for (const { name, begin, end } of order) {
    const found = tensors.get(name)!.data.byteLength;
    if (found !== end - begin) {
      throw new RangeError(`tensor ${name}: expected ${end - begin} bytes for its shape, got ${found}`);
    }
  }
  try {
    const handle = await open(temporary, "wx");
    try {
      await writeFully(handle, bytes);
      for (const { name } of order) {
        const { data } = tensors.get(name)!;
        await writeFully(handle, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}); // the first failure is the one to report
    throw new CheckpointWriteError(path, error);
  }
}

/**
 * The bytes of a whole safetensors file, parsed in memory; tensors are views into `bytes`. Throws {@link
 * CheckpointError}.
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  file = "safetensors",
): {
  tensors: Map<string, TensorOutline & { data: Uint8Array }>;
  metadata: Readonly<Record<string, string>>;
} {
  const length = readHeaderLength(bytes.subarray(0, 8), bytes.length, file);
  const header = parseHeader(bytes.subarray(8, 8 + length), bytes.length, file);
  const tensors = new Map<string, TensorOutline & { data: Uint8Array }>();
  for (const { name, dtype, shape, begin, end } of header.tensors.values()) {
    const data = bytes.subarray(header.dataStart + begin, header.dataStart + end);
    tensors.set(name, { dtype, shape, data });
  }
  return { tensors, metadata: header.metadata };
}

/** Flushes a folder's entries, so that a rename in it survives a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Opens a file for reading. Throws {@link CheckpointError} when it is missing, unreadable or a directory. */
export async function openForReading(path: string): Promise<FileHandle> {
  const expected = "a readable file";
  let handle: FileHandle;
  try {
    handle = await open(path, "r");
  } catch (cause) {
    const found = (cause as NodeJS.ErrnoException).code === "ENOENT" ? "no such file" : String(cause);
    throw new CheckpointError({ file: path, expected, found }, { cause });
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new CheckpointError({ file: path, expected, found: "something that is no file" });
}

async function readFully(
  handle: FileHandle,
  into: Uint8Array,
  position: number,
  file: string,
  tensor?: string,
): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(READ_BYTES, into.length - done);
    const { bytesRead } = await handle.read(into, done, length, position + done);
    if (bytesRead === 0) {
      const expected = `${into.length} bytes at offset ${position}`;
      throw new CheckpointError({ file, tensor, expected, found: `the end of the file after ${done}` });
    }
    done += bytesRead;
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(READ_BYTES, bytes.length - done));
    done += bytesWritten;
  }
}
