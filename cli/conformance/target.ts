/**
 * @file The server under test as the checks see it: calls of one service and of health and reflection beside it, without retries, so
 * that a check sees what the server did.
 */
import type { DescMessage, DescService, Message, MessageInitShape } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ServerInfo } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { encodeMessage, methodPath } from "../../lib/api/index.js";
import {
  type CallOptions,
  type Client,
  type ClientOptions,
  createClient,
  RpcError,
} from "../../lib/rpc/index.js";
import { CheckFailed, must, needs } from "./check.js";
import { type RawCall, type RawOutcome, rawCall } from "./raw-call.js";

/** A unary call: the method by its name in code, and a request. */
export interface Call {
  readonly method: string;
  readonly request: object;
}

/** What the checks that fit every service must know of one. */
export interface Subject {
  readonly desc: GenService<GenServiceMethods>;
  /** A small valid call. */
  probe(): Call;
  /** A valid call with `size` items that cost work, and are never the same twice. */
  work(size: number): Call;
  /** Limits of GetInfo: items of one call, and items that may wait. */
  readonly itemsLimit: string;
  readonly queueLimit: string;
  /** The same items, as `limits` names what runs beside what waits; none if nothing is named. */
  readonly runningLimit?: string;
  /** A call that must be refused for its fields. */
  refused(): Call;
}

/** A server, and the service that is checked on it. */
export class Target {
  readonly #clients = new Map<string, Client<GenServiceMethods>>();
  readonly #options: ClientOptions;

  constructor(
    readonly address: string,
    readonly subject: Subject,
    options: ClientOptions,
    /** What GetInfo says of the server; undefined if it says nothing. */
    readonly server: ServerInfo | undefined,
  ) {
    this.#options = { ...options, retry: false, healthCheck: false };
  }

  /** Longest wait for one answer. */
  get deadlineMs(): number {
    return this.#options.deadlineMs;
  }

  /** A client of any service of the server. */
  client<S extends GenServiceMethods>(desc: GenService<S>): Client<S> {
    const known = this.#clients.get(desc.typeName);
    const client = known ?? createClient(desc, this.address, this.#options);
    this.#clients.set(desc.typeName, client as Client<GenServiceMethods>);
    return client as Client<S>;
  }

  /** Makes a unary call of the service under test. */
  send(call: Call, options?: CallOptions): Promise<Message> {
    const client = this.client(this.subject.desc) as unknown as Record<
      string,
      (request: object, options?: CallOptions) => Promise<Message>
    >;
    return (client[call.method] as (request: object, options?: CallOptions) => Promise<Message>)(
      call.request,
      options,
    );
  }

  /** Makes a call of the service under test by hand; `message` replaces the request's bytes. */
  raw(call: Call, more: Partial<RawCall> = {}): Promise<RawOutcome> {
    const service = this.subject.desc as unknown as DescService;
    const method = service.methods.find(({ localName }) => localName === call.method);
    if (!method) throw new Error(`${service.typeName} has no method ${call.method}`);
    return rawCall(this.address, this.#options, {
      path: methodPath(method),
      message: encodeMessage(method.input, call.request as MessageInitShape<DescMessage>),
      timeoutMs: this.deadlineMs,
      ...more,
    });
  }

  /** A limit that GetInfo publishes; undefined if it does not. */
  limit(name: string): number | undefined {
    const value = this.server?.limits[name];
    return value === undefined || value <= 0n ? undefined : Number(value);
  }

  /** The same, for a check that cannot do without. */
  neededLimit(name: string): number {
    const value = this.limit(name);
    needs(value !== undefined, `GetInfo publishes no limit ${name}`);
    return value;
  }

  /** Closes the connections. */
  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

/** The error of a call. Fails the check if the call succeeds. */
export async function errorOf(call: Promise<unknown>, what: string): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new CheckFailed(`${what}: it was accepted`);
}

/** A call that must be refused with a status and, where `field` is given, with a violation of that field. */
export async function mustRefuse(
  call: Promise<unknown>,
  what: string,
  status: string,
  field?: string,
): Promise<RpcError> {
  const error = await errorOf(call, what);
  must(error.status === status, `${what}: expected ${status}, got ${error.status} (${error.message})`);
  if (field === undefined) return error;
  const fields = error.violations.map((violation) => violation.field);
  must(fields.length > 0, `${what}: ${status} without a BadRequest detail that names ${field}`);
  must(
    fields.some((name) => name === field || name.startsWith(`${field}.`) || name.startsWith(`${field}[`)),
    `${what}: expected a violation of ${field}, got ${fields.join(", ")}`,
  );
  return error;
}
