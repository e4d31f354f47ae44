/**
 * @file What a reliability test measured: a line on the console, and, where `npm run test:reliability` asks for it, a row of
 * docs/reliability.md.
 */
import { appendFileSync, readFileSync } from "node:fs";

/** One row: what was tested, how, and what came out. */
export interface Figure {
  /** Row of the table: "overload: reward". */
  readonly test: string;
  /** What was done to the system, with its sizes. */
  readonly load: string;
  /** What was measured. */
  readonly measured: string;
}

/** File that figures are appended to, a JSON line each. */
export const FIGURES_FILE = "RLHF_RELIABILITY_FIGURES";

/** Prints a figure and keeps it. */
export function noteFigure(figure: Figure): void {
  console.log(`      ${figure.test}: ${figure.measured} (${figure.load})`);
  const path = process.env[FIGURES_FILE];
  if (path) appendFileSync(path, `${JSON.stringify(figure)}\n`);
}

/** The figures in a file, in order. */
export function readFigures(path: string): Figure[] {
  const lines = readFileSync(path, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Figure);
}

/** Percentiles of times in milliseconds. */
export interface Percentiles {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Percentiles by nearest rank; all 0 without times. */
export function percentiles(times: readonly number[]): Percentiles {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

/** `12.3 ms`. */
export const ms = (value: number): string => `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
