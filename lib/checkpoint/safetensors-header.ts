/**
 * @file The header of a safetensors file, checked on the way in and canonical on the way out. Pure: no I/O.
 * Format: 8 bytes header length N (u64, little-endian), N bytes of JSON, then the tensors without a gap
 * (github.com/huggingface/safetensors).
 */
import { DTYPE_BITS, DTYPE_RANK, isDtype, type SafetensorsDtype } from "./dtypes.js";
import { CheckpointError } from "./errors.js";

/** The format's own limit on the header, in bytes. */
const MAX_HEADER_BYTES = 100_000_000;

/** One tensor of a file: its type, shape and place. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the data section. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

/** A checked header. */
export interface SafetensorsHeader {
  /** Tensors in the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the data section begins: 8 + N. */
  readonly dataStart: number;
}

/**
 * Header length N out of the first 8 bytes of a file of `fileBytes` bytes.
 * Throws {@link CheckpointError} when the file is shorter than 8 + N or N is over the format's limit.
 */
export function readHeaderLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (fileBytes < 8 || prefix.length < 8) {
    throw new CheckpointError({ file, expected: "at least 8 bytes", found: `${fileBytes} bytes` });
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new CheckpointError({
      file,
      expected: `a header length of at most ${MAX_HEADER_BYTES} bytes`,
      found: `${length}`,
    });
  }
  if (8 + Number(length) > fileBytes) {
    throw new CheckpointError({
      file,
      expected: `a header of ${length} bytes within the file`,
      found: `a file of ${fileBytes} bytes`,
    });
  }
  return Number(length);
}

/**
 * Parses and checks the JSON of a header: names unique, types known, offsets inside the file, neither
 * overlapping
 * nor leaving a gap, sizes as shape and type say, last tensor ending where the file ends.
 * `json` are the N bytes after the length; `fileBytes` the size of the whole file. Throws {@link
 * CheckpointError}.
 */
export function parseHeader(json: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  const entries = parseEntries(json, file);
  let metadata: Record<string, string> = {};
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(entries)) {
    if (name === "__metadata__") metadata = checkMetadata(entry, file);
    else tensors.push(checkEntry(name, entry, file));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const dataStart = 8 + json.length;
  let end = 0;
  for (const tensor of tensors) {
    if (tensor.begin !== end) {
      const what = tensor.begin < end ? "overlaps the tensor before it" : "leaves a gap before it";
      throw new CheckpointError({
        file,
        tensor: tensor.name,
        expected: `data at offset ${end}`,
        found: `offset ${tensor.begin}, which ${what}`,
      });
    }
    end = tensor.end;
  }
  if (dataStart + end !== fileBytes) {
    const last = tensors.at(-1)?.name;
    throw new CheckpointError({
      file,
      tensor: dataStart + end > fileBytes ? last : undefined,
      expected: `a file of ${dataStart + end} bytes`,
      found: `${fileBytes} bytes (${dataStart + end > fileBytes ? "truncated" : "trailing bytes"})`,
    });
  }
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata, dataStart };
}

/** One tensor to be written. */
export interface TensorOutline {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

/**
 * The canonical header of a file: metadata first, tensors by descending type class and then by name, JSON
 * padded with
 * spaces so that the data begins on a multiple of 8. Out: length prefix and JSON, and the tensors with their
 * places.
 */
export function encodeHeader(
  outlines: ReadonlyMap<string, TensorOutline>,
  metadata: Readonly<Record<string, string>>,
): { bytes: Uint8Array<ArrayBuffer>; tensors: TensorInfo[] } {
  const names = [...outlines.keys()].sort((a, b) => {
    const rank = DTYPE_RANK.get(outlines.get(b)!.dtype)! - DTYPE_RANK.get(outlines.get(a)!.dtype)!;
    return rank || Buffer.compare(Buffer.from(a), Buffer.from(b));
  });
  const json: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) json.push(["__metadata__", metadata]);
  const tensors: TensorInfo[] = [];
  let offset = 0;
  for (const name of names) {
    if (name === "__metadata__") throw new RangeError("a tensor cannot be named __metadata__");
    const { dtype, shape } = outlines.get(name)!;
    const size = byteSize(dtype, shape);
    if (size === undefined)
      throw new RangeError(`tensor ${name}: ${dtype} [${shape}] is not a size in bytes`);
    tensors.push({ name, dtype, shape, begin: offset, end: offset + size });
    json.push([name, { dtype, shape, data_offsets: [offset, offset + size] }]);
    offset += size;
  }
  // built by hand: a name such as "7" must not be moved to the front, as an object's integer keys are
  const body = json.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const text = Buffer.from(`{${body.join(",")}}`);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) throw new RangeError(`header of ${length} bytes, limit ${MAX_HEADER_BYTES}`);
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  return { bytes, tensors };
}

