/**
 * @file The three events that we write, in the wire format of tensorflow.Event (tensorflow/core/util/event.proto):
 * wall_time = 1, step = 2, file_version = 3, summary = 5 (value = 1: tag = 1, simple_value = 2), session_log = 7 (status = 1). Pure.
 */

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
/** tensorflow.SessionLog.START. */
const START = 1;

/** First event of every file. TensorBoard heeds restarts from version 2 on. */
export function versionEvent(wallSeconds: number): Buffer {
  return Buffer.concat([double(1, wallSeconds), bytes(3, Buffer.from("brain.Event:2"))]);
}

/** A restart: whatever an earlier file says of `step` and later steps no longer counts. */
export function restartEvent(wallSeconds: number, step: number): Buffer {
  return Buffer.concat([double(1, wallSeconds), varint(2, step), bytes(7, varint(1, START))]);
}

/** The scalars of one step, as float32. */
export function scalarsEvent(
  wallSeconds: number,
  step: number,
  values: Readonly<Record<string, number>>,
): Buffer {
  const summary = Object.entries(values).map(([tag, value]) =>
    bytes(1, Buffer.concat([bytes(1, Buffer.from(tag)), float(2, value)])),
  );
  return Buffer.concat([double(1, wallSeconds), varint(2, step), bytes(5, Buffer.concat(summary))]);
}

const key = (field: number, wireType: number) => Buffer.from([(field << 3) | wireType]);

function double(field: number, value: number): Buffer {
  const body = Buffer.alloc(8);
  body.writeDoubleLE(value);
  return Buffer.concat([key(field, FIXED64), body]);
}

function float(field: number, value: number): Buffer {
  const body = Buffer.alloc(4);
  body.writeFloatLE(value);
  return Buffer.concat([key(field, FIXED32), body]);
}

function varint(field: number, value: number): Buffer {
  return Buffer.concat([key(field, VARINT), number(value)]);
}

function bytes(field: number, body: Uint8Array): Buffer {
  return Buffer.concat([key(field, BYTES), number(body.length), body]);
}

/** A non-negative integer in base 128, least significant group first. */
function number(value: number): Buffer {
  const groups: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) groups.push((rest % 0x80) | 0x80);
  return Buffer.from([...groups, rest]);
}
