/**
 * @file The newest results as Markdown, and docs/performance.md with them put in. Pure, but for the last function.
 */
import { readFile, writeFile } from "node:fs/promises";
import type { Result } from "./results.js";
import type { ResultRow } from "./rows.js";
import { peerCell, percent, readable, spread } from "./table.js";
import { type TargetReport, targetReports } from "./targets.js";

const BEGIN = "<!-- results: begin; written by `npm run bench -- --render` -->";
const END = "<!-- results: end -->";

/** The targets, then a section for each result, with where it was measured and a table. One result of a benchmark and CPU at most. */
export function resultsMarkdown(results: readonly Result[]): string {
  if (results.length === 0) return "No results are kept in `bench/results` yet.";
  return [targetsOf(results), ...results.map(sectionOf)].join("\n\n");
}

/** The targets beside what each machine came to. */
function targetsOf(results: readonly Result[]): string {
  const machines = [...new Set(results.map(({ machine }) => machine.cpu))].sort();
  const columns = machines.map((cpu) => {
    const own = results.filter(({ machine }) => machine.cpu === cpu);
    return targetReports(new Map(own.map((result) => [result.name, result])));
  });
  const cell = ({ measured, met }: TargetReport) => (met === "" ? measured : `${measured}, ${met}`);
  return [
    "### Targets",
    "",
    "On 2 cores, as medians of the results below, and whether they are met.",
    "",
    line(["what", "target", ...machines]),
    line(["---", "---:", ...machines.map(() => "---:")]),
    ...columns[0].map(({ what, target }, i) => line([what, target, ...columns.map((own) => cell(own[i]))])),
  ].join("\n");
}

function sectionOf(result: Result): string {
  const {
    name,
    title,
    date,
    commit,
    machine,
    versions,
    ceiling,
    peers,
    rows,
    notes,
    threads,
    device,
    rounds,
  } = result;
  const variants = [...new Set(peers.map(({ variant }) => variant ?? "peer"))];
  const heads = [
    "case",
    "",
    "median",
    "min … max",
    "of ceiling",
    ...variants.map((variant) => `${variant} (ratio)`),
  ];
  const cells = (row: ResultRow) => [
    row.case,
    row.metric,
    `${readable(row.median)} ${row.unit}`,
    spread(row),
    percent(row.share),
    ...variants.map((variant) => peerCell(result, row, variant)),
  ];
  const used = Object.entries(versions).map(([what, version]) => `${what} ${version}`);
  const turns = rounds > 1 ? `, in ${rounds} turns with peers` : "";
  return [
    `### ${name}`,
    "",
    `${title[0].toUpperCase()}${title.slice(1)}. ${date.slice(0, 10)}, commit ${commit}; ${machine.cpu}, ${threads} threads on ${machine.cores} cores (${device})${turns}; load before: ${machine.load}. Ceiling: ${readable(ceiling.median)} GFLOP/s (${readable(ceiling.min)} … ${readable(ceiling.max)}) at ${ceiling.shape}.`,
    "",
    line(heads),
    line(heads.map((_, i) => (i < 2 ? "---" : "---:"))),
    ...rows.map((row) => line(cells(row))),
    "",
    ...notes.map((note) => `* ${note}`),
    ...(notes.length > 0 ? [""] : []),
    `<sub>${used.join(" · ")}</sub>`,
  ].join("\n");
}

const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;

/** A document with the results between its two markers. Throws where it has no markers. */
export function withResults(document: string, markdown: string): string {
  return replaceBetween(document, BEGIN, END, markdown);
}

/** A document with the text between two lines replaced. Throws where it lacks them. */
export function replaceBetween(document: string, begin: string, end: string, markdown: string): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document lacks the lines ${begin} and ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${markdown}\n\n${document.slice(to)}`;
}

/** Puts results into a document. */
export async function renderInto(path: string, results: readonly Result[]): Promise<void> {
  const document = await readFile(path, "utf8");
  await writeFile(path, withResults(document, resultsMarkdown(results)));
}
