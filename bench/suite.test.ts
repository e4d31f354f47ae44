import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { BenchOptions } from "./bench.js";
import { BENCHMARKS } from "./benchmarks/index.js";
import { benchOf } from "./child.js";
import { prepareModel } from "./models.js";
import { PeerError, runPeer } from "./peers.js";
import type { Result } from "./results.js";
import type { Row } from "./rows.js";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

describe("every benchmark, in its quick size", () => {
  let options: BenchOptions;

  before(async () => {
    const folder = await mkdtemp(join(tmpdir(), "bench-"));
    options = { quick: true, threads: 1, device: "cpu", folder };
  });

  after(() => rm(options.folder, { recursive: true, force: true }));

  for (const benchmark of BENCHMARKS) {
    it(`${benchmark.name} gives rows of finite numbers and leaves nothing behind`, async () => {
      const rows: Row[] = [];
      for (const name of benchmark.models) await prepareModel(name, options, () => {});
      const bench = benchOf(options, (report) => {
        if (report.kind === "row") rows.push(report.row);
      });
      await benchmark.run(bench);
      assert.ok(rows.length > 0);
      for (const { case: name, metric, samples } of rows) {
        assert.ok(samples.length > 0 && samples.every(Number.isFinite), `${name}, ${metric}: ${samples}`);
      }
      const keys = new Set(rows.map((row) => JSON.stringify([row.case, row.metric])));
      assert.equal(keys.size, rows.length, "two rows of the same name");
      assert.deepEqual(await readdir(join(options.folder, "scratch")).catch(() => []), []);
      assert.doesNotThrow(() => JSON.stringify(benchmark.peer?.(bench)));
    });
  }
});

describe("npm run bench", () => {
  const run = promisify(execFile);

  it("shows a table and keeps the results", async () => {
    const out = await mkdtemp(join(tmpdir(), "bench-out-"));
    try {
      const { stdout } = await run(process.execPath, [
        MAIN,
        "gemm",
        "--quick",
        "--threads",
        "1",
        "--out",
        out,
      ]);
      assert.match(stdout, /16×32×16 +product/);
      const [file] = await readdir(out);
      assert.match(file, /^gemm-\d{4}-\d\d-\d\dT\d{6}\.json$/);
      const result = JSON.parse(await readFile(join(out, file), "utf8")) as Result;
      assert.equal(result.quick, true);
      assert.equal(result.threads, 1);
      assert.ok(result.ceiling.median > 0 && result.rows[0].share! > 0);
      assert.equal(result.versions.node, process.versions.node);
    } finally {
      await rm(out, { recursive: true });
    }
  });

  it("names its benchmarks and refuses what it does not know with status 2", async () => {
    const { stdout } = await run(process.execPath, [MAIN, "--list"]);
    assert.equal(stdout.trim().split("\n").length, BENCHMARKS.length);
    await assert.rejects(
      run(process.execPath, [MAIN, "nothing"]),
      (error: { code?: number; stderr?: string }) =>
        error.code === 2 && /nothing: no such benchmark/.test(error.stderr ?? ""),
    );
  });

  it("says so when a peer cannot be started", async () => {
    const options: BenchOptions = { quick: true, threads: 1, device: "cpu", folder: tmpdir() };
    await assert.rejects(
      runPeer("/no/such/python", { script: "gemm.py", input: {} }, options, () => {}),
      (error) => error instanceof PeerError && /\/no\/such\/python/.test(error.message),
    );
  });
});
