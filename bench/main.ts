#!/usr/bin/env node
/**
 * @file `npm run bench`: runs benchmarks, shows a table, keeps the results.
 */
import { join } from "node:path";
import { packageRoot } from "../lib/config/package-root.js";
import { BENCHMARKS } from "./benchmarks/index.js";
import { type CommandLine, parseCommandLine, USAGE, UsageError } from "./options.js";
import { renderInto } from "./report.js";
import { newestResults, saveResult } from "./results.js";
import { runBenchmark } from "./suite.js";
import { resultText } from "./table.js";

const RESULTS = join(packageRoot(), "bench", "results");
const DOCUMENT = join(packageRoot(), "docs", "performance.md");

const print = (text: string) => process.stdout.write(`${text}\n`);
const say = (text: string) => process.stderr.write(`${text}\n`);

/** Runs the benchmarks asked for; one that fails does not keep the others from running. Returns the exit status. */
async function runAll({ names, options, peers, rounds, out }: CommandLine): Promise<number> {
  let failed = 0;
  for (const benchmark of BENCHMARKS.filter(({ name }) => names.includes(name))) {
    try {
      const result = await runBenchmark(benchmark, { options, peers, rounds, say });
      print(`\n${resultText(result)}\n`);
      if (out !== undefined) say(`results: ${await saveResult(out, result)}`);
    } catch (error) {
      failed += 1;
      say(`${benchmark.name} failed: ${(error as Error).message}`);
    }
  }
  return failed === 0 ? 0 : 1;
}

async function main(argv: readonly string[]): Promise<number> {
  const known = BENCHMARKS.map(({ name }) => name);
  const commandLine = parseCommandLine(argv, known);
  switch (commandLine.action) {
    case "help":
      print(USAGE);
      return 0;
    case "list":
      for (const { name, title } of BENCHMARKS) print(`${name.padEnd(12)} ${title}`);
      return 0;
    case "render": {
      const newest = await newestResults(commandLine.out ?? RESULTS);
      await renderInto(
        DOCUMENT,
        known.flatMap((name) => newest.filter((result) => result.name === name)),
      );
      say(`${DOCUMENT}: ${newest.length} results`);
      return 0;
    }
    case "run":
      return runAll(commandLine);
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  say(`bench: ${error.message}\n\n${USAGE}`);
  process.exitCode = 2;
}
