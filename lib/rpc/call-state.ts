/**
 * @file What the kit knows about one call on the server, shared by the interceptors and the handler. They find it by
 * the call's metadata object, which grpc-js hands from one to the next.
 */
import { randomUUID } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import type { Context } from "@opentelemetry/api";
import type { Role } from "./auth.js";
import type { Logger } from "./log.js";

/** One call, from its first header to its last. */
export interface CallState {
  /** `package.Service/Method`. */
  readonly method: string;
  /** The caller's x-request-id, or one of ours. */
  readonly requestId: string;
  /** Address of the caller. */
  readonly peer: string;
  /** Context with the server span in it, or what the caller sent where nothing is traced. */
  readonly traceContext: Context;
  /** Logger that names the call. */
  readonly log: Logger;
  /** Set by the guard once the caller is known; undefined where no tokens are asked for. */
  role?: Role;
  /** Ends a call that lives until the server drains. */
  end?: () => void;
}

const states = new WeakMap<Metadata, CallState>();

/** Files a state under the metadata of its call. */
export function setCallState(metadata: Metadata, state: CallState): void {
  states.set(metadata, state);
}

/** The state of the call that this metadata came with. */
export function callState(metadata: Metadata): CallState {
  const state = states.get(metadata);
  if (!state) throw new Error("a call without state: the observing interceptor is missing");
  return state;
}

/** The id that the caller chose, if it is safe to log; else a new one. */
export function requestIdOf(metadata: Metadata): string {
  const given = metadata.get("x-request-id")[0];
  return typeof given === "string" && /^[\w.:-]{1,64}$/.test(given) ? given : randomUUID();
}
