/**
 * @file A gRPC call made by hand over HTTP/2, for what no client library lets through: bytes that are no message, a deadline that only
 * the server keeps, trailers as they came.
 */
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";
import type { ClientOptions } from "../../lib/rpc/index.js";

/** What to send. */
export interface RawCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Message bytes, framed here. */
  readonly message: Uint8Array;
  /** More headers, e.g. grpc-timeout. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Gives up after so many milliseconds. */
  readonly timeoutMs: number;
}

/** How the server ended the call. */
export interface RawOutcome {
  /** grpc-status, if the server sent one. */
  readonly status: number | undefined;
  /** Headers and trailers together. */
  readonly headers: IncomingHttpHeaders;
  /** Code of RST_STREAM; undefined if the stream ended in order. */
  readonly reset: number | undefined;
  /** True if nothing ended the call in `timeoutMs`. */
  readonly late: boolean;
  /** From the request's first byte to the end. */
  readonly ms: number;
}

/** Makes one call on a connection of its own. Rejects where the server cannot be reached. */
export async function rawCall(address: string, options: ClientOptions, call: RawCall): Promise<RawOutcome> {
  const session = await open(address, options);
  try {
    return await send(session, authorization(options), call);
  } finally {
    session.destroy();
  }
}

/** A gRPC frame: no compression, length, message. */
export function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

function open(address: string, { tls }: ClientOptions): Promise<ClientHttp2Session> {
  const pem = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file));
  const socket = /^unix:(?:\/\/)?(.+)$/.exec(address)?.[1];
  const host = socket === undefined ? address.replace(/^dns:(\/\/\/)?/, "") : "localhost";
  const common = {
    maxSessionMemory: 1024, // MiB; Node's own default refuses to send a large message
    ...(socket !== undefined && { createConnection: () => connectSocket(socket) }),
  };
  const session = tls
    ? connect(`https://${host}`, {
        ...common,
        ca: pem(tls.caFile),
        cert: pem(tls.certFile),
        key: pem(tls.keyFile),
        ...(tls.serverName && { servername: tls.serverName }),
      })
    : connect(`http://${host}`, common);
  return new Promise((resolve, reject) => {
    session.once("error", reject);
    session.once("connect", () => {
      session.off("error", reject);
      session.on("error", () => {}); // the stream hears of it too
      resolve(session);
    });
  });
}

function authorization({ token }: ClientOptions): Record<string, string> {
  if (token === undefined) return {};
  return { authorization: `Bearer ${typeof token === "function" ? token() : token}` };
}

function send(
  session: ClientHttp2Session,
  credentials: Record<string, string>,
  call: RawCall,
): Promise<RawOutcome> {
  return new Promise((resolve) => {
    const began = performance.now();
    const stream = session.request({
      ":method": "POST",
      ":path": call.path,
      "content-type": "application/grpc",
      te: "trailers",
      ...credentials,
      ...call.headers,
    });
    let headers: IncomingHttpHeaders = {};
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      stream.close();
    }, call.timeoutMs);
    const note = (more: IncomingHttpHeaders) => {
      headers = { ...headers, ...more };
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("data", () => {});
    stream.on("error", () => {}); // "close" follows
    stream.on("close", () => {
      clearTimeout(timer);
      const status = headers["grpc-status"];
      resolve({
        status: status === undefined ? undefined : Number(status),
        headers,
        reset: stream.rstCode === 0 ? undefined : stream.rstCode,
        late,
        ms: performance.now() - began,
      });
    });
    stream.end(frame(call.message));
  });
}
