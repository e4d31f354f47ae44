/**
 * @file The README: its example runs, and its table names every op.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { runReadmeExample } from "../config/readme-example.js";
import { opNames } from "./index.js";

describe("the README of lib/graph", () => {
  it("opens with an example that runs and gives the numbers it says", async () => {
    const { result } = (await runReadmeExample("lib/graph")) as {
      result: Record<string, { data: Float32Array }>;
    };
    assert.deepEqual([...result.loss.data, ...result.dw.data], [8, 12, 16]);
  });

  it("lists every op for other engines", () => {
    const rows = readFileSync(join(packageRoot(), "lib/graph/README.md"), "utf8").match(/^\| .*$/gm) ?? [];
    const listed = rows.flatMap((row) => row.split("|")[1].trim().split(/[ ,]+/));
    assert.deepEqual(
      opNames().filter((op) => !listed.includes(op)),
      [],
    );
  });
});
