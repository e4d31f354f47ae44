/**
 * @file Reads event files back, written from the format's description alone and sharing nothing with the writer: a general
 * protobuf walk, and a checksum computed bit by bit. For tests.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One event as a reader sees it. */
export interface ReadEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly fileVersion?: string;
  /** Set where the event says that its session begins at `step`. */
  readonly restart: boolean;
  readonly values: ReadonlyMap<string, number>;
}

/** The events of one file. Throws on a wrong checksum; a record that a crash cut short ends the file. */
export function readEvents(path: string): ReadEvent[] {
  const file = readFileSync(path);
  const events: ReadEvent[] = [];
  for (let at = 0; at + 12 <= file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    verify(file.subarray(at, at + 8), file.readUInt32LE(at + 8), `${path}: length at ${at}`);
    if (at + 16 + length > file.length) break;
    const data = file.subarray(at + 12, at + 12 + length);
    verify(data, file.readUInt32LE(at + 12 + length), `${path}: data at ${at}`);
    events.push(eventOf(data));
    at += 16 + length;
  }
  return events;
}

/** Values by tag, then by step, of a folder as TensorBoard shows them: files in the order of their names, restarts heeded. */
export function readScalars(folder: string): Map<string, Map<number, number>> {
  const scalars = new Map<string, Map<number, number>>();
  for (const name of readdirSync(folder).sort()) {
    for (const event of readEvents(join(folder, name))) {
      if (event.restart) {
        for (const steps of scalars.values()) {
          for (const step of [...steps.keys()]) if (step >= event.step) steps.delete(step);
        }
      }
      for (const [tag, value] of event.values) {
        const steps = scalars.get(tag) ?? new Map<number, number>();
        if (steps.has(event.step)) throw new Error(`${name}: step ${event.step} of ${tag} stands twice`);
        scalars.set(tag, steps.set(event.step, value));
      }
    }
  }
  return scalars;
}

function eventOf(data: Buffer): ReadEvent {
  const fields = fieldsOf(data);
  const version = fields.find(({ field }) => field === 3)?.bytes;
  const summary = fields.find(({ field }) => field === 5)?.bytes;
  const session = fields.find(({ field }) => field === 7)?.bytes;
  const values = summary ? fieldsOf(summary).map(({ bytes }) => fieldsOf(bytes)) : [];
  return {
    wallTime: fields.find(({ field }) => field === 1)?.bytes.readDoubleLE() ?? 0,
    step: Number(fields.find(({ field }) => field === 2)?.integer ?? 0n),
    ...(version ? { fileVersion: version.toString() } : {}),
    restart:
      session !== undefined && fieldsOf(session).some(({ field, integer }) => field === 1 && integer === 1n),
    values: new Map(
      values.map((value) => [
        String(value.find(({ field }) => field === 1)?.bytes),
        value.find(({ field }) => field === 2)?.bytes.readFloatLE() ?? Number.NaN,
      ]),
    ),
  };
}

/** Every field of a protobuf message with its raw bytes, whatever the message is. */
function fieldsOf(message: Buffer): { field: number; integer: bigint; bytes: Buffer }[] {
  const fields: { field: number; integer: bigint; bytes: Buffer }[] = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = Number(varint());
    const wireType = tag & 7;
    const integer = wireType === 0 ? varint() : 0n;
    const size = { 0: 0, 1: 8, 2: -1, 5: 4 }[wireType];
    if (size === undefined) throw new Error(`wire type ${wireType} at ${at}`);
    const length = size < 0 ? Number(varint()) : size;
    fields.push({ field: tag >>> 3, integer, bytes: message.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

/** CRC-32C by polynomial division, most significant bit first on reversed bits: another road than the writer's table. */
function verify(data: Uint8Array, stored: number, where: string): void {
  let crc = 0xffffffffn;
  for (const byte of data) {
    crc ^= BigInt(reverse(byte, 8)) << 24n;
    for (let bit = 0; bit < 8; bit++) {
      crc = crc & 0x80000000n ? ((crc << 1n) ^ 0x1edc6f41n) & 0xffffffffn : (crc << 1n) & 0xffffffffn;
    }
  }
  const plain = reverse(Number(crc ^ 0xffffffffn), 32);
  const unmasked = (stored - 0xa282ead8) >>> 0;
  const expected = ((unmasked << 15) | (unmasked >>> 17)) >>> 0;
  if (plain !== expected) throw new Error(`${where}: wrong checksum`);
}

function reverse(value: number, bits: number): number {
  let reversed = 0;
  for (let bit = 0; bit < bits; bit++) reversed = (reversed * 2 + (Math.floor(value / 2 ** bit) % 2)) >>> 0;
  return reversed;
}
