/** @file Tests of the table of figures, and of the percentiles in it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { percentiles } from "./figures.js";
import { figuresMarkdown, withFigures } from "./report.js";

const RUN = {
  figures: [{ test: "overload", load: "3 | 4", measured: "90 %\nof peak" }],
  machine: { cpu: "a CPU", cores: 2, memoryGiB: 8, system: "Linux", load: 0.1 },
  versions: { node: "20.20.2" },
  commit: "abc",
  date: "2026-01-02T03:04:05Z",
  minutes: 12.4,
};

describe("the figures of reliability", () => {
  it("are a table that names machine, commit and date, with a figure a line", () => {
    const text = figuresMarkdown(RUN);
    assert.match(
      text,
      /^2026-01-02, commit abc; a CPU, 2 cores, 8 GiB; load before: 0.1\. .* in 12 minutes\./,
    );
    assert.match(text, /^\| overload \| 3 \\\| 4 \| 90 % of peak \|$/m);
  });

  it("go between the markers of docs/reliability.md, and nothing else of it changes", () => {
    const document = readFileSync(join(packageRoot(), "docs", "reliability.md"), "utf8");
    const once = withFigures(document, "FIGURES ONE");
    const twice = withFigures(once, "FIGURES TWO");
    assert.ok(once.includes("\n\nFIGURES ONE\n\n") && !twice.includes("FIGURES ONE"));
    assert.equal(twice.replace("FIGURES TWO", "FIGURES ONE"), once);
    assert.throws(() => withFigures("no markers", "x"), /lacks the lines/);
  });

  it("have percentiles by nearest rank", () => {
    const times = Array.from({ length: 200 }, (_, i) => 200 - i);
    assert.deepEqual(percentiles(times), { count: 200, p50: 100, p99: 198, max: 200 });
    assert.deepEqual(percentiles([]), { count: 0, p50: 0, p99: 0, max: 0 });
    assert.deepEqual(percentiles([7]), { count: 1, p50: 7, p99: 7, max: 7 });
  });
});
