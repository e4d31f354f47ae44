/**
 * @file `npm run test:reliability`: runs the reliability tests in their full form, shows the figures, and writes them into
 * docs/reliability.md where all tests were run and passed. Arguments go to mocha: `-g overload` runs a part.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeCommit, describeMachine, describeVersions } from "../../bench/machine.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { FIGURES_FILE, readFigures } from "./figures.js";
import { figuresMarkdown, renderInto } from "./report.js";

const DOCUMENT = join(packageRoot(), "docs", "reliability.md");
const MOCHA = join(packageRoot(), "node_modules", "mocha", "bin", "mocha.js");
const TESTS = join(packageRoot(), "dist", "test", "reliability", "*.test.js");

async function main(args: readonly string[]): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "rlhf-reliability-"));
  const figuresFile = join(folder, "figures.jsonl");
  writeFileSync(figuresFile, "");
  const facts = {
    machine: describeMachine(),
    versions: describeVersions(),
    commit: describeCommit(),
    date: new Date().toISOString(),
  };
  const started = performance.now();
  const command = [MOCHA, "--no-config", "--enable-source-maps", "--timeout", "60000", TESTS, ...args];
  const mocha = spawn(process.execPath, command, {
    stdio: "inherit",
    cwd: packageRoot(),
    env: { ...process.env, RLHF_RELIABILITY: "full", [FIGURES_FILE]: figuresFile },
  });
  const [code] = (await once(mocha, "close")) as [number | null];
  const minutes = (performance.now() - started) / 60_000;
  const run = { ...facts, figures: readFigures(figuresFile), minutes };
  rmSync(folder, { recursive: true });
  if (code === 0 && args.length === 0) {
    renderInto(DOCUMENT, run);
    process.stdout.write(`${DOCUMENT}: ${run.figures.length} figures, in ${minutes.toFixed(1)} minutes\n`);
  } else {
    process.stdout.write(`${figuresMarkdown(run)}\n\n${DOCUMENT} is left as it was\n`);
  }
  return code ?? 1;
}

process.exitCode = await main(process.argv.slice(2));
