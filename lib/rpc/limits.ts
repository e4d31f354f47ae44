/** @file What a server accepts at most, with defaults, and as grpc-js channel options. */
import type { ServerOptions as GrpcServerOptions } from "@grpc/grpc-js";

/** Limits of one server. Times in milliseconds, sizes in bytes. */
export interface ServerLimits {
  /** Largest request message. Default: 4 MiB. */
  maxReceiveBytes: number;
  /** Largest response message. Default: 16 MiB. */
  maxSendBytes: number;
  /** Calls at once on one connection. Default: 256. */
  maxConcurrentStreams: number;
  /** All metadata of a call, names and values. Default: 16 KiB. */
  maxMetadataBytes: number;
  /** The authorization header. Default: 8 KiB. */
  maxAuthorizationBytes: number;
  /** Deadline of a call that names none. Default: 60 s. */
  defaultDeadlineMs: number;
  /** The same for single methods, by name in code: `{ generate: 300_000 }`. */
  methodDeadlinesMs: Record<string, number>;
  /** Age at which a connection is asked to reconnect, so that clients spread again. Default: 10 min; none on loopback. */
  maxConnectionAgeMs: number;
  /** Time that calls on an aged connection may still take. Default: 2 min, or the longest default deadline. */
  maxConnectionAgeGraceMs: number;
  /** Time after which a connection without calls is closed. Default: 15 min. */
  maxConnectionIdleMs: number;
  /** Interval of pings that find dead connections. Default: 60 s. */
  keepaliveMs: number;
  /** Time that a ping may go unanswered. Default: 20 s. */
  keepaliveTimeoutMs: number;
}

const mebi = 1024 * 1024;

/** Fills in the defaults; `fallback` holds other defaults. */
export function resolveLimits(
  given: Partial<ServerLimits> = {},
  fallback: Partial<ServerLimits> = {},
): ServerLimits {
  const defaults: ServerLimits = {
    maxReceiveBytes: 4 * mebi,
    maxSendBytes: 16 * mebi,
    maxConcurrentStreams: 256,
    maxMetadataBytes: 16 * 1024,
    maxAuthorizationBytes: 8 * 1024,
    defaultDeadlineMs: 60_000,
    methodDeadlinesMs: {},
    maxConnectionAgeMs: 600_000,
    maxConnectionAgeGraceMs: 120_000,
    maxConnectionIdleMs: 900_000,
    keepaliveMs: 60_000,
    keepaliveTimeoutMs: 20_000,
  };
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const limits: ServerLimits = { ...defaults, ...fallback, ...set };
  if (given.maxConnectionAgeGraceMs === undefined) {
    const longest = Math.max(limits.defaultDeadlineMs, ...Object.values(limits.methodDeadlinesMs));
    limits.maxConnectionAgeGraceMs = Math.max(defaults.maxConnectionAgeGraceMs, longest);
  }
  return limits;
}

/** The limits that grpc-js enforces. */
export function grpcServerOptions(limits: ServerLimits): GrpcServerOptions {
  return {
    "grpc.max_receive_message_length": limits.maxReceiveBytes,
    "grpc.max_send_message_length": limits.maxSendBytes,
    "grpc.max_concurrent_streams": limits.maxConcurrentStreams,
    "grpc.max_connection_age_ms": limits.maxConnectionAgeMs,
    "grpc.max_connection_age_grace_ms": limits.maxConnectionAgeGraceMs,
    "grpc.max_connection_idle_ms": limits.maxConnectionIdleMs,
    "grpc.keepalive_time_ms": limits.keepaliveMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
  };
}
