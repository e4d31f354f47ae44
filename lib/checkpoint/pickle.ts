/**
 * @file Reads the one kind of pickle that PyTorch puts into a checkpoint: a dictionary of tensors.
 * Nothing is executed. Opcodes and globals outside a short list are refused, so a hostile file can only fail.
 */
import type { SafetensorsDtype } from "./dtypes.js";

/** Storage classes and their element types. */
const STORAGE_DTYPES: Readonly<Record<string, SafetensorsDtype>> = {
  "torch FloatStorage": "F32",
  "torch HalfStorage": "F16",
  "torch BFloat16Storage": "BF16",
  "torch DoubleStorage": "F64",
  "torch LongStorage": "I64",
  "torch IntStorage": "I32",
  "torch ShortStorage": "I16",
  "torch CharStorage": "I8",
  "torch ByteStorage": "U8",
  "torch BoolStorage": "BOOL",
};

const REBUILD = "torch._utils _rebuild_tensor_v2";
const ORDERED_DICT = "collections OrderedDict";

/** A tensor as the pickle describes it; offset and strides count elements of the storage. */
export interface PickledTensor {
  readonly dtype: SafetensorsDtype;
  /** Name of the member that holds the storage: `data/<key>`. */
  readonly key: string;
  readonly storageElements: number;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
}

class Global {
  constructor(readonly name: string) {}
}
class Storage {
  constructor(
    readonly dtype: SafetensorsDtype,
    readonly key: string,
    readonly elements: number,
  ) {}
}
class Tensor {
  constructor(readonly value: PickledTensor) {}
}
const MARK = Symbol("mark");

/** A pickle that is damaged, or that would need code to be run. */
export class PickleError extends Error {
  readonly code = "PICKLE_REFUSED";
}

/**
 * Tensors by name out of `data.pkl`. Throws {@link PickleError}. Entries that are no tensors are left out.
 */
export function readTensorPickle(bytes: Uint8Array): Map<string, PickledTensor> {
  const root = new Unpickler(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).run();
  if (!(root instanceof Map)) throw new PickleError("expected a dictionary of tensors");
  const tensors = new Map<string, PickledTensor>();
  for (const [name, value] of root) {
    if (typeof name === "string" && value instanceof Tensor) tensors.set(name, value.value);
  }
  return tensors;
}

class Unpickler {
  private at = 0;
  private readonly stack: unknown[] = [];
  private readonly memo = new Map<number, unknown>();

  constructor(private readonly bytes: Buffer) {}

  run(): unknown {
    for (;;) {
      const opcode = this.take(1)[0]!;
      if (opcode === 0x2e) return this.pop(); // STOP
      this.step(opcode);
    }
  }

  private step(opcode: number): void {
    const { stack } = this;
    switch (opcode) {
      case 0x80: // PROTO
        if (this.take(1)[0]! > 4) throw new PickleError("pickle protocol over 4");
        return;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        return;
      case 0x29: // EMPTY_TUPLE
        stack.push([]);
        return;
      case 0x28:
        stack.push(MARK);
        return;
      case 0x58: // BINUNICODE
        stack.push(this.text(this.take(4).readUInt32LE(0)));
        return;
      case 0x63: // GLOBAL
        stack.push(this.global());
        return;
      case 0x4b: // BININT1
        stack.push(this.take(1)[0]);
        return;
      case 0x4d: // BININT2
        stack.push(this.take(2).readUInt16LE(0));
        return;
      case 0x4a: // BININT
        stack.push(this.take(4).readInt32LE(0));
        return;
      case 0x8a: // LONG1
        stack.push(this.long(this.take(1)[0]!));
        return;
      case 0x4e: // NONE
        stack.push(undefined);
        return;
      case 0x88: // NEWTRUE
        stack.push(true);
        return;
      case 0x89: // NEWFALSE
        stack.push(false);
        return;
      case 0x74: // TUPLE
        stack.push(this.popToMark());
        return;
      case 0x85:
      case 0x86:
      case 0x87: // TUPLE1 to TUPLE3
        stack.push(this.popMany(opcode - 0x84));
        return;
      case 0x71: // BINPUT
        this.memo.set(this.take(1)[0]!, this.top());
        return;
      case 0x72: // LONG_BINPUT
        this.memo.set(this.take(4).readUInt32LE(0), this.top());
        return;
      case 0x68: // BINGET
        stack.push(this.recall(this.take(1)[0]!));
        return;
      case 0x6a: // LONG_BINGET
        stack.push(this.recall(this.take(4).readUInt32LE(0)));
        return;
      case 0x51: // BINPERSID
        stack.push(toStorage(this.pop()));
        return;
      case 0x52: // REDUCE
        stack.push(...reduce(this.popMany(2)));
        return;
      case 0x73: // SETITEM
        this.setItems(this.popMany(2));
        return;
      case 0x75: // SETITEMS
        this.setItems(this.popToMark());
        return;
      case 0x62: // BUILD: attributes of an OrderedDict (its _metadata), which we do not need
        this.pop();
        if (!(this.top() instanceof Map)) throw new PickleError("state for something that is no dictionary");
        return;
      default:
        throw new PickleError(`opcode 0x${opcode.toString(16)}, which a state dictionary does not need`);
    }
  }

