/**
 * @file How far each variant is from the first one, row by row: paired bootstrap (Efron 1979) of the differences. Pure.
 */
import type { ComparisonRow } from "../evaluate/comparison.js";
import { bootstrapMean, type Estimate, type IntSource } from "../evaluate/statistics.js";

/** What is compared. */
export type Measure = "f1" | "reward";

/** A variant against the reference. */
export interface Difference {
  readonly name: string;
  readonly measure: Measure;
  /** Mean of (variant − reference) and its 95 % interval; undefined where no row has both. */
  readonly estimate: Estimate | undefined;
  /** Rows that have both. */
  readonly rows: number;
}

/** Differences of `names[1…]` to `names[0]`, which must be the reference. */
export function differencesToReference(
  names: readonly string[],
  rows: readonly ComparisonRow[],
  rng: IntSource,
): Difference[] {
  return names.slice(1).flatMap((name, i) =>
    (["f1", "reward"] as const).map((measure) => {
      const pairs = rows
        .map(
          ({ responses }) =>
            (responses[i + 1]?.[measure] ?? Number.NaN) - (responses[0]?.[measure] ?? Number.NaN),
        )
        .filter(Number.isFinite);
      const estimate = pairs.length === 0 ? undefined : bootstrapMean(pairs, rng);
      return { name, measure, estimate, rows: pairs.length };
    }),
  );
}

/** Rows in which the second variant gained most over the first, and lost most: by reward, or by F1 where there is none. */
export function extremes(
  rows: readonly ComparisonRow[],
  count: number,
): { best: ComparisonRow[]; worst: ComparisonRow[]; measure: Measure } {
  const gain = (row: ComparisonRow, measure: Measure) =>
    (row.responses[1]?.[measure] ?? Number.NaN) - (row.responses[0]?.[measure] ?? Number.NaN);
  const measure = rows.some((row) => Number.isFinite(gain(row, "reward"))) ? "reward" : "f1";
  const known = rows.filter((row) => Number.isFinite(gain(row, measure)));
  const ranked = known.sort((a, b) => gain(b, measure) - gain(a, measure));
  const half = Math.min(count, Math.ceil(ranked.length / 2));
  const best = ranked.slice(0, half);
  return { best, worst: ranked.slice(best.length).reverse().slice(0, count), measure };
}
