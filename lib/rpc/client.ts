/**
 * @file Clients of generated services: methods that take plain objects and return promises or async iterables. Calls go
 * round robin to healthy servers, always with a deadline, and carry trace, deadline and cancellation onward.
 */
import { setMaxListeners } from "node:events";
import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { ChannelCredentials, type ChannelOptions, Metadata, status } from "@grpc/grpc-js";
import { context, trace } from "@opentelemetry/api";
import { encodeMessage, methodPath } from "../api/index.js";
import { injectHeaders } from "../telemetry/tracing.js";
import { assertTokenIsSafe, parseEndpoint } from "./addresses.js";
import type { Backend } from "./backend.js";
import { BackendPool, type PoolOptions } from "./backend-pool.js";
import {
  type Attempt,
  cancelled,
  localError,
  sendBidiStream,
  sendClientStream,
  sendServerStream,
  sendUnary,
} from "./client-attempt.js";
import { type ObservedClientCall, observeClientCall } from "./client-observe.js";
import type { CallContext } from "./implement.js";
import { defaultRetry, Retrier, type RetryPolicy } from "./retry.js";
import { RpcError } from "./rpc-error.js";
import { type ClientTls, clientCredentials } from "./tls.js";

/** How a client calls. */
export interface ClientOptions {
  /** Deadline of a call that names none, in milliseconds. */
  deadlineMs: number;
  /** When every call ends at the latest, in epoch milliseconds: for a client that serves one call. Default: never. */
  deadline?: number | undefined;
  /** TLS; `{}` trusts the authorities that Node.js does. Default: plaintext. */
  tls?: ClientTls | undefined;
  /** Bearer token, or a function that gives the current one. Never sent in the clear to another machine. */
  token?: string | (() => string) | undefined;
  /** Retries; false for none. Default: retry.ts. */
  retry?: Partial<RetryPolicy> | false;
  /** Sends a call without side effects to a second server if the first takes longer. Default: off. */
  hedging?: { delayMs: number } | undefined;
  /** Watches the health of servers. Default: where there are several. */
  healthCheck?: boolean;
  /** Largest response, in bytes. Default: 64 MiB. */
  maxReceiveBytes?: number;
  /** Interval of pings on a connection with calls, in milliseconds. Default: 60 s. */
  keepaliveMs?: number;
  /** Time that a ping may go unanswered before the connection counts as dead, in milliseconds. Default: 20 s. */
  keepaliveTimeoutMs?: number;
  /** Looks names up. Default: the system's resolver. */
  resolve?: PoolOptions["resolve"];
}

/** How one call is made. */
export interface CallOptions {
  /** Cancels the call. */
  signal?: AbortSignal;
  /** Deadline from now, in milliseconds, at most 24 h. Default: the client's. */
  deadlineMs?: number;
  /** Deadline as epoch milliseconds; the earlier one counts. */
  deadline?: number | undefined;
  /** Call that this one is made for: its deadline, cancellation and trace carry on. */
  parent?: Pick<CallContext, "signal" | "deadline" | "traceContext" | "requestId">;
  /** True allows retries and hedging of a method that is not marked free of side effects. */
  idempotent?: boolean;
  /** More headers. */
  metadata?: Record<string, string>;
}

type Requests<I extends DescMessage> = AsyncIterable<MessageInitShape<I>> | Iterable<MessageInitShape<I>>;

