/**
 * @file Results of one benchmark as a file: written after it ran, read back for docs/performance.md.
 */
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "./machine.js";
import type { Ratio, ResultRow } from "./rows.js";
import type { Summary } from "./statistics.js";

/** Everything that one run of a benchmark gave. */
export interface Result {
  readonly name: string;
  readonly title: string;
  /** When it began, ISO 8601. */
  readonly date: string;
  readonly commit: string;
  /** Tiny sizes: nothing was measured. */
  readonly quick: boolean;
  readonly device: string;
  readonly threads: number;
  /** How often ours and the peers took turns; 1 where there were none. */
  readonly rounds: number;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  /** GFLOP/s of the GEMM that shares refer to, measured around the benchmark: the higher of the medians before and after it. */
  readonly ceiling: Summary & { readonly shape: string; readonly samples: readonly number[] };
  readonly rows: readonly ResultRow[];
  /** The same rows as peers measured them. */
  readonly peers: readonly ResultRow[];
  readonly ratios: readonly Ratio[];
  readonly notes: readonly string[];
}

/** Writes a result as `<name>-<date>.json` and returns its path. A file is whole or not there. */
export async function saveResult(folder: string, result: Result): Promise<string> {
  await mkdir(folder, { recursive: true });
  const date = result.date.slice(0, 19).replaceAll(":", "");
  const path = join(folder, `${result.name}-${date}.json`);
  await writeFile(`${path}.tmp`, `${JSON.stringify(result, undefined, 1)}\n`);
  await rename(`${path}.tmp`, path);
  return path;
}

/** The newest result of each benchmark on each kind of CPU in a folder, newest last. Those of quick runs are left out. */
export async function newestResults(folder: string): Promise<Result[]> {
  const newest = new Map<string, Result>();
  const files = (await readdir(folder)).filter((file) => file.endsWith(".json"));
  for (const file of files) {
    const result = JSON.parse(await readFile(join(folder, file), "utf8")) as Result;
    const key = `${result.name} on ${result.machine.cpu}`;
    const known = newest.get(key);
    if (!result.quick && (!known || known.date < result.date)) newest.set(key, result);
  }
  return [...newest.values()].sort((a, b) => (a.date < b.date ? -1 : 1));
}
