/**
 * @file From any thrown value to the status that the caller sees. Causes, stacks and texts of unexpected errors stay
 * on the server.
 */
import { Metadata, status } from "@grpc/grpc-js";
import { type CodeRule, codeRule } from "./codes.js";
import type { ErrorFacts, Violation } from "./errors.js";
import { RpcError } from "./rpc-error.js";
import { type Details, detailsKey, encodeDetails, shorten } from "./status-details.js";

/** What a client reads when something unexpected happened. */
const internalText = "internal error; the server's log has the cause under the request id";

const maxMessageChars = 1024;

/** A status ready to send, and what the log and the metrics should know. */
export interface OutgoingStatus {
  status: { code: status; details: string; metadata: Metadata };
  /** The stable code; INTERNAL for whatever was not expected. */
  code: string;
  /** True if the error was not an expected one: the log then needs its stack. */
  unexpected: boolean;
}

/** Fields that an expected error of any room may carry. */
interface ExpectedError extends Error, ErrorFacts {
  code: string;
  violations?: Violation[];
  /** What VERSION_NOT_HELD and the like are about, e.g. `weights`. */
  subject?: string;
  /** Name of what was not found. */
  resource?: string;
}

/** Maps a thrown value to a status with details. `requestId` goes into RequestInfo. */
export function toOutgoingStatus(thrown: unknown, requestId?: string): OutgoingStatus {
  const error = expected(thrown);
  const rule = error ? codeRule(error.code) : undefined;
  if (!error || !rule || rule.status === status.INTERNAL) {
    const details = { code: status.INTERNAL, message: internalText, reason: "INTERNAL", requestId };
    return { status: build(details), code: error?.code ?? "INTERNAL", unexpected: true };
  }
  return { status: build(describe(error, rule, requestId), rule), code: error.code, unexpected: false };
}

/**
 * The error as one of our table. What a downstream server said about OUR request to it is no fault of our caller, so of
 * those only "come back later", "too late" and "cancelled" pass on.
 */
function expected(thrown: unknown): ExpectedError | undefined {
  if (!(thrown instanceof Error) || !codeRule((thrown as { code?: unknown }).code)) return undefined;
  if (thrown instanceof RpcError && !passesOn.has(thrown.status)) return undefined;
  return thrown as ExpectedError;
}

const passesOn = new Set(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"]);

function describe(error: ExpectedError, rule: CodeRule, requestId: string | undefined): Details {
  const details: Details = {
    code: rule.status,
    message: shorten(error.message, maxMessageChars),
    reason: error.reason ?? error.code,
    requestId,
  };
  if (error.facts) details.facts = error.facts;
  if (error.violations) details.violations = error.violations;
  if (rule.retryAfterMs !== undefined) details.retryAfterMs = error.retryAfterMs ?? rule.retryAfterMs;
  if (rule.status === status.FAILED_PRECONDITION) {
    details.precondition = { type: error.code, subject: error.subject ?? "server" };
  }
  if (rule.status === status.NOT_FOUND) {
    const type = error.code.replace(/^UNKNOWN_/, "").toLowerCase();
    details.resource = { type, name: error.resource ?? "" };
  }
  return details;
}

function build(details: Details, rule?: CodeRule): OutgoingStatus["status"] {
  const metadata = new Metadata();
  metadata.set(detailsKey, encodeDetails(details));
  if (rule?.pushback === "never") metadata.set("grpc-retry-pushback-ms", "-1");
  if (rule?.pushback === "delay") {
    metadata.set("grpc-retry-pushback-ms", String(Math.round(details.retryAfterMs ?? 0)));
  }
  return { code: details.code, details: details.message, metadata };
}