/** The client's method for a generated method. */
export type ClientMethod<M> = M extends {
  methodKind: infer K;
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? K extends "unary"
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : K extends "server_streaming"
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : K extends "client_streaming"
        ? (requests: Requests<I>, options?: CallOptions) => Promise<MessageShape<O>>
        : (requests: Requests<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
  : never;

/** What is known of one server. */
export interface BackendState {
  address: string;
  /** State of the channel. */
  state: string;
  /** What it says about its health; undefined if it says nothing or is not asked. */
  healthy: boolean | undefined;
}

/** What every client can do beside its methods. */
export interface ClientControl {
  /** Closes the channels. A client that is not closed keeps its process alive. */
  close(): void;
  /** Resolves once a server is connected and not unhealthy. Rejects with RpcError UNAVAILABLE after `ms`. */
  waitForReady(ms: number): Promise<void>;
  /** The servers known now. */
  backends(): BackendState[];
}

/** A client of a service. */
export type Client<S extends GenServiceMethods> = { [K in keyof S]: ClientMethod<S[K]> } & ClientControl;

const longestDeadlineMs = 24 * 3600 * 1000;

/** Makes a client. Connects on the first call. Throws AddressError or TlsError. */
export function createClient<S extends GenServiceMethods>(
  desc: GenService<S>,
  addresses: string | readonly string[],
  options: ClientOptions,
): Client<S> {
  const service = desc as unknown as DescService;
  const list = typeof addresses === "string" ? [addresses] : addresses;
  if (list.length === 0) throw new RangeError(`${service.typeName}: no address given`);
  const endpoints = [...new Set(list)].map(parseEndpoint);
  if (options.token !== undefined) {
    for (const endpoint of endpoints) assertTokenIsSafe(endpoint, options.tls !== undefined);
  }
  const pool = new BackendPool(endpoints, {
    credentials: options.tls ? clientCredentials(options.tls) : ChannelCredentials.createInsecure(),
    channel: channelOptions(options),
    service: service.typeName,
    healthCheck: options.healthCheck,
    resolve: options.resolve,
  });
  const caller = new Caller(pool, options);
  const methods = service.methods.map((method) => [method.localName, caller.method(method)]);
  const control: ClientControl = {
    close: () => pool.close(),
    waitForReady: (ms) => waitForReady(pool, service, ms),
    backends: () => pool.list().map(({ address, state, healthy }) => ({ address, state, healthy })),
  };
  return { ...Object.fromEntries(methods), ...control } as Client<S>;
}

function channelOptions(options: ClientOptions): ChannelOptions {
  return {
    "grpc.max_receive_message_length": options.maxReceiveBytes ?? 64 * 1024 * 1024,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": options.keepaliveMs ?? 60_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 20_000,
    // a long answer must not wait for a window of 64 KiB over a slow link
    "grpc-node.flow_control_window": 1024 * 1024,
    "grpc.max_reconnect_backoff_ms": 5000,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.enable_http_proxy": 0,
    ...(options.tls?.serverName && { "grpc.ssl_target_name_override": options.tls.serverName }),
  };
}

/** One call and what ends it. */
interface Prepared extends Attempt {
  observed: ObservedClientCall;
  /** Must be called once the call has ended. */
  done: () => void;
}

class Caller {
  private readonly retrier: Retrier;

  constructor(
    private readonly pool: BackendPool,
    private readonly options: ClientOptions,
  ) {
    const { retry } = options;
    this.retrier = new Retrier(
      retry === false ? { ...defaultRetry, maxAttempts: 1 } : { ...defaultRetry, ...retry },
    );
  }

  /** The function that a client has for a method. */
  method(method: DescMethod): unknown {
    const encode = (request: unknown) =>
      encodeMessage(method.input, request as MessageInitShape<DescMessage>);
    switch (method.methodKind) {
      case "unary":
        return (request: unknown, options: CallOptions = {}) => this.unary(method, encode(request), options);
      case "server_streaming":
        return (request: unknown, options: CallOptions = {}) =>
          this.serverStream(method, encode(request), options);
      case "client_streaming":
        return (requests: AsyncIterable<unknown>, options: CallOptions = {}) =>
          this.clientStream(method, encodeEach(requests, encode), options);
      case "bidi_streaming":
        return (requests: AsyncIterable<unknown>, options: CallOptions = {}) =>
          this.bidiStream(method, encodeEach(requests, encode), options);
    }
  }

  private async unary(method: DescMethod, wire: Buffer, options: CallOptions): Promise<unknown> {
    const call = this.prepare(method, options);
    const repeatable = isRepeatable(method, options);
    const tried = new Set<Backend>();
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          const hedge = repeatable ? this.options.hedging : undefined;
          const response = hedge
            ? await this.hedged(wire, call, tried, hedge.delayMs)
            : await sendUnary(await this.pick(call, tried), method.output, wire, call);
          this.retrier.succeeded();
          call.observed.succeeded();
          return response;
        } catch (error) {
          await this.waitToRetry(error, attempt, repeatable, call, tried);
        }
      }
    } catch (error) {
      throw call.observed.failed(error);
    } finally {
      call.done();
    }
  }

  /** The first success of two sends, the second to another server once the first has taken `delayMs`. */
  private async hedged(wire: Buffer, call: Prepared, tried: Set<Backend>, delayMs: number): Promise<unknown> {
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    call.signal.addEventListener("abort", onAbort, { once: true });
    if (call.signal.aborted) stop.abort();
    const send = async () =>
      sendUnary(await this.pick(call, tried), call.method.output, wire, { ...call, signal: stop.signal });
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        let pending = 0;
        const race = () => {
          pending++;
          send().then(resolve, (error: unknown) => {
            if (--pending === 0) reject(error); // the other may still succeed; without one the retry loop goes on
          });
        };
        race();
        timer = setTimeout(() => {
          if (!this.pool.hasFresh(tried)) return;
          call.observed.retried("hedge");
          race();
        }, delayMs);
      });
    } finally {
      clearTimeout(timer);
      call.signal.removeEventListener("abort", onAbort);
      stop.abort();
    }
  }

  private async *serverStream(
    method: DescMethod,
    wire: Buffer,
    options: CallOptions,
  ): AsyncGenerator<unknown> {
    const call = this.prepare(method, options);
    const repeatable = isRepeatable(method, options);
    const tried = new Set<Backend>();
    let started = false; // once the caller has seen a message, a repetition would show it twice
    let finished = false;
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          for await (const message of sendServerStream(
            await this.pick(call, tried),
            method.output,
            wire,
            call,
          )) {
            started = true;
            yield message;
          }
          this.retrier.succeeded();
          call.observed.succeeded();
          finished = true;
          return;
        } catch (error) {
          if (started) throw error;
          await this.waitToRetry(error, attempt, repeatable, call, tried);
        }
      }
    } catch (error) {
      finished = true;
      throw call.observed.failed(error);
    } finally {
      if (!finished) call.observed.failed(cancelled(methodPath(method), call.observed.address));
      call.done();
    }
  }

  private async clientStream(
    method: DescMethod,
    wires: AsyncIterable<Buffer>,
    options: CallOptions,
  ): Promise<unknown> {
    const call = this.prepare(method, options);
    try {
      const response = await sendClientStream(await this.pick(call, new Set()), method.output, wires, call);
      call.observed.succeeded();
      return response;
    } catch (error) {
      throw call.observed.failed(error);
    } finally {
      call.done();
    }
  }

  private async *bidiStream(
    method: DescMethod,
    wires: AsyncIterable<Buffer>,
    options: CallOptions,
  ): AsyncGenerator<unknown> {
    const call = this.prepare(method, options);
    let finished = false;
    try {
      yield* sendBidiStream(await this.pick(call, new Set()), method.output, wires, call);
      call.observed.succeeded();
      finished = true;
    } catch (error) {
      finished = true;
      throw call.observed.failed(error);
    } finally {
      if (!finished) call.observed.failed(cancelled(methodPath(method), call.observed.address));
      call.done();
    }
  }

  private prepare(method: DescMethod, options: CallOptions): Prepared {
    const { parent } = options;
    const now = Date.now();
    const own = now + Math.min(options.deadlineMs ?? this.options.deadlineMs, longestDeadlineMs);
    const latest = this.options.deadline ?? own;
    const deadline = Math.min(own, latest, options.deadline ?? own, parent?.deadline ?? own);
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const sources = [options.signal, parent?.signal].filter((signal) => signal !== undefined);
    const stop = () => abort.abort();
    for (const source of sources) {
      if (source.aborted) stop();
      else source.addEventListener("abort", stop, { once: true });
    }
    const active = trace.getSpan(context.active())
      ? context.active()
      : (parent?.traceContext ?? context.active());
    const observed = observeClientCall(method, active);
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(options.metadata ?? {})) metadata.set(name, value);
    for (const [name, value] of Object.entries(injectHeaders(observed.context))) metadata.set(name, value);
    if (parent) metadata.set("x-request-id", parent.requestId);
    const { token } = this.options;
    if (token !== undefined) {
      metadata.set("authorization", `Bearer ${typeof token === "function" ? token() : token}`);
    }
    const done = () => {
      for (const source of sources) source.removeEventListener("abort", stop);
    };
    return { method, metadata, deadline, signal: abort.signal, observed, done };
  }

  /** The backend for the next send; waits for a name to be looked up. Throws RpcError UNAVAILABLE where there is none. */
  private async pick(call: Prepared, tried: Set<Backend>): Promise<Backend> {
    await this.pool.resolved();
    const backend = this.pool.pick(tried);
    if (!backend) {
      const why = this.pool.failure instanceof Error ? this.pool.failure.message : "no address";
      throw localError(status.UNAVAILABLE, `Name resolution failed: ${why}`, methodPath(call.method), "");
    }
    tried.add(backend);
    call.observed.sentTo(backend.address);
    return backend;
  }

  /** Waits until the call may be sent again. Throws the error if it may not. */
  private async waitToRetry(
    error: unknown,
    attempt: number,
    repeatable: boolean,
    call: Prepared,
    tried: Set<Backend>,
  ): Promise<void> {
    if (!(error instanceof RpcError)) throw error;
    if (error.status === "UNAVAILABLE") void this.pool.refresh();
    const stated = this.retrier.delayAfter(error, attempt, repeatable);
    if (stated === undefined || call.signal.aborted) throw error;
    // another server need not wait for what this one asked
    const delay = this.pool.hasFresh(tried) ? Math.min(stated, 20) : stated;
    if (Date.now() + delay >= call.deadline) throw error;
    call.observed.retried(error.code);
    await sleep(delay, call.signal);
    if (call.signal.aborted) throw cancelled(methodPath(call.method), error.address);
  }
}

