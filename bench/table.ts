/**
 * @file Results as text: the table on the terminal, and numbers as people read them. Pure.
 */
import type { Result } from "./results.js";
import type { ResultRow } from "./rows.js";

/** A number with three significant digits and its thousands apart. */
export function readable(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1000)
    return Math.round(value)
      .toString()
      .replace(/\B(?=(\d{3})+$)/g, " ");
  return String(Number(value.toPrecision(3)));
}

/** `75 %`, or nothing. */
export function percent(share: number | undefined): string {
  return share === undefined ? "" : `${Math.round(100 * share)} %`;
}

/** `1.49 … 1.60`, or nothing for a single sample. */
export function spread({ samples, min, max }: ResultRow): string {
  return samples.length < 2 ? "" : `${readable(min)} … ${readable(max)}`;
}

/** Rows of cells under a line of heads, columns aligned; the first `left` columns to the left. */
export function alignTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  left: number,
): string {
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join("  ")
      .trimEnd();
  return [line(heads), widths.map((width) => "─".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}

/** What a run says at its end. */
export function resultText(result: Result): string {
  const { name, title, ceiling, rows, peers, ratios, notes } = result;
  const variants = [...new Set(peers.map(({ variant }) => variant ?? "peer"))];
  const cells = rows.map((row) => [
    row.case,
    row.metric,
    `${readable(row.median)} ${row.unit}`,
    spread(row),
    percent(row.share),
    ...variants.map((variant) => peerCell(result, row, variant)),
  ]);
  const heads = [
    "case",
    "",
    "median",
    "min … max",
    "of ceiling",
    ...variants.map((variant) => `${variant} (ratio)`),
  ];
  const unmatched = peers.length - ratios.length;
  return [
    `${name}: ${title}`,
    ...(result.quick ? ["quick: tiny sizes instead; these numbers measure nothing"] : []),
    `ceiling: ${readable(ceiling.median)} GFLOP/s at ${ceiling.shape}`,
    alignTable(heads, cells, 2),
    ...notes.map((note) => `· ${note}`),
    ...(unmatched > 0
      ? [`· ${unmatched} rows of peers have no row of ours; they are in the results file`]
      : []),
  ].join("\n");
}

/** A peer's median and our ratio to it. */
export function peerCell({ peers, ratios }: Result, row: ResultRow, variant: string): string {
  const same = (other: { case: string; metric: string; variant?: string }) =>
    other.case === row.case && other.metric === row.metric && (other.variant ?? "peer") === variant;
  const peer = peers.find(same);
  const ratio = ratios.find(same);
  return peer && ratio ? `${readable(peer.median)} (${ratio.ratio.toFixed(2)}×)` : "";
}
