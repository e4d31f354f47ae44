/**
 * @file A row of results: one quantity of one case, ours or a peer's, with all its samples; and what is derived from it: the
 * summary, the share of the GEMM ceiling, the ratio to a peer. Pure.
 */
import { type Summary, summarize } from "./statistics.js";

/** What one benchmark says about one quantity. Peers print the same as JSON. */
export interface Row {
  /** Which case of the benchmark, e.g. `8×80`. */
  readonly case: string;
  /** Which quantity, e.g. `forward+backward`. */
  readonly metric: string;
  /** Unit of the samples: `s`, `ms`, `MiB`, or a rate such as `tokens/s`. */
  readonly unit: string;
  /** One number per run. */
  readonly samples: readonly number[];
  /** Which way is better; default: less for times and memory, more for rates. */
  readonly better?: "lower" | "higher";
  /** Floating-point operations of one run (times) or of one unit (rates): matrix products only, padding not counted. */
  readonly flops?: number;
  /** Name of a peer's way of doing it, e.g. `fp32`; ours has none. */
  readonly variant?: string;
}

/** A row with what is derived from its samples. */
export interface ResultRow extends Row, Summary {
  /** Share of the GEMM ceiling, 0 to 1, where the row has `flops`. */
  readonly share?: number;
}

/** How far ahead we are of a peer in one row. */
export interface Ratio {
  readonly case: string;
  readonly metric: string;
  readonly variant: string;
  /** Above 1: we are that many times faster or smaller. */
  readonly ratio: number;
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, ms: 1e-3, µs: 1e-6 };
const LESS_IS_BETTER = new Set(["s", "ms", "µs", "MiB", "%"]);

/** Whether a larger number of this row is worse. */
export function lowerIsBetter({ better, unit }: Row): boolean {
  return better ? better === "lower" : LESS_IS_BETTER.has(unit);
}

/** Operations per second that a row's median stands for, or undefined where it says nothing of operations. */
export function achievedFlops({ unit, flops }: Row, value: number): number | undefined {
  if (unit === "GFLOP/s") return value * 1e9;
  if (flops === undefined) return undefined;
  const seconds = SECONDS[unit];
  return seconds === undefined ? flops * value : flops / (value * seconds);
}

/** A row with its summary and its share of `ceiling` (floating-point operations per second), if that was measured. */
export function resultOf(row: Row, ceiling?: number): ResultRow {
  const summary = summarize(row.samples);
  const achieved = achievedFlops(row, summary.median);
  const share = ceiling && achieved !== undefined ? { share: achieved / ceiling } : {};
  return { ...row, ...summary, ...share };
}

/** Rows of several rounds as one: the same case, metric and variant share their samples. Order of first appearance. */
export function mergeRows(rows: readonly Row[]): Row[] {
  const merged = new Map<string, Row>();
  for (const row of rows) {
    const key = keyOf(row);
    const known = merged.get(key);
    merged.set(key, known ? { ...known, samples: [...known.samples, ...row.samples] } : row);
  }
  return [...merged.values()];
}

/** Ratios of our rows to those rows of peers that measure the same. */
export function ratiosOf(ours: readonly ResultRow[], peers: readonly ResultRow[]): Ratio[] {
  return peers.flatMap((peer) => {
    const own = ours.find((row) => row.case === peer.case && row.metric === peer.metric);
    if (!own || own.unit !== peer.unit) return [];
    const ratio = lowerIsBetter(own) ? peer.median / own.median : own.median / peer.median;
    return [{ case: own.case, metric: own.metric, variant: peer.variant ?? "peer", ratio }];
  });
}

function keyOf(row: Row): string {
  return JSON.stringify([row.case, row.metric, row.variant ?? ""]);
}
