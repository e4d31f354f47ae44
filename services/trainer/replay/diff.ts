/**
 * @file Where two runs part: the first batch and quantity that differ, and the fields of their configurations. Reads metrics.jsonl
 * and, where both runs kept them, the records of batches. Times are left out.
 */
import { join } from "node:path";
import { readBatchRecord } from "../loop/batch-record.js";
import type { RunConfig } from "../run-config.js";
import { leavesOf, mayChange } from "../runs/changed-config.js";
import { readJournal } from "../runs/journal.js";
import { compareBatches, compareMetrics, type MetricsLine, type QuantityDifference } from "./quantities.js";

/** A run to compare. */
export interface ComparedRun {
  readonly directory: string;
  readonly config: RunConfig;
}

/** A field of the run files that differs. */
export interface ConfigDifference {
  readonly field: string;
  /** Values as JSON; "missing" where a file has none. */
  readonly first: string;
  readonly second: string;
  /** False for what may change when a run is resumed: where servers are, how long it runs. */
  readonly matters: boolean;
}

/** How two runs compare. */
export interface RunDifference {
  readonly configuration: readonly ConfigDifference[];
  /** Steps that each run has, and that both have. */
  readonly steps: { readonly first: number; readonly second: number; readonly both: number };
  /** The first step that differs, and what differs in it in the order in which it comes about. */
  readonly parted: { readonly step: number; readonly differences: readonly QuantityDifference[] } | undefined;
}

/** Compares two runs of any kind. */
export function diffRuns(first: ComparedRun, second: ComparedRun): RunDifference {
  const [a, b] = [linesOf(first.directory), linesOf(second.directory)];
  const both = [...a.keys()].filter((step) => b.has(step)).sort((x, y) => x - y);
  const steps = { first: a.size, second: b.size, both: both.length };
  const configuration = diffConfigs(first.config, second.config);
  for (const step of both) {
    const { differences } = compareMetrics(a.get(step) as MetricsLine, b.get(step) as MetricsLine);
    const recorded = diffRecords(first.directory, second.directory, step);
    const all = [...recorded, ...differences];
    if (all.length > 0) return { configuration, steps, parted: { step, differences: all } };
  }
  return { configuration, steps, parted: undefined };
}

function diffConfigs(first: RunConfig, second: RunConfig): ConfigDifference[] {
  const [a, b] = [leavesOf(first), leavesOf(second)];
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((field) => a.get(field) !== b.get(field))
    .map((field) => ({
      field,
      first: a.get(field) ?? "missing",
      second: b.get(field) ?? "missing",
      matters: !mayChange(field),
    }));
}

function diffRecords(first: string, second: string, step: number): QuantityDifference[] {
  const [a, b] = [readBatchRecord(first, step), readBatchRecord(second, step)];
  return a && b ? compareBatches(a.batch, b.batch) : [];
}

function linesOf(directory: string): Map<number, MetricsLine> {
  const lines = readJournal(join(directory, "metrics.jsonl")) as (MetricsLine & { step: number })[];
  return new Map(lines.map((line) => [line.step, line]));
}
