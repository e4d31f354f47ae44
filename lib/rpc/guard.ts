/**
 * @file Server interceptor that decides, by headers alone, whether a call may go on: before its message is read.
 */
import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { assertRole, type Role, type TokenStore } from "./auth.js";
import { callState } from "./call-state.js";
import { DrainingError, KitError } from "./errors.js";
import type { ServerLimits } from "./limits.js";
import { toOutgoingStatus } from "./status.js";

/** Who may call a method: anyone, or holders of a token with the role. */
export type Access = "open" | Role;

/** What the guard checks. */
export interface GuardOptions {
  /** Access by path. A path that is not listed needs `admin`. */
  access: ReadonlyMap<string, Access>;
  /** Known tokens; undefined asks for none. */
  tokens: TokenStore | undefined;
  limits: ServerLimits;
  /** True refuses every call that is not open: the server shuts down. */
  isDraining: () => boolean;
}

/** The interceptor. */
export function guardCalls(options: GuardOptions): ServerInterceptor {
  return (method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            const refusal = judge(method.path, metadata, options);
            if (refusal) call.sendStatus(toOutgoingStatus(refusal, callState(metadata).requestId).status);
            else forward(metadata);
          },
        });
      },
    });
}

function judge(path: string, metadata: Metadata, options: GuardOptions): unknown {
  const access = options.access.get(path) ?? "admin";
  try {
    assertMetadataFits(metadata, options.limits);
    if (access === "open") return undefined;
    if (options.isDraining()) return new DrainingError();
    if (options.tokens) {
      const role = options.tokens.roleOf(metadata);
      assertRole(role, access);
      callState(metadata).role = role;
    }
    return undefined;
  } catch (error) {
    return error;
  }
}

function assertMetadataFits(metadata: Metadata, limits: ServerLimits): void {
  let total = 0;
  for (const [name, values] of Object.entries(metadata.toHttp2Headers())) {
    const list = Array.isArray(values) ? values : [values];
    const size = list.reduce<number>((sum, value) => sum + Buffer.byteLength(String(value)), 0);
    if (name === "authorization" && size > limits.maxAuthorizationBytes) {
      throw tooLarge("authorization", size, limits.maxAuthorizationBytes);
    }
    total += name.length + size;
  }
  if (total > limits.maxMetadataBytes) throw tooLarge("metadata", total, limits.maxMetadataBytes);
}

function tooLarge(what: string, actual: number, max: number): KitError {
  return new KitError("METADATA_TOO_LARGE", `${what}: has ${actual} bytes; accepted: at most ${max}`, {
    facts: { max: String(max), actual: String(actual) },
  });
}
