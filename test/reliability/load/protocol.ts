/** @file What a test and its load generator say to each other. */
import type { Percentiles } from "../figures.js";

/** Load on one server. Times in milliseconds. */
export interface LoadJob {
  readonly address: string;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Prepared requests, used in turn. */
  readonly frames: readonly Uint8Array[];
  readonly deadlineMs: number;
  readonly durationMs: number;
  /** Closed loop: so many callers, each calling again once it has its answer. */
  readonly callers?: number;
  /** Open loop: so many calls a second, arriving at random (Poisson), whatever becomes of those before. */
  readonly rate?: number;
  readonly seed: number;
  readonly connections: number;
  /** Asks for the server's health so often, on a connection of its own; 0 for not. */
  readonly healthEveryMs: number;
  /** Part at the beginning that does not count for the goodput. */
  readonly settleMs: number;
}

/** What became of it. */
export interface LoadReport {
  readonly sent: number;
  /** By "OK" or "STATUS REASON", or how the call ended without a status. */
  readonly outcomes: Readonly<Record<string, Percentiles>>;
  /** Successes that came between settling and the last arrival, a second. */
  readonly goodput: number;
  readonly health: Percentiles & { readonly failures: readonly string[] };
  /** CPU time that the generator took, as a share of one core. */
  readonly cpu: number;
  /** 99th percentile of how late the generator's own timers were, in milliseconds. */
  readonly latenessMs: number;
}
