/**
 * @file Services as plain functions. A handler gets a decoded request and a CallContext, and returns a message (or the
 * object that one is made from), or yields messages; whatever it throws becomes a status by the table in codes.ts.
 */
import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { Metadata } from "@grpc/grpc-js";
import type { Context } from "@opentelemetry/api";
import type { Role } from "./auth.js";
import type { Logger } from "./log.js";

/** What a handler knows about its call. */
export interface CallContext {
  /** Aborts when the caller goes away, the deadline passes or the server gives up draining; its reason is the error. */
  readonly signal: AbortSignal;
  /** Epoch milliseconds; undefined only for calls that live until the server drains. */
  readonly deadline: number | undefined;
  /** Metadata that came with the call. */
  readonly metadata: Metadata;
  /** Metadata to send with the status of a successful call. */
  readonly trailer: Metadata;
  /** Address of the caller. */
  readonly peer: string;
  /** Id of the call in our log; sent with errors. */
  readonly requestId: string;
  /** Logger that names the call. */
  readonly log: Logger;
  /** Trace context with the server's span; active while the handler runs. */
  readonly traceContext: Context;
  /** `package.Service/Method`. */
  readonly method: string;
  /** Role of the caller's token; undefined where no tokens are asked for. */
  readonly role: Role | undefined;
}

type Maybe<T> = T | Promise<T>;

/** The handler that fits a generated method. */
export type Handler<M> = M extends {
  methodKind: infer K;
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? K extends "unary"
    ? (request: MessageShape<I>, ctx: CallContext) => Maybe<MessageInitShape<O>>
    : K extends "server_streaming"
      ? (request: MessageShape<I>, ctx: CallContext) => AsyncIterable<MessageInitShape<O>>
      : K extends "client_streaming"
        ? (requests: AsyncIterable<MessageShape<I>>, ctx: CallContext) => Maybe<MessageInitShape<O>>
        : (requests: AsyncIterable<MessageShape<I>>, ctx: CallContext) => AsyncIterable<MessageInitShape<O>>
  : never;

/** One handler for each method of a generated service. */
export type Handlers<S extends GenServiceMethods> = { [K in keyof S]: Handler<S[K]> };

/** How the server treats a service. */
export interface ImplementOptions {
  /** True lets anyone call it, also while the server drains: health. Default: false. */
  open?: boolean;
  /** True counts calls without tracing or logging them. Default: false. */
  quiet?: boolean;
  /** Methods, by name in code, that live until the server drains and then end. Nobody waits for them. Default: none. */
  lasting?: readonly string[];
}

/** Any handler, after its types have been checked. */
export type AnyHandler = (request: never, ctx: CallContext) => unknown;

/** A service with its handlers, ready for startServer. */
export interface ServiceImplementation {
  readonly desc: DescService;
  readonly handlers: ReadonlyMap<DescMethod, AnyHandler>;
  readonly options: ImplementOptions;
}

/** Joins a generated service with its handlers. Throws if a method has none, which types prevent. */
export function implement<S extends GenServiceMethods>(
  desc: GenService<S>,
  handlers: Handlers<S>,
  options: ImplementOptions = {},
): ServiceImplementation {
  const service = desc as unknown as DescService;
  const byName = handlers as Record<string, AnyHandler>;
  const entries = service.methods.map((method): [DescMethod, AnyHandler] => {
    const handler = byName[method.localName];
    if (!handler) throw new Error(`${service.typeName}: no handler for ${method.name}`);
    return [method, handler.bind(byName)];
  });
  return { desc: service, handlers: new Map(entries), options };
}
