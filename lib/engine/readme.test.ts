/**
 * @file The examples that open this folder's READMEs run and print what they say.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "../config/package-root.js";

for (const readme of ["lib/engine/README.md", "lib/engine/tfjs/README.md"]) {
  it(`${readme} opens with an example that runs`, () => {
    const root = packageRoot();
    const example = /```js\n(.*?)```/s.exec(readFileSync(join(root, readme), "utf8"))?.[1] ?? "";
    const built = pathToFileURL(join(root, "dist")).href;
    const script = example.replaceAll('"rlhf-mesh/', `"${built}/`);
    const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
    assert.deepEqual({ status, stderr: String(stderr) }, { status: 0, stderr: "" });
    const promised = /console\.log\(.*\); \/\/ (.*)/.exec(example)?.[1];
    assert.equal(String(stdout).trim(), promised);
  });
}
