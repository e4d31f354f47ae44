/** @file Bytes for a gRPC port that no client would send: noise, broken HTTP/2, and sound HTTP/2 with a few bytes changed. */
import { connect } from "node:net";
import fc from "fast-check";
import { frameOf } from "./grpc-wire.js";
import { mutated } from "./random-messages.js";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const TYPES = { data: 0, headers: 1, settings: 4 };
const END_STREAM = 1;
const END_HEADERS = 4;

function http2Frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([head, payload]);
}

/** Header fields as HPACK literals that are not indexed. */
function hpack(fields: readonly [string, string][]): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** A whole session: a call of a method with an empty message, as any client makes it. */
function soundSession(path: string): Buffer {
  const headers = hpack([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ["grpc-timeout", "200m"],
  ]);
  return Buffer.concat([
    PREFACE,
    http2Frame(TYPES.settings, 0, 0, new Uint8Array()),
    http2Frame(TYPES.headers, END_HEADERS, 1, headers),
    http2Frame(TYPES.data, END_STREAM, 1, frameOf(new Uint8Array())),
  ]);
}

/** What is sent on one connection. `path` is a method of the server. */
export function garbage(path: string): fc.Arbitrary<Buffer> {
  const noise = fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes));
  const frame = fc
    .record({
      type: fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), fc.nat(255)),
      flags: fc.nat(255),
      stream: fc.oneof(fc.constantFrom(0, 1, 2, 3, 2 ** 31 - 1, 2 ** 32 - 1), fc.nat(20)),
      payload: fc.uint8Array({ maxLength: 60 }),
    })
    .map(({ type, flags, stream, payload }) => http2Frame(type, flags, stream, payload));
  const frames = fc
    .array(frame, { minLength: 1, maxLength: 12 })
    .map((all) => Buffer.concat([PREFACE, http2Frame(TYPES.settings, 0, 0, new Uint8Array()), ...all]));
  const session = soundSession(path);
  const nearly = mutated(fc.constant(session)).map((bytes) => Buffer.from(bytes));
  const cut = fc.nat(session.length).map((at) => session.subarray(0, at));
  return fc.oneof(noise, frames, frames, nearly, nearly, cut);
}

/** Sends bytes on a connection of their own. Resolves when the server has closed it, or `patienceMs` after it last said something. */
export function sendGarbage(address: string, bytes: Buffer, patienceMs: number): Promise<void> {
  const at = address.lastIndexOf(":");
  return new Promise((resolve, reject) => {
    const socket = connect(Number(address.slice(at + 1)), address.slice(0, at), () => socket.write(bytes));
    socket.setTimeout(patienceMs, () => socket.destroy());
    socket.on("data", () => {});
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED") reject(error); // the server is gone
    });
    socket.on("close", () => resolve());
  });
}
