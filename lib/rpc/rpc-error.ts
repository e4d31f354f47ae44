/** @file What a client throws: the status of a failed call with its details decoded. */
import type { Message } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import { codeRule, statusName } from "./codes.js";
import type { Violation } from "./errors.js";
import { decodeDetails, detailsKey, errorDomain } from "./status-details.js";

/** A failed call. */
export class RpcError extends Error {
  /** gRPC status by name: `INVALID_ARGUMENT`. */
  readonly status: string;
  /** gRPC status by number: 3. */
  readonly grpcCode: number;
  /** Stable code of rlhf-mesh, as in codes.ts, if the server sent one; else the one nearest to the status. */
  readonly code: string;
  /** ErrorInfo.reason, of whatever domain; undefined if the server sent none. */
  readonly reason: string | undefined;
  /** What is wrong with which field of the request. */
  readonly violations: Violation[];
  /** Facts for machines, from ErrorInfo. */
  readonly facts: Record<string, string>;
  /** When the server wants to be asked again, in milliseconds. */
  readonly retryDelayMs: number | undefined;
  /** `grpc-retry-pushback-ms`: below 0 forbids a retry. */
  readonly pushbackMs: number | undefined;
  /** Id under which the server logged the call. */
  readonly requestId: string | undefined;
  /** All details of standard types. */
  readonly details: Message[];
  /** Method, `/package.Service/Method`. */
  readonly method: string;
  /** Address that answered or could not be reached. */
  readonly address: string;

  constructor(error: ServiceError, method: string, address: string) {
    super(`${method} at ${address}: ${statusName(error.code)}: ${error.details}`, { cause: error });
    this.name = "RpcError";
    this.method = method;
    this.address = address;
    this.grpcCode = error.code;
    this.status = statusName(error.code);
    const trailer = error.metadata?.get(detailsKey)[0];
    const decoded = decodeDetails(typeof trailer === "string" ? undefined : trailer);
    this.reason = decoded.reason;
    this.violations = decoded.violations;
    this.facts = decoded.facts;
    this.retryDelayMs = decoded.retryDelayMs;
    this.requestId = decoded.requestId;
    this.details = decoded.all;
    const pushback = error.metadata?.get("grpc-retry-pushback-ms")[0];
    this.pushbackMs = typeof pushback === "string" && /^-?\d+$/.test(pushback) ? Number(pushback) : undefined;
    this.code = stableCode(error.code, decoded.domain === errorDomain ? decoded.reason : undefined, decoded);
  }

  /** The stated delay before a retry, for code that treats all errors of the table alike. */
  get retryAfterMs(): number | undefined {
    return this.retryDelayMs;
  }
}

const nearest: Record<string, string> = {
  INVALID_ARGUMENT: "INVALID_FIELD",
  OUT_OF_RANGE: "INVALID_FIELD",
  RESOURCE_EXHAUSTED: "QUEUE_FULL",
  UNAVAILABLE: "UNAVAILABLE",
  DEADLINE_EXCEEDED: "DEADLINE",
  CANCELLED: "CANCELLED",
  UNAUTHENTICATED: "UNAUTHENTICATED",
  PERMISSION_DENIED: "FORBIDDEN",
  UNIMPLEMENTED: "UNIMPLEMENTED",
};

/** Our reason where the server sent one; a finer reason such as INPUT_TOO_LONG belongs to its status's code. */
function stableCode(
  grpcCode: number,
  reason: string | undefined,
  { violations }: { violations: Violation[] },
): string {
  if (reason && codeRule(reason)?.status === grpcCode) return reason;
  if (violations.length > 0) return "INVALID_FIELD";
  return nearest[statusName(grpcCode)] ?? "INTERNAL";
}
