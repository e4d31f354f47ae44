/**
 * @file The example that opens the README runs.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runReadmeExample } from "../config/readme-example.js";

describe("lib/checkpoint/README.md", () => {
  it("opens with an example that saves and loads a checkpoint", async () => {
    const folder = mkdtempSync(join(tmpdir(), "readme-"));
    process.env.COPY_TO = join(folder, "copy");
    try {
      assert.equal((await runReadmeExample("lib/checkpoint")).same, true);
    } finally {
      delete process.env.COPY_TO;
      rmSync(folder, { recursive: true });
    }
  });
});
