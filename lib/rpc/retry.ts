/**
 * @file When a failed call is sent again, and after how long. A call may be repeated if the method has no side effects,
 * or if the server certainly did nothing for it: refused it, or was never reached.
 */
import { codeRule } from "./codes.js";
import type { RpcError } from "./rpc-error.js";

/** Retries of one client. */
export interface RetryPolicy {
  /** Sends of one call, the first included. Default: 4. */
  maxAttempts: number;
  /** Delay before the second send, in milliseconds; doubles from send to send, with full jitter. Default: 100. */
  initialMs: number;
  /** Longest delay, in milliseconds. Default: 2000. */
  maxMs: number;
  /**
   * Stops retries while most calls fail: each failure takes one of `maxTokens`, each success gives back `ratio`, and
   * with half of them gone nothing is retried. Default: 10 and 0.1; false for none.
   */
  throttle: { maxTokens: number; ratio: number } | false;
}

/** The default policy. */
export const defaultRetry: RetryPolicy = {
  maxAttempts: 4,
  initialMs: 100,
  maxMs: 2000,
  throttle: { maxTokens: 10, ratio: 0.1 },
};

/** Delay before send `attempt + 1`: between half of and the whole exponential step, in milliseconds. */
export function backoffMs(
  attempt: number,
  { initialMs, maxMs }: Pick<RetryPolicy, "initialMs" | "maxMs">,
  random = Math.random,
): number {
  const step = Math.min(maxMs, initialMs * 2 ** Math.min(attempt - 1, 30));
  return step * (0.5 + random() / 2);
}

/** True if no server can have worked on the call: it was refused, or never left. */
export function wasNotProcessed(error: RpcError): boolean {
  if (error.reason !== undefined && codeRule(error.reason)?.refused) return true;
  // grpc-js says so when no connection could be made; there is no code for it
  return (
    error.status === "UNAVAILABLE" && /No connection established|Name resolution failed/.test(error.message)
  );
}

/** Decides on the retries of one client. */
export class Retrier {
  private tokens: number;

  constructor(readonly policy: RetryPolicy) {
    this.tokens = policy.throttle ? policy.throttle.maxTokens : 0;
  }

  /** Notes a success. */
  succeeded(): void {
    const { throttle } = this.policy;
    if (throttle) this.tokens = Math.min(throttle.maxTokens, this.tokens + throttle.ratio);
  }

  /**
   * Delay in milliseconds before the call is sent again after its send number `attempt` failed; undefined if it
   * must not be. The server's own delay wins over ours.
   */
  delayAfter(error: RpcError, attempt: number, repeatable: boolean): number | undefined {
    const { maxAttempts, throttle } = this.policy;
    if (error.status !== "UNAVAILABLE" && error.status !== "RESOURCE_EXHAUSTED") return undefined;
    if (throttle) this.tokens = Math.max(0, this.tokens - 1);
    if (attempt >= maxAttempts) return undefined;
    if (throttle && this.tokens <= throttle.maxTokens / 2) return undefined;
    if (!repeatable && !wasNotProcessed(error)) return undefined;
    if (error.pushbackMs !== undefined) return error.pushbackMs < 0 ? undefined : error.pushbackMs;
    return Math.max(backoffMs(attempt, this.policy), error.retryDelayMs ?? 0);
  }
}
