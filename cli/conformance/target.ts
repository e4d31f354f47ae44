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
  /** Items that run beside those that wait; where it is not published, as many as one call may have. */
  readonly runningLimit: string;
  /** A call that must be refused for its fields. */
  refused(): Call;
}

/** How a server is reached, and where its spans can be read. */
export interface TargetOptions extends ClientOptions {
  /** File in which the server's spans arrive as OTLP JSON lines. */
  readonly traceFile?: string | undefined;
}

/** A server, and the service that is checked on it. */
export class Target {
  readonly #clients = new Map<string, Client<GenServiceMethods>>();
  readonly #options: TargetOptions;

  constructor(
    readonly address: string,
    readonly subject: Subject,
    options: TargetOptions,
    /** What GetInfo says of the server; undefined if it says nothing. */
    readonly server: ServerInfo | undefined,
  ) {
    this.#options = { ...options, retry: false, healthCheck: false };
  }

  /** Longest wait for one answer. */
  get deadlineMs(): number {
    return this.#options.deadlineMs;
  }

  /** File in which the server's spans arrive. */
  get traceFile(): string | undefined {
    return this.#options.traceFile;
  }

  /** Whether calls carry a bearer token. */
  get hasToken(): boolean {
    return this.#options.token !== undefined;
  }

  /** Makes calls with another token, or none. */
  async withToken<T>(token: string | undefined, use: (other: Target) => Promise<T>): Promise<T> {
    const other = new Target(this.address, this.subject, { ...this.#options, token }, this.server);
    try {
      return await use(other);
    } finally {
      other.close();
    }
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

  /** Asks something that costs nothing, behind what was sent before; whatever the answer. */
  async roundTrip(): Promise<void> {
    await this.send({ method: "getInfo", request: {} }).catch(() => undefined);
  }

  /** Makes a call of the service under test by hand; `message` replaces the request's bytes, `padTo` makes them so many. */
  raw(call: Call, { padTo, ...more }: Partial<RawCall> & { padTo?: number } = {}): Promise<RawOutcome> {
    const service = this.subject.desc as unknown as DescService;
    const method = service.methods.find(({ localName }) => localName === call.method);
    if (!method) throw new Error(`${service.typeName} has no method ${call.method}`);
    const message = encodeMessage(method.input, call.request as MessageInitShape<DescMessage>);
    return rawCall(this.address, this.#options, {
      path: methodPath(method),
      message: padTo === undefined ? message : padded(message, padTo),
      timeoutMs: this.deadlineMs,
      ...more,
    });
  }

  /** A limit that GetInfo publishes; undefined if it does not. */
  limit(name: string): number | undefined {
    const value = this.server?.limits[name];
    return value === undefined || value <= 0n ? undefined : Number(value);
  }

  /** As many of these items as one call may have. */
  few<T>(items: readonly T[]): T[] {
    return items.slice(0, this.limit(this.subject.itemsLimit));
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

/** A field that no message has: receivers skip what they do not know. */
const UNKNOWN_FIELD = 15_000;

/** A message made `bytes` long by a field that its receiver does not know. */
function padded(message: Uint8Array, bytes: number): Uint8Array {
  const tag = varint(UNKNOWN_FIELD * 8 + 2); // wire type 2: length-delimited
  const sizeOfLength = varint(bytes).length;
  const length = bytes - message.byteLength - tag.length - sizeOfLength;
  const head = Buffer.from([...tag, ...varint(length, sizeOfLength)]);
  return Buffer.concat([message, head, Buffer.alloc(length)]);
}

/** A base-128 varint of at least so many bytes. */
function varint(value: number, least = 1): number[] {
  return value < 128 && least <= 1
    ? [value]
    : [(value % 128) + 128, ...varint(Math.floor(value / 128), least - 1)];
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
