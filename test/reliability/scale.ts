/**
 * @file How large the reliability tests are: short with every `npm test`, full with `npm run test:reliability`. The only place that asks
 * which.
 */

/** Sizes of the tests. Times in milliseconds. */
export interface Scale {
  readonly full: boolean;
  readonly overload: {
    /** Closed loop in which the capacity is measured. */
    readonly peakMs: number;
    /** Open loop at three times the capacity. */
    readonly loadMs: number;
    /** Deadline of each call. */
    readonly deadlineMs: number;
  };
  readonly cancellations: number;
  readonly swaps: number;
  /** Of each worker and of each service. */
  readonly kills: number;
  readonly fuzz: {
    /** Random and mutated requests, over all methods. */
    readonly requests: number;
    /** Connections that speak garbage. */
    readonly garbage: number;
    /** Damaged checkpoints, tokenizers and run files. */
    readonly files: number;
  };
  /** Drains of each service under load. */
  readonly drains: number;
}

const FULL: Scale = {
  full: true,
  overload: { peakMs: 8000, loadMs: 60_000, deadlineMs: 10_000 },
  cancellations: 1000,
  swaps: 200,
  kills: 20,
  fuzz: { requests: 100_000, garbage: 5000, files: 20_000 },
  drains: 5,
};

const SHORT: Scale = {
  full: false,
  overload: { peakMs: 2000, loadMs: 6000, deadlineMs: 3000 },
  cancellations: 100,
  swaps: 20,
  kills: 2,
  fuzz: { requests: 2000, garbage: 100, files: 600 },
  drains: 1,
};

/** The sizes of this process. */
export const scale: Scale = process.env.RLHF_RELIABILITY === "full" ? FULL : SHORT;
