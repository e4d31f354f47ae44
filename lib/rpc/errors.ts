/**
 * @file Expected failures of the server kit and its clients. Each has a stable `code` from codes.ts; other rooms define
 * their own classes with the same codes, and status.ts treats them alike.
 */
import type { ErrorCode } from "./codes.js";

/** What is wrong with one field of a request. */
export interface Violation {
  /** Path in proto names, elements by index: `texts[3]`, `options.top_p`. */
  field: string;
  /** What arrived and what would be accepted. */
  description: string;
}

/** Facts that any expected error may carry; the kit sends them as details. */
export interface ErrorFacts {
  /** Finer reason for machines, upper snake case, e.g. `INPUT_TOO_LONG`. Default: the code. */
  reason?: string;
  /** Facts for machines, sent as ErrorInfo.metadata: `{ max: "512", actual: "733" }`. */
  facts?: Record<string, string>;
  /** When a retry is worth trying, in milliseconds. */
  retryAfterMs?: number;
  /** What went wrong below; logged, never sent. */
  cause?: unknown;
}

/** Base of the kit's own errors. */
export class KitError extends Error {
  readonly code: ErrorCode;
  readonly reason?: string;
  readonly facts?: Record<string, string>;
  readonly retryAfterMs?: number;

  constructor(code: ErrorCode, message: string, { reason, facts, retryAfterMs, cause }: ErrorFacts = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    if (reason !== undefined) this.reason = reason;
    if (facts !== undefined) this.facts = facts;
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs;
  }
}

/** A request with wrong or missing fields. INVALID_ARGUMENT with one violation a field. */
export class InvalidFieldError extends KitError {
  readonly violations: Violation[];

  constructor(violations: Violation[], facts?: ErrorFacts) {
    const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
    super("INVALID_FIELD", `${violations[0]?.field}: ${violations[0]?.description}${more}`, facts);
    this.violations = violations;
  }
}

/** Bytes that are no message of the method's type. INVALID_ARGUMENT. */
export class UndecodableError extends KitError {
  constructor(type: string, cause: unknown) {
    super("UNDECODABLE", `the bytes received are not a valid ${type}`, { cause });
  }
}

/** The queue has no room. RESOURCE_EXHAUSTED; nothing was computed. */
export class QueueFullError extends KitError {
  constructor(message: string, retryAfterMs: number) {
    super("QUEUE_FULL", message, { retryAfterMs });
  }
}

/** Still loading, or waiting for a worker. UNAVAILABLE; nothing was computed. */
export class NotReadyError extends KitError {
  constructor(message: string, facts?: ErrorFacts) {
    super("NOT_READY", message, facts);
  }
}

/** Shutting down. UNAVAILABLE; nothing was computed. */
export class DrainingError extends KitError {
  constructor(message = "the server is shutting down") {
    super("DRAINING", message);
  }
}

/** The process that computes died with the call inside. UNAVAILABLE. */
export class WorkerCrashedError extends KitError {
  constructor(message: string, facts?: ErrorFacts) {
    super("WORKER_CRASHED", message, facts);
  }
}

/** No credentials, or none that are known. UNAUTHENTICATED. */
export class UnauthenticatedError extends KitError {
  constructor(message: string) {
    super("UNAUTHENTICATED", message);
  }
}

/** Credentials of a role that may not do this. PERMISSION_DENIED. */
export class ForbiddenError extends KitError {
  constructor(message: string) {
    super("FORBIDDEN", message);
  }
}

/** The deadline passed, or cannot be met any more. DEADLINE_EXCEEDED. */
export class DeadlineError extends KitError {
  constructor(message = "the deadline passed") {
    super("DEADLINE", message);
  }
}

/** The caller went away. CANCELLED. */
export class CancelledError extends KitError {
  constructor(message = "the caller cancelled the call") {
    super("CANCELLED", message);
  }
}
