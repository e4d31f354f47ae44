/**
 * @file The example that opens this folder's README runs and prints what it says.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "../config/package-root.js";

describe("the engine's README", () => {
  it("opens with an example that runs", () => {
    const root = packageRoot();
    const text = readFileSync(join(root, "lib/engine/README.md"), "utf8");
    const example = /```js\n(.*?)```/s.exec(text)?.[1] ?? "";
    const built = pathToFileURL(join(root, "dist")).href;
    const script = example.replaceAll('"rlhf-mesh/', `"${built}/`);
    const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
    assert.deepEqual({ status, stderr: String(stderr) }, { status: 0, stderr: "" });
    const promised = /console\.log\(.*\); \/\/ (.*)/.exec(example)?.[1];
    assert.equal(String(stdout).trim(), promised);
  });
});
