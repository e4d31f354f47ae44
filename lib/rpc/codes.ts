/**
 * @file The one table from an error's stable `code` to its gRPC status, as docs and clients know it.
 * Any Error with a `code` of this table is expected; everything else is a bug and becomes INTERNAL without detail.
 */
import { status } from "@grpc/grpc-js";

/** What a client is told about an error. */
export interface CodeRule {
  /** gRPC status. */
  status: status;
  /** Default delay before a retry is worth trying, in milliseconds; absent where a retry would fail the same way. */
  retryAfterMs?: number;
  /**
   * `grpc-retry-pushback-ms` trailer: "delay" sends the delay, "never" sends −1 so that clients with a retry policy for
   * the status do not retry.
   */
  pushback?: "delay" | "never";
  /** True if the server certainly did no work for the call, so that any call may be sent again. */
  refused?: boolean;
}

/** Codes and rules. The code is also the `reason` of the ErrorInfo detail, unless the error names a finer one. */
export const codeTable = {
  INVALID_FIELD: { status: status.INVALID_ARGUMENT },
  UNDECODABLE: { status: status.INVALID_ARGUMENT },
  QUEUE_FULL: { status: status.RESOURCE_EXHAUSTED, retryAfterMs: 1000, pushback: "delay", refused: true },
  MESSAGE_TOO_LARGE: { status: status.RESOURCE_EXHAUSTED, pushback: "never" },
  RESPONSE_TOO_LARGE: { status: status.RESOURCE_EXHAUSTED, pushback: "never" },
  METADATA_TOO_LARGE: { status: status.RESOURCE_EXHAUSTED, pushback: "never" },
  NOT_READY: { status: status.UNAVAILABLE, retryAfterMs: 1000, refused: true },
  DRAINING: { status: status.UNAVAILABLE, retryAfterMs: 1000, refused: true },
  WORKER_CRASHED: { status: status.UNAVAILABLE, retryAfterMs: 1000 },
  UNAVAILABLE: { status: status.UNAVAILABLE, retryAfterMs: 1000 },
  VERSION_NOT_HELD: { status: status.FAILED_PRECONDITION },
  DEVICE_UNAVAILABLE: { status: status.FAILED_PRECONDITION },
  WRONG_STATE: { status: status.FAILED_PRECONDITION },
  WEIGHTS_CONFLICT: { status: status.ABORTED },
  UNKNOWN_MODEL: { status: status.NOT_FOUND },
  UNKNOWN_RUN: { status: status.NOT_FOUND },
  UNKNOWN_SERVICE: { status: status.NOT_FOUND },
  UNAUTHENTICATED: { status: status.UNAUTHENTICATED },
  FORBIDDEN: { status: status.PERMISSION_DENIED },
  WEIGHTS_CORRUPT: { status: status.DATA_LOSS },
  CHECKPOINT_CORRUPT: { status: status.DATA_LOSS },
  DEADLINE: { status: status.DEADLINE_EXCEEDED },
  CANCELLED: { status: status.CANCELLED },
  UNIMPLEMENTED: { status: status.UNIMPLEMENTED },
  NON_FINITE: { status: status.INTERNAL },
  INTERNAL: { status: status.INTERNAL },
} as const satisfies Record<string, CodeRule>;

/** A stable error code. */
export type ErrorCode = keyof typeof codeTable;

/** The rule of a code; undefined for a code that is not ours. */
export function codeRule(code: unknown): CodeRule | undefined {
  return typeof code === "string" && Object.hasOwn(codeTable, code)
    ? codeTable[code as ErrorCode]
    : undefined;
}

/** gRPC's name of a status number: `INVALID_ARGUMENT` for 3. A number outside the standard reads `UNKNOWN`. */
export function statusName(code: number): string {
  return status[code] ?? "UNKNOWN";
}
