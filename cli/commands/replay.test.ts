/**
 * `rlhf runs replay` and `rlhf runs diff` as a user meets them: on a runs directory, with no server running.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TestMesh } from "../../services/trainer/testing/mesh.js";

const RLHF = fileURLToPath(new URL("../main.js", import.meta.url));

describe("rlhf runs", function () {
  this.timeout(60_000);
  let mesh: TestMesh;

  before(async () => {
    mesh = await TestMesh.start();
    await mesh.run("one", { record: true, batches: 2 });
    await mesh.run("two", { record: true, batches: 2, ppo: { learningRate: 2e-3 } });
    await mesh.closeServers();
  });
  after(() => mesh.close());

  function rlhf(...args: string[]) {
    const options = ["--runs-dir", mesh.runsDirectory];
    return spawnSync(process.execPath, [RLHF, ...args, ...options], { encoding: "utf8" });
  }

  it("replay says for each batch that its numbers are the same", () => {
    const { status, stdout, stderr } = rlhf("runs", "replay", "one", "--batch", "2");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^batch 2: \d\d quantities identical \(replayed from checkpoint 1\)\n$/);
  });

  it("replay of a changed record exits with 1 and the first quantity that differs", () => {
    const file = join(mesh.runsDirectory, "one", "records", "batch-00000002.json");
    const record = readFileSync(file, "utf8");
    writeFileSync(file, record.replace(/("kind":"scored","score":)(-?\d+)/, "$19$2"));
    const { status, stdout, stderr } = rlhf("--json", "runs", "replay", "one", "--batch", "2");
    writeFileSync(file, record);
    assert.equal(status, 1);
    assert.match(
      stderr,
      /batch 2 of run one did not come out again:\n {2}env\/reward_mean: .* in the run, .* now\n/,
    );
    const [batch] = JSON.parse(stdout);
    assert.deepEqual([batch.step, batch.fromStep, batch.differences[0].quantity], [2, 1, "env/reward_mean"]);
  });

  it("diff names the field that differs and where the runs part", () => {
    const { status, stdout, stderr } = rlhf("runs", "diff", "one", "two");
    assert.equal(status, 1);
    assert.match(stdout, /the run files of one and two differ:\n/);
    assert.match(stdout, /ppo\.learningRate: 0\.001 → 0\.002\n/);
    assert.match(stderr, /the runs part at step 1 \(one has 2 steps, two has 2\):\n {2}(objective|ppo)\//);
  });

  it("replay without --batch, and of a run that does not exist, say so", () => {
    assert.deepEqual([rlhf("runs", "replay", "one").status], [2]);
    const { status, stderr } = rlhf("runs", "replay", "none", "--batch", "1");
    assert.equal(status, 4);
    assert.match(stderr, /no such run/);
  });
});
