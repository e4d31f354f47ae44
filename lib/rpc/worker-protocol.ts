/**
 * @file What a ModelHost and its worker process say to each other over IPC ("advanced" serialization: typed arrays and
 * maps travel as they are).
 */
import type { Violation } from "./errors.js";

/** An error in transit. */
export interface WireError {
  name: string;
  message: string;
  stack?: string;
  /** Stable code; absent for an unexpected error. */
  code?: string;
  reason?: string;
  facts?: Record<string, string>;
  retryAfterMs?: number;
  violations?: Violation[];
  subject?: string;
  resource?: string;
}

/** From the host. */
export type ToWorker =
  | { type: "init"; config: unknown; heartbeatMs: number }
  | {
      type: "call";
      id: number;
      method: string;
      payload: unknown;
      deadline: number | undefined;
      traceparent: string | undefined;
    }
  | { type: "cancel"; id: number };

/** From the worker. */
export type FromWorker =
  | { type: "ready"; info: unknown }
  | { type: "initFailed"; error: WireError }
  | { type: "result"; id: number; value: unknown }
  | { type: "error"; id: number; error: WireError }
  | { type: "emit"; id: number; value: unknown }
  | { type: "event"; name: string; value: unknown }
  | { type: "beat" };

/** Takes from an error what the other side needs, its stack for the log. */
export function toWire(thrown: unknown): WireError {
  if (!(thrown instanceof Error)) return { name: "Error", message: String(thrown) };
  const { name, message, stack } = thrown;
  const { code, reason, facts, retryAfterMs, violations, subject, resource } = thrown as Error &
    Partial<WireError>;
  const expected =
    typeof code === "string" ? { code, reason, facts, retryAfterMs, violations, subject, resource } : {};
  return { name, message, stack, ...expected };
}

/** An error that a worker process threw: its code and facts as they were, its stack in the log only. */
export class WorkerError extends Error {
  constructor({ name, message, stack, ...facts }: WireError) {
    super(message);
    this.name = name;
    if (stack !== undefined) this.stack = stack;
    for (const [key, value] of Object.entries(facts)) {
      if (value !== undefined) Object.assign(this, { [key]: value });
    }
  }
}