function isRepeatable(method: DescMethod, { idempotent }: CallOptions): boolean {
  return (
    idempotent ??
    (method.idempotency === Idempotency.NO_SIDE_EFFECTS || method.idempotency === Idempotency.IDEMPOTENT)
  );
}

async function* encodeEach(
  requests: AsyncIterable<unknown> | Iterable<unknown>,
  encode: (request: unknown) => Buffer,
): AsyncGenerator<Buffer> {
  for await (const request of requests) yield encode(request);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

async function waitForReady(pool: BackendPool, service: DescService, ms: number): Promise<void> {
  const end = Date.now() + ms;
  const never = new AbortController().signal;
  for (;;) {
    await pool.resolved();
    const backends = pool.list();
    if (backends.some(({ state, healthy }) => state === "READY" && healthy !== false)) return;
    for (const { client } of backends) client.getChannel().getConnectivityState(true);
    if (Date.now() >= end) {
      const seen = backends.map(
        ({ address, state, healthy }) => `${address} ${healthy === false ? "NOT_SERVING" : state}`,
      );
      const why = `no server is ready after ${ms} ms: ${seen.join(", ") || "no address found"}`;
      throw localError(status.UNAVAILABLE, why, `/${service.typeName}`, backends[0]?.address ?? "");
    }
    await sleep(Math.min(20, Math.max(1, end - Date.now())), never);
  }
}
