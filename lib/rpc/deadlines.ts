/**
 * @file Deadlines: a default where the caller named none, none so long that timers overflow, and whether a call can be done by its
 * deadline at all. grpc-js computes
 * `timeout | 0`, so that a timeout above 24.8 days becomes negative and the call fails at once; the header is
 * therefore clamped before grpc-js reads it.
 */
import type { Http2Server, IncomingHttpHeaders } from "node:http2";
import type { Server } from "@grpc/grpc-js";

/** Longest deadline that a caller gets, in milliseconds: 24 days. */
export const maxDeadlineMs = 24 * 24 * 3600 * 1000;

const unitMs: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** A `grpc-timeout` header no longer than 24 days. What is not a timeout is returned as it is, for grpc-js to refuse. */
export function clampTimeoutHeader(header: string): string {
  const match = /^(\d{1,8})([HMSmun])$/.exec(header);
  const ms = match ? Number(match[1]) * (unitMs[match[2] ?? ""] ?? Number.NaN) : Number.NaN;
  return ms > maxDeadlineMs ? `${maxDeadlineMs / 1000}S` : header;
}

/**
 * Clamps the timeouts that arrive at a bound server. Uses grpc-js's own list of HTTP/2 servers, for which it has no
 * public name; if a later version hides it, calls only lose the clamp.
 */
export function clampTimeouts(server: Server): void {
  const { http2Servers } = server as unknown as { http2Servers?: Map<Http2Server, unknown> };
  for (const http2Server of http2Servers?.keys() ?? []) {
    http2Server.prependListener("stream", (_stream: unknown, headers: IncomingHttpHeaders) => {
      const timeout = headers["grpc-timeout"];
      if (typeof timeout === "string") headers["grpc-timeout"] = clampTimeoutHeader(timeout);
    });
  }
}

/** The earlier of the caller's deadline and the default, as epoch milliseconds; undefined where there is neither. */
export function effectiveDeadline(
  callers: Date | number,
  defaultMs: number | undefined,
  now = Date.now(),
): number | undefined {
  const named = Number(callers);
  if (Number.isFinite(named)) return Math.min(named, now + maxDeadlineMs);
  return defaultMs === undefined ? undefined : now + defaultMs;
}

/**
 * Share of the time until its deadline that a call may be expected to wait in a queue. Estimates err, and what is computed too late was
 * computed for nobody: with all of the time allowed, an overloaded server would compute mostly that.
 */
const WAIT_SHARE = 0.5;

/** Whether a call that is expected to wait `waitMs` and to take `ownMs` itself should be queued, for a deadline in epoch milliseconds. */
export function worthQueueing(
  waitMs: number,
  ownMs: number,
  deadline: number | undefined,
  now = Date.now(),
): boolean {
  return deadline === undefined || waitMs <= WAIT_SHARE * (deadline - now - ownMs);
}
