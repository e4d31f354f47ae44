/**
 * @file Means with confidence intervals by bootstrap, and paired differences. Pure; the generator is handed in.
 */

/** Draws integers: int(n) is uniform over 0 … n − 1. */
export interface IntSource {
  int(n: number): number;
}

/** Mean with its 95 % interval. */
export interface Estimate {
  readonly mean: number;
  /** Half the width of the interval. */
  readonly ci95: number;
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 2000;

/** Mean of values; NaN of none. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Mean and half width of the percentile interval of 2,000 bootstrap resamples (Efron 1979). For paired differences hand
 * in the differences. One value alone has an interval of 0 width.
 */
export function bootstrapMean(values: readonly number[], rng: IntSource): Estimate {
  const mean = meanOf(values);
  if (values.length < 2) return { mean, ci95: 0, low: mean, high: mean };
  const means = Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[rng.int(values.length)] as number;
    return sum / values.length;
  }).sort((a, b) => a - b);
  const low = means[Math.floor(0.025 * RESAMPLES)] as number;
  const high = means[Math.ceil(0.975 * RESAMPLES) - 1] as number;
  return { mean, ci95: (high - low) / 2, low, high };
}
