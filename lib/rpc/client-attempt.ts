/** @file One send of one call over one channel: bytes out, messages in, failures as RpcError. */
import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { decodeMessage, methodPath } from "../api/index.js";
import type { Backend } from "./backend.js";
import { RpcError } from "./rpc-error.js";

/** What every send of a call shares. */
export interface Attempt {
  method: DescMethod;
  /** Headers; the same for every send. */
  metadata: Metadata;
  /** Epoch milliseconds. */
  deadline: number;
  /** Cancels the send. */
  signal: AbortSignal;
}

const same = (wire: Buffer) => wire;

/** Sends one message, returns one. */
export function sendUnary<O extends DescMessage>(
  backend: Backend,
  output: O,
  wire: Buffer,
  { method, metadata, deadline, signal }: Attempt,
): Promise<MessageShape<O>> {
  const path = methodPath(method);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(path, backend.address));
    const decode = (bytes: Buffer) => decodeMessage(output, bytes);
    const options = { deadline };
    const call = backend.client.makeUnaryRequest(
      path,
      same,
      decode,
      wire,
      metadata,
      options,
      (error, value) => {
        signal.removeEventListener("abort", abort);
        if (error) reject(new RpcError(error, path, backend.address));
        else if (value) resolve(value);
        else reject(cancelled(path, backend.address));
      },
    );
    const abort = () => call.cancel();
    signal.addEventListener("abort", abort, { once: true });
  });
}

/** Sends one message, yields what comes back no faster than it is read. */
export async function* sendServerStream<O extends DescMessage>(
  backend: Backend,
  output: O,
  wire: Buffer,
  { method, metadata, deadline, signal }: Attempt,
): AsyncGenerator<MessageShape<O>> {
  const path = methodPath(method);
  if (signal.aborted) throw cancelled(path, backend.address);
  const decode = (bytes: Buffer) => decodeMessage(output, bytes);
  const call = backend.client.makeServerStreamRequest(path, same, decode, wire, metadata, { deadline });
  yield* received<MessageShape<O>>(call, { path, address: backend.address, signal });
}

/** Sends many messages, returns one. */
export function sendClientStream<O extends DescMessage>(
  backend: Backend,
  output: O,
  wires: AsyncIterable<Buffer>,
  { method, metadata, deadline, signal }: Attempt,
): Promise<MessageShape<O>> {
  const path = methodPath(method);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(path, backend.address));
    const decode = (bytes: Buffer) => decodeMessage(output, bytes);
    const call = backend.client.makeClientStreamRequest(
      path,
      same,
      decode,
      metadata,
      { deadline },
      (error, value) => {
        signal.removeEventListener("abort", abort);
        if (error) reject(new RpcError(error, path, backend.address));
        else if (value) resolve(value);
        else reject(cancelled(path, backend.address));
      },
    );
    const abort = () => call.cancel();
    signal.addEventListener("abort", abort, { once: true });
    writeAll(call, wires).catch((error: unknown) => {
      call.cancel();
      reject(error);
    });
  });
}

/** Sends many messages while it yields what comes back. */
export async function* sendBidiStream<O extends DescMessage>(
  backend: Backend,
  output: O,
  wires: AsyncIterable<Buffer>,
  { method, metadata, deadline, signal }: Attempt,
): AsyncGenerator<MessageShape<O>> {
  const path = methodPath(method);
  if (signal.aborted) throw cancelled(path, backend.address);
  const decode = (bytes: Buffer) => decodeMessage(output, bytes);
  const call = backend.client.makeBidiStreamRequest(path, same, decode, metadata, { deadline });
  let failure: unknown;
  writeAll(call, wires).catch((error: unknown) => {
    failure = error;
    call.cancel();
  });
  try {
    yield* received<MessageShape<O>>(call, { path, address: backend.address, signal });
  } catch (error) {
    throw failure ?? error;
  }
}

async function* received<T>(
  call: AsyncIterable<unknown> & Cancellable,
  { path, address, signal }: { path: string; address: string; signal: AbortSignal },
): AsyncGenerator<T> {
  const abort = () => call.cancel();
  signal.addEventListener("abort", abort, { once: true });
  call.on("error", () => {}); // an error after the reader left has no other listener
  try {
    for await (const message of call) yield message as T;
  } catch (error) {
    throw isServiceError(error) ? new RpcError(error, path, address) : error;
  } finally {
    signal.removeEventListener("abort", abort);
    call.cancel(); // the reader may have left early; after the end this does nothing
  }
}

interface Cancellable {
  cancel(): void;
  on(event: "error", listener: () => void): unknown;
}

interface Writer {
  write(wire: Buffer): boolean;
  end(): unknown;
  once(event: "drain" | "close" | "error", listener: () => void): unknown;
  readonly destroyed: boolean;
}

async function writeAll(call: Writer, wires: AsyncIterable<Buffer>): Promise<void> {
  for await (const wire of wires) {
    if (call.destroyed) return;
    if (call.write(wire)) continue;
    await new Promise<void>((resolve) => {
      call.once("drain", resolve);
      call.once("close", resolve);
      call.once("error", resolve);
    });
  }
  call.end();
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as ServiceError).code === "number";
}

/** The failure of a call that its own caller cancelled. */
export function cancelled(path: string, address: string): RpcError {
  return localError(status.CANCELLED, "cancelled by the caller", path, address);
}

/** A failure that no server sent. */
export function localError(code: status, details: string, path: string, address: string): RpcError {
  return new RpcError(
    Object.assign(new Error(details), { code, details, metadata: new Metadata() }),
    path,
    address,
  );
}
