/**
 * @file Runs one call: decodes the request inside the call (so that bad bytes are the caller's error), gives the handler
 * its context, stops it when caller or deadline say so, and sends what it gives back or throws. Nothing a handler
 * does can escape: not a late rejection, not a synchronous throw, not an answer after the end.
 */
import { setMaxListeners } from "node:events";
import type { DescMessage, DescMethod, Message, MessageInitShape } from "@bufbuild/protobuf";
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerWritableStream,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import { context } from "@opentelemetry/api";
import { decodeMessage, encodeMessage, findUnknownEnums, toGrpcMethod } from "../api/index.js";
import { type CallState, callState } from "./call-state.js";
import { effectiveDeadline } from "./deadlines.js";
import {
  CancelledError,
  DeadlineError,
  DrainingError,
  InvalidFieldError,
  UndecodableError,
} from "./errors.js";
import type { AnyHandler, CallContext } from "./implement.js";
import { type OutgoingStatus, toOutgoingStatus } from "./status.js";

/** How one method is run. */
export interface MethodOptions {
  /** Deadline of a call that names none, in milliseconds; undefined for none. */
  defaultDeadlineMs: number | undefined;
}

/** A method as grpc-js registers it: messages cross as bytes, so that this file decodes and encodes them. */
export function rawDefinition(method: DescMethod): MethodDefinition<Buffer, Buffer> {
  const same = (wire: Buffer) => wire;
  return {
    ...toGrpcMethod(method),
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** The grpc-js handler of a method. */
export function runCall(method: DescMethod, handler: AnyHandler, options: MethodOptions): UntypedHandleCall {
  const run = handler as unknown as (request: unknown, ctx: CallContext) => unknown;
  const decode = (wire: Uint8Array) => decodeRequest(method.input, wire);
  const encode = (value: unknown) => encodeMessage(method.output, value as MessageInitShape<DescMessage>);
  const messages = (value: unknown) => value as AsyncIterable<unknown>;
  switch (method.methodKind) {
    case "unary":
      return ((call, callback) => {
        const running = new RunningCall(call, options);
        void running
          .settle(async () => encode(await run(decode(call.request), running.context)))
          .then(
            (wire) => callback(null, wire, running.context.trailer),
            (outgoing: OutgoingStatus) => callback(outgoing.status),
          );
      }) satisfies handleUnaryCall<Buffer, Buffer>;
    case "client_streaming":
      return ((call, callback) => {
        const running = new RunningCall(call, options);
        const requests = decodeAll(call as unknown as ServerDuplexStream<Buffer, Buffer>, decode);
        void running
          .settle(async () => encode(await run(requests, running.context)))
          .then(
            (wire) => callback(null, wire, running.context.trailer),
            (outgoing: OutgoingStatus) => callback(outgoing.status),
          );
      }) satisfies handleClientStreamingCall<Buffer, Buffer>;
    case "server_streaming":
      return ((call) => {
        const running = new RunningCall(call, options);
        void running.stream(call, () => messages(run(decode(call.request), running.context)), encode);
      }) satisfies handleServerStreamingCall<Buffer, Buffer>;
    case "bidi_streaming":
      return ((call) => {
        const running = new RunningCall(call, options);
        void running.stream(call, () => messages(run(decodeAll(call, decode), running.context)), encode);
      }) satisfies handleBidiStreamingCall<Buffer, Buffer>;
  }
}

function decodeRequest(schema: DescMessage, wire: Uint8Array): Message {
  let request: Message;
  try {
    request = decodeMessage(schema, wire);
  } catch (error) {
    throw new UndecodableError(schema.typeName, error);
  }
  const unknown = findUnknownEnums(schema, request);
  if (unknown.length > 0) {
    throw new InvalidFieldError(
      unknown.map(({ field, value, accepted }) => ({
        field,
        description: `has no value ${value}; accepted: ${accepted.join(", ")}`,
      })),
    );
  }
  return request;
}

async function* decodeAll<T>(
  call: ServerDuplexStream<Buffer, Buffer>,
  decode: (wire: Buffer) => T,
): AsyncIterable<T> {
  // a handler may stop reading early and still answer, so the stream must outlive the loop
  for await (const wire of call.iterator({ destroyOnReturn: false })) yield decode(wire as Buffer);
}

/** The parts of the four grpc-js call objects that are used here. */
interface GrpcCall {
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

class RunningCall {
  readonly context: CallContext;
  private readonly state: CallState;
  private readonly abort = new AbortController();
  private readonly timer: NodeJS.Timeout | undefined;
  private settled = false;

  constructor(call: GrpcCall, options: MethodOptions) {
    const state = callState(call.metadata);
    this.state = state;
    const { signal } = this.abort;
    setMaxListeners(0, signal); // a handler may listen once an item
    const callers = call.getDeadline();
    const deadline = effectiveDeadline(callers, options.defaultDeadlineMs);
    if (deadline !== undefined) {
      const remaining = deadline - Date.now();
      if (remaining <= 0)
        this.stop(new DeadlineError()); // too late on arrival: nothing is begun
      else this.timer = setTimeout(() => this.stop(new DeadlineError()), remaining);
    }
    call.once("cancelled", () => {
      if (this.settled) return; // grpc-js also says so after success
      const late = deadline !== undefined && deadline <= Date.now();
      this.stop(late ? new DeadlineError() : new CancelledError());
    });
    state.end = () => this.stop(new DrainingError());
    const { metadata } = call;
    const { peer, requestId, traceContext, method, role } = state;
    const trailer = new Metadata();
    this.context = {
      ...{ signal, deadline, metadata, trailer, peer, requestId, traceContext, method, role },
      get log() {
        return state.log;
      },
    };
  }

  /** Aborts the handler, unless the call has ended. */
  private stop(reason: Error): void {
    if (!this.settled) this.abort.abort(reason);
  }

  /** Runs `work` to its end or until the call is stopped, whichever is first. Rejects with the status to send. */
  async settle<T>(work: () => Promise<T>): Promise<T> {
    try {
      this.abort.signal.throwIfAborted();
      return await this.untilStopped(context.with(this.state.traceContext, () => startNow(work)));
    } catch (error) {
      throw this.failed(error);
    } finally {
      this.end();
    }
  }

  /** Sends what an iterable yields, no faster than the caller reads, until its end or until the call is stopped. */
  async stream(
    call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
    open: () => AsyncIterable<unknown>,
    encode: (value: unknown) => Buffer,
  ): Promise<void> {
    let iterator: AsyncIterator<unknown> | undefined;
    try {
      this.abort.signal.throwIfAborted();
      const within = <R>(fn: () => R): R => context.with(this.state.traceContext, fn);
      const messages = within(open)[Symbol.asyncIterator]();
      iterator = messages;
      for (;;) {
        const { done, value } = await this.untilStopped(within(() => startNow(() => messages.next())));
        if (done) break;
        if (!call.write(encode(value))) {
          await this.untilStopped(new Promise<void>((resolve) => call.once("drain", resolve)));
        }
      }
      iterator = undefined;
      this.end();
      call.end(this.context.trailer);
    } catch (error) {
      const { status } = this.failed(error);
      this.end();
      // runs the generator's `finally` blocks; one that is stuck must not hold us up
      iterator?.return?.().then(undefined, () => {});
      if (!call.destroyed) call.emit("error", Object.assign(new Error(status.details), status));
    }
  }

  private end(): void {
    this.settled = true;
    clearTimeout(this.timer);
  }

  /** The promise's outcome, or the reason of the abort if that comes first. Leaves no listener behind. */
  private untilStopped<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.abort;
    return new Promise((resolve, reject) => {
      const stopped = () => reject(signal.reason);
      if (signal.aborted) stopped();
      else signal.addEventListener("abort", stopped, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stopped));
    });
  }

  private failed(thrown: unknown): OutgoingStatus {
    const { signal } = this.abort;
    // what a handler throws once it was told to stop is a consequence, and often a bare AbortError
    const error = signal.aborted ? signal.reason : thrown;
    const outgoing = toOutgoingStatus(error, this.state.requestId);
    if (outgoing.unexpected) {
      context.with(this.state.traceContext, () => {
        this.state.log.error({ err: error, code: outgoing.code }, "call failed unexpectedly");
      });
    }
    return outgoing;
  }
}

/** Calls an async function; a synchronous throw becomes a rejection. */
async function startNow<T>(work: () => Promise<T>): Promise<T> {
  return work();
}
