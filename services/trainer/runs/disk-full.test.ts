/**
 * A run on a disk that fills up: a small tmpfs where this process may mount one.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../../lib/weights/testing.js";
import { diffRuns } from "../replay/diff.js";
import { type PpoRunConfig, parseRunConfig } from "../run-config.js";
import { TestMesh } from "../testing/mesh.js";
import { CheckpointStore } from "./checkpoint-store.js";
import { diskFullCause, SpareRoom } from "./disk-full.js";
import { RunManager } from "./manager.js";
import { readRunRecord } from "./record.js";

const enospc = () => Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });

describe("a full disk", () => {
  it("is recognised behind other errors", () => {
    const cause = enospc();
    const wrapped = new Error("checkpoint: cannot be written", { cause: new Error("copy", { cause }) });
    assert.equal(diskFullCause(wrapped), cause);
    assert.equal(diskFullCause(new Error("another")), undefined);
  });

  it("leaves room to say so, which is free again when the run has ended", async () => {
    const folder = mkdtempSync(join(tmpdir(), "rlhf-spare-"));
    writeFileSync(join(folder, "rows.csv"), "question,answer\nwhy?,because\n");
    let kept = false;
    const manager = new RunManager({
      runsDirectory: folder,
      log: { info() {}, warn() {}, error() {} },
      runners: {
        sft: async ({ directory }) => {
          kept = existsSync(join(directory, "spare"));
          throw enospc();
        },
        ppo: () => assert.fail(),
        reward: () => assert.fail(),
        encoder: () => assert.fail(),
      },
    });
    manager.start(
      "kind: sft\ninit: { tokenizer: { vocabSize: 300 } }\ndata: { train: rows.csv }",
      folder,
      "one",
    );
    const { state, reason } = await manager.finished("one");
    assert.ok(kept);
    assert.ok(!existsSync(join(folder, "one", "spare")));
    assert.equal(state, "FAILED");
    assert.match(
      reason,
      /^the disk is full \(ENOSPC: .*\); there is no checkpoint yet; free some space, then `rlhf runs resume one`/,
    );
    new SpareRoom(folder).free();
    assert.deepEqual(readdirSync(folder).sort(), ["one", "rows.csv"]);
    rmSync(folder, { recursive: true });
  });
});

describe("a run on a small disk", function () {
  this.timeout(60_000);
  let mount: string | undefined;
  let mesh: TestMesh | undefined;

  before(function () {
    const folder = mkdtempSync(join(tmpdir(), "rlhf-small-disk-"));
    const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]);
    if (status === 0) {
      mount = folder;
      return;
    }
    rmdirSync(folder);
    console.log(`      !! no tmpfs may be mounted here (${stderr}): a full disk is NOT tested on a real one`);
    this.skip();
  });
  after(async () => {
    await mesh?.close();
    if (mount === undefined) return;
    const folder = mount;
    const unmounted = () => spawnSync("umount", [folder]).status === 0;
    // what the servers had open is let go of a moment after they ended
    await eventually(unmounted, `${folder} is not in use any more`).finally(() => {
      spawnSync("umount", ["--lazy", folder]); // whatever became of it, nothing stays mounted
      rmdirSync(folder);
    });
  });

  it("stops after its last good checkpoint, says so, and goes on with the same numbers once there is room", async () => {
    const disk = mount as string;
    mesh = await TestMesh.start({ runsDirectory: join(disk, "runs") });
    const { address } = await mesh.policy("small");
    const file = mesh.runFile([address], { batches: 6 });
    mesh.manager.start(file, mesh.directory, "small");
    const full = await mesh.ended("small");
    assert.equal(full.record.state, "FAILED");
    const step = /^the disk is full \(.*\); the last good checkpoint is that of step (\d); /s.exec(
      full.record.reason,
    )?.[1];
    assert.ok(step, full.record.reason);
    assert.equal(readRunRecord(full.directory)?.reason, full.record.reason, "also in run.json");
    const last = full.events.at(-1);
    assert.equal(last?.kind === "state" && last.reason, full.record.reason, "and among the events");
    const store = new CheckpointStore(full.directory, { keepLast: 10 });
    const latest = await store.latest((folder, why) => assert.fail(`${folder}: ${why}`));
    assert.equal(latest?.step, Number(step));
    assert.ok(!readdirSync(join(full.directory, "checkpoints")).some((name) => name.includes(".tmp-")));

    fill(disk);
    assert.throws(() => mesh?.manager.start(file, disk, "another"), {
      code: "WRONG_STATE",
      message: /another: the disk is full/,
    });
    assert.throws(() => mesh?.manager.resume("small"), /small: the disk is full/);
    assert.deepEqual(readdirSync(join(disk, "runs")), ["small"], "what was not started leaves nothing");
    assert.equal(mesh.manager.get("small").record.reason, full.record.reason, "and the reason stays");

    assert.equal(spawnSync("mount", ["-o", "remount,size=64m", disk]).status, 0);
    rmSync(join(disk, "filler"));
    mesh.manager.resume("small");
    const resumed = await mesh.ended("small");
    assert.equal(resumed.record.state, "FINISHED", resumed.record.reason);
    const whole = await mesh.run("whole", { batches: 6 });
    const config = (directory: string) =>
      parseRunConfig(readFileSync(join(directory, "run.yaml"), "utf8"), directory) as PpoRunConfig;
    const compared = [resumed, whole].map(({ directory }) => ({ directory, config: config(directory) }));
    const { parted, steps } = diffRuns(
      compared[0] as (typeof compared)[0],
      compared[1] as (typeof compared)[0],
    );
    assert.deepEqual([parted, steps.both], [undefined, 6]);
  });
});

/** Writes until not a byte more finds room. */
function fill(folder: string): void {
  for (let bytes = 1 << 20; bytes > 0; ) {
    try {
      appendFileSync(join(folder, "filler"), Buffer.alloc(bytes));
    } catch {
      bytes >>= 1;
    }
  }
}