/** Bytes of a tensor; undefined when the count overflows 2^53 or is not a whole number of bytes. */
function byteSize(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (!Number.isSafeInteger(elements)) return undefined;
  }
  const bits = elements * DTYPE_BITS[dtype];
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : undefined;
}

function parseEntries(json: Uint8Array, file: string): Record<string, unknown> {
  const expected = "a header of valid JSON";
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
  } catch (cause) {
    throw new CheckpointError({ file, expected, found: "bytes that are not UTF-8" }, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError({ file, expected, found: why.slice(0, 200) }, { cause });
  }
  if (!isObject(value))
    throw new CheckpointError({ file, expected: "a header object", found: kindOf(value) });
  const twice = findDuplicateKey(text);
  if (twice !== undefined) {
    throw new CheckpointError({ file, tensor: twice, expected: "each name once", found: "the name twice" });
  }
  return value;
}

function checkMetadata(value: unknown, file: string): Record<string, string> {
  const bad = isObject(value)
    ? Object.entries(value).find(([, entry]) => typeof entry !== "string")
    : undefined;
  if (!isObject(value) || bad) {
    throw new CheckpointError({
      file,
      expected: "__metadata__ to map strings to strings",
      found: bad ? `${kindOf(bad[1])} at ${JSON.stringify(bad[0])}` : kindOf(value),
    });
  }
  return value as Record<string, string>;
}

function checkEntry(name: string, entry: unknown, file: string): TensorInfo {
  const fail = (expected: string, found: string): never => {
    throw new CheckpointError({ file, tensor: name, expected, found });
  };
  if (!isObject(entry)) return fail("an object with dtype, shape and data_offsets", kindOf(entry));
  const extra = Object.keys(entry).find((key) => !["dtype", "shape", "data_offsets"].includes(key));
  if (extra !== undefined) return fail("only dtype, shape and data_offsets", JSON.stringify(extra));
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) return fail(`a dtype of ${Object.keys(DTYPE_BITS).join(", ")}`, clip(dtype));
  if (!isSizes(shape)) return fail("a shape of whole numbers", clip(shape));
  if (!isSizes(offsets) || offsets.length !== 2) return fail("data_offsets [begin, end]", clip(offsets));
  const [begin, end] = offsets as [number, number];
  if (end < begin) return fail("data_offsets with end >= begin", clip(offsets));
  const size = byteSize(dtype, shape);
  if (size === undefined) return fail("a size that is a number of bytes", `${dtype} ${clip(shape)}`);
  if (end - begin !== size) {
    return fail(`${size} bytes for ${dtype} ${clip(shape)}`, `${end - begin} bytes at ${clip(offsets)}`);
  }
  return { name, dtype, shape, begin, end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function clip(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/**
 * First key that an object of the two outer levels holds twice, which JSON.parse would silently drop.
 * `text` must be valid JSON.
 */
function findDuplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // keys so far of each open object; nothing for arrays and deep objects
  let outer = ""; // the outer key whose value we are in
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
      const keys = open.at(-1);
      if (!keyNext || keys === undefined) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return open.length === 1 ? key : `${outer} (${key})`;
      keys.add(key);
      if (open.length === 1) outer = key;
      keyNext = false;
    } else if (char === "{" || char === "[") {
      open.push(char === "{" && open.length < 2 ? new Set() : undefined);
      keyNext = true;
    } else if (char === "}" || char === "]") {
      open.pop();
      keyNext = false;
    } else if (char === ",") {
      keyNext = true;
    }
  }
  return undefined;
}
