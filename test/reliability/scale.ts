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
    /** Size of the models: what a refusal costs must be little beside what a call costs, as it is with models that people serve. */
    readonly model: { readonly layers: number; readonly width: number };
    /** Tokens that a call generates on average; half to one and a half times as many. */
    readonly newTokens: number;
    /** Least goodput, as a share of the peak. */
    readonly goodput: number;
    /** By how much bounds of time are stretched: a few seconds on a machine that runs other tests too have a coarse 99th percentile. */
    readonly slack: number;
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
  overload: {
    peakMs: 20_000,
    loadMs: 60_000,
    deadlineMs: 10_000,
    model: { layers: 6, width: 384 },
    newTokens: 60,
    goodput: 0.9,
    slack: 1,
  },
  cancellations: 1000,
  swaps: 200,
  kills: 20,
  fuzz: { requests: 100_000, garbage: 5000, files: 20_000 },
  drains: 5,
};

const SHORT: Scale = {
  full: false,
  overload: {
    peakMs: 2500,
    loadMs: 6000,
    deadlineMs: 3000,
    model: { layers: 4, width: 256 },
    newTokens: 24,
    goodput: 0.5,
    slack: 6,
  },
  cancellations: 100,
  swaps: 20,
  kills: 2,
  fuzz: { requests: 2000, garbage: 100, files: 600 },
  drains: 1,
};

/** The sizes of this process. */
export const scale: Scale = process.env.RLHF_RELIABILITY === "full" ? FULL : SHORT;
