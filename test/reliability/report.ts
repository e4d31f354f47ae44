/** @file The figures of a full run as Markdown, put into docs/reliability.md. Pure, but for the last function. */
import { readFileSync, writeFileSync } from "node:fs";
import type { Machine } from "../../bench/machine.js";
import { replaceBetween } from "../../bench/report.js";
import type { Figure } from "./figures.js";

const BEGIN = "<!-- figures: begin; written by `npm run test:reliability` -->";
const END = "<!-- figures: end -->";

/** Figures and what they depend on. */
export interface ReliabilityRun {
  readonly figures: readonly Figure[];
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly commit: string;
  /** When it began, ISO 8601. */
  readonly date: string;
  readonly minutes: number;
}

/** Where it was measured, and a table. */
export function figuresMarkdown({
  figures,
  machine,
  versions,
  commit,
  date,
  minutes,
}: ReliabilityRun): string {
  const { cpu, cores, memoryGiB, load } = machine;
  const used = Object.entries(versions).map(([what, version]) => `${what} ${version}`);
  return [
    `${date.slice(0, 10)}, commit ${commit}; ${cpu}, ${cores} cores, ${memoryGiB} GiB; load before: ${load}. All tests passed, in ${minutes.toFixed(0)} minutes.`,
    "",
    line(["test", "load", "measured"]),
    line(["---", "---", "---"]),
    ...figures.map(({ test, load, measured }) => line([test, load, measured])),
    "",
    `<sub>${used.join(" · ")}</sub>`,
  ].join("\n");
}

const line = (cells: readonly string[]) => `| ${cells.map(escaped).join(" | ")} |`;
const escaped = (cell: string) => cell.replaceAll("|", "\\|").replaceAll("\n", " ");

/** A document with the figures between its markers. Throws where it has none. */
export function withFigures(document: string, markdown: string): string {
  return replaceBetween(document, BEGIN, END, markdown);
}

/** Puts figures into a document. */
export function renderInto(path: string, run: ReliabilityRun): void {
  writeFileSync(path, withFigures(readFileSync(path, "utf8"), figuresMarkdown(run)));
}
