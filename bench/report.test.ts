import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../lib/config/package-root.js";
import { resultsMarkdown, withResults } from "./report.js";
import { newestResults, type Result, saveResult } from "./results.js";
import { ratiosOf, resultOf } from "./rows.js";
import { readable, resultText } from "./table.js";

function result(date: string, seconds: number): Result {
  const row = { case: "8×80", metric: "forward+backward", unit: "s", samples: [seconds, seconds + 0.1] };
  const rows = [resultOf({ ...row, flops: 300e9 }, 400e9)];
  const peers = [resultOf({ ...row, samples: [3.7], variant: "fp32" })];
  return {
    name: "learner",
    title: "forward and backward pass",
    date,
    commit: "0123456789ab",
    quick: false,
    device: "cpu",
    threads: 2,
    rounds: 2,
    machine: { cpu: "some CPU", cores: 2, memoryGiB: 8, system: "Linux", load: 0.1 },
    versions: { node: "20.20.2", torch: "2.13.0" },
    ceiling: { shape: "1×2×3", samples: [400], median: 400, min: 399, max: 401 },
    rows,
    peers,
    ratios: ratiosOf(rows, peers),
    notes: ["weights travel over NATS"],
  };
}

describe("results", () => {
  it("become a table with medians, spread, share of the ceiling and ratios", () => {
    const text = resultText(result("2026-01-02T03:04:05.000Z", 1.45));
    assert.match(text, /8×80 +forward\+backward +1\.5 s +1\.45 … 1\.55 +50 % +3\.7 \(2\.47×\)/);
    assert.match(text, /· weights travel over NATS/);
  });

  it("become Markdown that says where they come from", () => {
    const markdown = resultsMarkdown([result("2026-01-02T03:04:05.000Z", 1.45)]);
    assert.match(
      markdown,
      /\n### learner\n\nForward and backward pass\. 2026-01-02, commit 0123456789ab; some CPU, 2 threads/,
    );
    assert.match(
      markdown,
      /\| 8×80 \| forward\+backward \| 1\.5 s \| 1\.45 … 1\.55 \| 50 % \| 3\.7 \(2\.47×\) \|/,
    );
    assert.match(resultsMarkdown([]), /No results are kept/);
  });

  it("are held against the targets, where they say something of them", () => {
    const markdown = resultsMarkdown([result("2026-01-02T03:04:05.000Z", 1.45)]);
    assert.match(markdown, /\| learner 8×80: PyTorch fp32 \| ≥ 2\.5 × \| 2\.47 ×, no \|/);
    assert.match(markdown, /\| learner 8×80: share of the ceiling \| ≥ 65 % \| 50 %, no \|/);
    assert.match(markdown, /\| weights to 3 servers \| ≤ 4 s \| not measured \|/);
  });

  it("of several machines stand side by side", () => {
    const one = result("2026-01-02T03:04:05.000Z", 1.45);
    const other = {
      ...result("2026-01-03T03:04:05.000Z", 0.95),
      machine: { ...one.machine, cpu: "another" },
    };
    const markdown = resultsMarkdown([one, other]);
    assert.match(markdown, /\| what \| target \| another \| some CPU \|/);
    assert.match(markdown, /\| learner 8×80: PyTorch fp32 \| ≥ 2\.5 × \| 3\.7 ×, yes \| 2\.47 ×, no \|/);
    assert.equal(markdown.match(/^### learner$/gm)?.length, 2);
  });

  it("replace what stood between the markers of docs/performance.md, which has them", () => {
    const document = readFileSync(join(packageRoot(), "docs", "performance.md"), "utf8");
    const once = withResults(document, "new");
    assert.equal(withResults(once, "new"), once);
    assert.ok(once.includes("\n\nnew\n\n") && once.startsWith(document.slice(0, document.indexOf("<!--"))));
    assert.throws(() => withResults("no markers", "new"), /lacks the lines/);
  });

  it("are read back, the newest of each benchmark and machine, quick ones left out", async () => {
    const folder = await mkdtemp(join(tmpdir(), "bench-results-"));
    try {
      await saveResult(folder, result("2026-01-02T03:04:05.000Z", 2));
      await saveResult(folder, result("2026-01-03T03:04:05.000Z", 1));
      await saveResult(folder, { ...result("2026-01-04T03:04:05.000Z", 9), quick: true });
      const machine = { ...result("", 0).machine, cpu: "another" };
      await saveResult(folder, { ...result("2026-01-01T03:04:05.000Z", 2), machine });
      await writeFile(join(folder, "README.md"), "not a result");
      const newest = await newestResults(folder);
      assert.deepEqual(
        newest.map(({ date, machine: { cpu } }) => [cpu, date]),
        [
          ["another", "2026-01-01T03:04:05.000Z"],
          ["some CPU", "2026-01-03T03:04:05.000Z"],
        ],
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("show numbers with three digits", () => {
    assert.deepEqual([0.0001234, 1.234, 12.34, 123.4, 1234.5, 1_234_567].map(readable), [
      "0.000123",
      "1.23",
      "12.3",
      "123",
      "1 235",
      "1 234 567",
    ]);
  });
});
