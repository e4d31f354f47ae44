/**
 * @file What is said about repeated measurements: median, spread, quantiles, and whether a series grows. Pure.
 */

/** Median and spread of one quantity. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** A straight line through a series. */
export interface Trend {
  /** Growth per step, in the series' unit. */
  readonly slope: number;
  /** Standard error of the slope. */
  readonly standardError: number;
}

/** The value below which the share `q` (0 to 1) of the values lies, interpolated between neighbours. Throws RangeError on none. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError("quantile: expected at least one value, got none");
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** The middle value; of an even number, the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Median, smallest and largest. */
export function summarize(samples: readonly number[]): Summary {
  return { median: median(samples), min: quantile(samples, 0), max: quantile(samples, 1) };
}

/** Means of consecutive blocks; values that fill no block at the start are left out. */
export function blockMeans(values: readonly number[], size: number): number[] {
  const means: number[] = [];
  for (let start = values.length % size; start < values.length; start += size) {
    means.push(values.slice(start, start + size).reduce((sum, value) => sum + value, 0) / size);
  }
  return means;
}

/** Least degrees of freedom of a slope's error, however alike neighbours are. */
const LEAST_FREEDOM = 1;

/**
 * Least-squares line of `values` over 0, 1, 2, …. Where neighbours resemble each other there are fewer independent values than values, and a slope
 * is less certain than it looks: the error counts n·(1 − r)/(1 + r) of them, r the correlation of neighbouring residuals
 * (Santer et al., J. Geophys. Res. 105, 2000, equations 4 to 6). Throws RangeError for fewer than 3 values.
 */
export function trend(values: readonly number[]): Trend {
  const n = values.length;
  if (n < 3) throw new RangeError(`trend: expected at least 3 values, got ${n}`);
  const center = (n - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const spread = (n * (n * n - 1)) / 12; // Σ(t − center)²
  const slope = values.reduce((sum, value, t) => sum + (t - center) * (value - mean), 0) / spread;
  const residuals = values.map((value, t) => value - mean - slope * (t - center));
  const squares = residuals.reduce((sum, residual) => sum + residual ** 2, 0);
  const products = residuals.slice(1).reduce((sum, residual, t) => sum + residual * residuals[t], 0);
  const r = squares === 0 ? 0 : Math.max(0, products / squares);
  const freedom = Math.max(LEAST_FREEDOM, (n * (1 - r)) / (1 + r) - 2);
  return { slope, standardError: Math.sqrt(squares / freedom / spread) };
}
