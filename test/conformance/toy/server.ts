/**
 * @file A small correct server as a stranger might write it: on grpc-js and the .proto files alone, without our server kit. Everything
 * that it does is a plain field, so that a mutation can change one habit of it before it listens.
 */
import type { DescMessage, DescMethod, DescService, Message, MessageShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type StatusObject,
  status,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../../lib/api/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../lib/api/gen/google/rpc/status_pb.js";
import { toGrpcService } from "../../../lib/api/index.js";
import { Refusal } from "./refusal.js";

/** What a method knows of its call. */
export interface ToyCall {
  /** Aborts when the caller goes away or the deadline passes. */
  readonly signal: AbortSignal;
  readonly metadata: Metadata;
}

/** A timer may fire so much too early by the clock. */
const DEADLINE_MARGIN_MS = 2;

/** The function that fits a generated method. */
type Method<M> = M extends {
  methodKind: infer K;
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? K extends "unary"
    ? (request: MessageShape<I>, call: ToyCall) => Promise<MessageShape<O>>
    : K extends "server_streaming"
      ? (request: MessageShape<I>, call: ToyCall) => AsyncIterable<MessageShape<O>>
      : (requests: AsyncIterable<MessageShape<I>>, call: ToyCall) => AsyncIterable<MessageShape<O>>
  : never;

/** One function for each method of a service; a mutation replaces one. */
export type Methods<S extends GenServiceMethods> = { [K in keyof S]: Method<S[K]> };

/** A service with its functions. */
export interface ToyService {
  readonly desc: DescService;
  readonly methods: Record<string, unknown>;
}

/** Joins a service with its functions. */
export function service<S extends GenServiceMethods>(desc: GenService<S>, methods: Methods<S>): ToyService {
  return { desc: desc as unknown as DescService, methods };
}

/** What a server does beneath its methods. */
export interface Habits {
  maxReceiveBytes: number;
  /** Looks at a call of a service before its method does; throws to refuse it. */
  admit(metadata: Metadata, service: string): void;
  /** Runs a unary method; grpc-js keeps the deadline. */
  unary<T>(work: () => Promise<T>, metadata: Metadata): Promise<T>;
  /** Hears of each call's metadata once it has ended. */
  ended(metadata: Metadata): void;
  /** Changes the HTTP/2 headers of a call before grpc-js reads them. */
  incoming(headers: Record<string, unknown>): void;
  /** What is read from bytes; throws where they are no message. */
  decode(read: (bytes: Buffer) => unknown, bytes: Buffer): unknown;
  /** What a refusal becomes on the wire. */
  refuse(refusal: Refusal): Partial<StatusObject>;
}

/** A server that can be mutated, then started. */
export interface Toy {
  readonly habits: Habits;
  readonly services: ToyService[];
}

/** A server that listens. */
export interface RunningToy {
  readonly address: string;
  stop(): void;
}

/** The habits of a server that keeps the contract. */
export function goodHabits(): Habits {
  return {
    maxReceiveBytes: 64 * 1024,
    admit: () => {},
    unary: (work) => work(),
    ended: () => {},
    incoming: () => {},
    decode: (read, bytes) => read(bytes),
    refuse: refusalStatus,
  };
}

/** A status with google.rpc.Status in its trailer. */
export function refusalStatus({
  code,
  message,
  reason,
  violations,
  retryMs,
}: Refusal): Partial<StatusObject> {
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "toy.example" }))];
  if (violations.length > 0) {
    const badRequest = create(BadRequestSchema, { fieldViolations: [...violations] });
    details.push(anyPack(BadRequestSchema, badRequest));
  }
  if (retryMs !== undefined) {
    const retryDelay = { seconds: 0n, nanos: retryMs * 1e6 };
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const metadata = new Metadata();
  const bytes = toBinary(StatusSchema, create(StatusSchema, { code, message, details }));
  metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  return { code, details: message, metadata };
}

/** Starts a server on a free port of loopback. */
export async function startToy({ habits, services }: Toy): Promise<RunningToy> {
  const server = new Server({ "grpc.max_receive_message_length": habits.maxReceiveBytes });
  for (const { desc, methods } of services) {
    const definition = toGrpcService(desc);
    for (const method of Object.values(definition)) {
      const read = method.requestDeserialize;
      method.requestDeserialize = (bytes) => habits.decode(read, bytes);
    }
    const implementation = desc.methods.map((method) => [
      method.localName,
      handler(method, methods[method.localName] as AnyMethod, habits),
    ]);
    server.addService(definition, Object.fromEntries(implementation));
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  const { http2Servers } = server as unknown as {
    http2Servers: Map<import("node:http2").Http2Server, unknown>;
  };
  for (const http2Server of http2Servers.keys()) {
    http2Server.prependListener("stream", (_stream, headers) => habits.incoming(headers));
  }
  return { address: `127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}

type AnyMethod = (request: unknown, call: ToyCall) => unknown;

function handler(method: DescMethod, run: AnyMethod, habits: Habits): UntypedHandleCall {
  if (method.methodKind === "unary") {
    return ((call, callback) => {
      const abort = aborted(call);
      const work = async () => {
        habits.admit(call.metadata, method.parent.typeName);
        return (await run(call.request, { signal: abort, metadata: call.metadata })) as Message;
      };
      void habits
        .unary(work, call.metadata)
        .then(
          (reply) => callback(null, reply),
          (error: unknown) => callback(statusOf(error, habits)),
        )
        .then(() => habits.ended(call.metadata));
    }) satisfies handleUnaryCall<unknown, Message>;
  }
  const stream = (call: ServerStream, request: unknown) => {
    const signal = aborted(call);
    const work = async () => {
      habits.admit(call.metadata, method.parent.typeName);
      const replies = run(request, { signal, metadata: call.metadata }) as AsyncIterable<Message>;
      for await (const reply of replies) {
        // grpc-js ends the call at its deadline; a message that is written after that, or waits in its buffer then, would leave the
        // caller without an end
        if (signal.aborted || Number(call.getDeadline()) - DEADLINE_MARGIN_MS <= Date.now()) return;
        await new Promise((resolve) => call.write(reply, resolve));
      }
      call.end();
    };
    void work()
      .catch((error: unknown) => {
        if (!signal.aborted) call.emit("error", statusOf(error, habits));
      })
      .then(() => habits.ended(call.metadata));
  };
  return method.methodKind === "server_streaming"
    ? (((call) => stream(call, call.request)) satisfies handleServerStreamingCall<unknown, Message>)
    : (((call) => stream(call, call)) satisfies handleBidiStreamingCall<unknown, Message>);
}

type ServerStream =
  | Parameters<handleServerStreamingCall<unknown, Message>>[0]
  | Parameters<handleBidiStreamingCall<unknown, Message>>[0];

function aborted(call: { once(event: "cancelled", listener: () => void): unknown }): AbortSignal {
  const abort = new AbortController();
  call.once("cancelled", () => abort.abort());
  return abort.signal;
}

function statusOf(error: unknown, habits: Habits): Partial<StatusObject> {
  return error instanceof Refusal
    ? habits.refuse(error)
    : { code: status.INTERNAL, details: "internal error" };
}
