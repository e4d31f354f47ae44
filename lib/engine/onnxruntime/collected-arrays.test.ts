/**
 * The garbage collector between an address and the call that reads it: a small array whose last use was its address may be gone by
 * then, and its memory somebody else's. Calls must keep what they are given.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const CHILD = fileURLToPath(new URL("./testing/collecting-run.js", import.meta.url));

describe("arrays that are lent to ONNX Runtime", () => {
  for (const flags of [["--single-threaded"], ["--interrupt-budget=10000", "--single-threaded-gc"]]) {
    it(`stay where they are until the library has read them, under ${flags.join(" ")}`, async function () {
      this.timeout(60_000);
      const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", ...flags, CHILD]);
      const { runs, failures, first } = JSON.parse(stdout);
      assert.ok(runs > 1000);
      assert.equal(failures, 0, `${failures} of ${runs} runs failed: ${first}`);
    });
  }
});