  private take(length: number): Buffer {
    if (this.at + length > this.bytes.length) throw new PickleError("the pickle ends too early");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  private text(length: number): string {
    return this.take(length).toString("utf8");
  }

  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0) throw new PickleError("the pickle ends too early");
    const line = this.text(end - this.at);
    this.at = end + 1;
    return line;
  }

  private global(): Global {
    const name = `${this.line()} ${this.line()}`;
    if (name !== REBUILD && name !== ORDERED_DICT && !Object.hasOwn(STORAGE_DTYPES, name)) {
      throw new PickleError(`global ${name.replace(" ", ".").slice(0, 100)}, which is not allowed`);
    }
    return new Global(name);
  }

  private long(length: number): number {
    let value = 0n;
    const bytes = this.take(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    return Number(BigInt.asIntN(8 * length, value));
  }

  private pop(): unknown {
    if (this.stack.length === 0) throw new PickleError("an empty stack");
    return this.stack.pop();
  }

  private top(): unknown {
    if (this.stack.length === 0) throw new PickleError("an empty stack");
    return this.stack.at(-1);
  }

  private popMany(count: number): unknown[] {
    if (this.stack.length < count) throw new PickleError("an empty stack");
    return this.stack.splice(this.stack.length - count);
  }

  private popToMark(): unknown[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw new PickleError("a mark that is missing");
    return this.stack.splice(mark).slice(1);
  }

  private recall(slot: number): unknown {
    if (!this.memo.has(slot)) throw new PickleError(`memo slot ${slot}, which is empty`);
    return this.memo.get(slot);
  }

  private setItems(items: unknown[]): void {
    const target = this.top();
    if (!(target instanceof Map)) throw new PickleError("items for something that is no dictionary");
    if (items.length % 2 !== 0) throw new PickleError("a key without a value");
    for (let i = 0; i < items.length; i += 2) {
      if (typeof items[i] === "string" && target.has(items[i])) throw new PickleError(`${items[i]} twice`);
      target.set(items[i], items[i + 1]);
    }
  }
}

/** `('storage', class, key, location, elements)` */
function toStorage(id: unknown): Storage {
  const [tag, type, key, , elements] = Array.isArray(id) ? id : [];
  const dtype = type instanceof Global ? STORAGE_DTYPES[type.name] : undefined;
  if (tag !== "storage" || dtype === undefined || typeof key !== "string" || !isCount(elements)) {
    throw new PickleError("a persistent id that is no storage");
  }
  return new Storage(dtype, key, elements);
}

/** Calls the two functions there are: an empty OrderedDict, and a tensor over a storage. */
function reduce([callable, args]: unknown[]): unknown[] {
  if (!(callable instanceof Global) || !Array.isArray(args))
    throw new PickleError("a call of something unknown");
  if (callable.name === ORDERED_DICT) {
    if (args.length > 0) throw new PickleError("an OrderedDict with arguments");
    return [new Map()];
  }
  const [storage, offset, shape, stride] = args;
  if (callable.name !== REBUILD || !(storage instanceof Storage))
    throw new PickleError("a tensor without a storage");
  if (!isCount(offset) || !isCounts(shape) || !isCounts(stride) || shape.length !== stride.length) {
    throw new PickleError("a tensor whose offset, shape or strides are no counts");
  }
  const { dtype, key, elements } = storage;
  return [new Tensor({ dtype, key, storageElements: elements, offset, shape, stride })];
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}
