/**
 * @file The directory of a ZIP file whose members are stored, not compressed: how PyTorch wraps its
 * checkpoints.
 * Out: where each member's bytes lie. ZIP64 fields are read; everything is checked against the file's size.
 */
import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "./errors.js";

/** Place of a member's bytes in the file. */
export interface ZipMember {
  readonly offset: number;
  readonly size: number;
}

const END_SIGNATURE = 0x06054b50;
const END64_SIGNATURE = 0x06064b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;

/** Limit on the central directory: a checkpoint has a few hundred members of about a hundred bytes. */
const MAX_DIRECTORY_BYTES = 64 << 20;

/** Reads the members of the ZIP file open in `handle`. Throws {@link CheckpointError}. */
export async function readZipMembers(handle: FileHandle, file: string): Promise<Map<string, ZipMember>> {
  const { size } = await handle.stat();
  const bad = (expected: string, found: string) => new CheckpointError({ file, expected, found });
  const read = async (offset: number, length: number, what: string): Promise<Buffer> => {
    if (offset < 0 || length < 0 || offset + length > size) {
      throw bad(`${what} within the file's ${size} bytes`, `bytes ${offset} to ${offset + length}`);
    }
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await handle.read(bytes, 0, length, offset);
    if (bytesRead !== length) throw bad(`${length} bytes of ${what}`, `${bytesRead}`);
    return bytes;
  };
  const tailStart = Math.max(0, size - 65_557);
  const tail = await read(tailStart, size - tailStart, "the end of the archive");
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== END_SIGNATURE) end--;
  if (end < 0) throw bad("a ZIP archive (saved by PyTorch 1.6 or later)", "no end-of-directory record");
  let directorySize = tail.readUInt32LE(end + 12);
  let directoryStart = tail.readUInt32LE(end + 16);
  if (end >= 20 && tail.readUInt32LE(end - 20) === 0x07064b50) {
    const end64 = await read(Number(tail.readBigUInt64LE(end - 12)), 56, "the ZIP64 record");
    if (end64.readUInt32LE(0) !== END64_SIGNATURE) throw bad("a ZIP64 record", "another signature");
    directorySize = Number(end64.readBigUInt64LE(40));
    directoryStart = Number(end64.readBigUInt64LE(48));
  }
  if (directorySize > MAX_DIRECTORY_BYTES) {
    throw bad(`a directory of at most ${MAX_DIRECTORY_BYTES} bytes`, `${directorySize}`);
  }
  const directory = await read(directoryStart, directorySize, "the directory");
  const members = new Map<string, ZipMember>();
  for (let at = 0; at < directory.length; ) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== ENTRY_SIGNATURE) {
      throw bad("a directory entry", `something else at byte ${directoryStart + at}`);
    }
    const method = directory.readUInt16LE(at + 10);
    const nameLength = directory.readUInt16LE(at + 28);
    const extraLength = directory.readUInt16LE(at + 30);
    const next = at + 46 + nameLength + extraLength + directory.readUInt16LE(at + 32);
    if (next > directory.length) throw bad("a whole directory entry", "its end is missing");
    const name = directory.toString("utf8", at + 46, at + 46 + nameLength);
    const sizes = entrySizes(directory, at, directory.subarray(at + 46 + nameLength, next));
    if (method !== 0) throw bad(`member ${name} stored without compression`, `method ${method}`);
    if (members.has(name)) throw bad("each member once", `${name} twice`);
    const local = await read(sizes.localOffset, 30, `the header of ${name}`);
    if (local.readUInt32LE(0) !== LOCAL_SIGNATURE) throw bad(`the header of ${name}`, "another signature");
    const offset = sizes.localOffset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
    if (offset + sizes.size > size) {
      throw bad(`member ${name} within the file's ${size} bytes`, `its end at ${offset + sizes.size}`);
    }
    members.set(name, { offset, size: sizes.size });
    at = next;
  }
  return members;
}

/** Size and place of an entry; the ZIP64 extra field holds, in this order, those that do not fit 32 bits. */
function entrySizes(directory: Buffer, at: number, extra: Buffer): { size: number; localOffset: number } {
  const wide: number[] = [];
  for (let i = 0; i + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(i + 2);
    if (extra.readUInt16LE(i) === 1) {
      for (let j = i + 4; j + 8 <= Math.min(i + 4 + length, extra.length); j += 8) {
        wide.push(Number(extra.readBigUInt64LE(j)));
      }
    }
    i += 4 + length;
  }
  const field = (offset: number) => {
    const narrow = directory.readUInt32LE(at + offset);
    return narrow === 0xffffffff && wide.length > 0 ? wide.shift()! : narrow;
  };
  const size = field(24); // uncompressed, first in the extra field
  field(20); // compressed: the same for stored members
  return { size, localOffset: field(42) };
}
