import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { WeightsCorruptError, WeightsFollower } from "./index.js";
import { eventually, fileHarness, type Harness, someTensors } from "./testing.js";

describe("weights in a folder that has trouble", () => {
  let harness: Harness;
  let root: string;
  beforeEach(async () => {
    harness = await fileHarness();
    root = join(harness.url.replace("file:", ""), "run-1", "tiny");
  });
  afterEach(() => harness.close());

  it("names a head file that is damaged, and followers go on with the next when it is removed", async () => {
    const bus = await harness.open();
    const follower = new WeightsFollower({ bus: await harness.open(), instance: "p", apply: () => {} });
    follower.start();
    try {
      await bus.publish(someTensors(1), { version: 1 });
      await follower.whenServing(1, { deadlineMs: 5000 });
      const path = join(root, "heads", "000000000000002.json");
      writeFileSync(path, '{"run": "run-1", "vers');
      const refused = (error: unknown) =>
        error instanceof WeightsCorruptError && error.message.includes(path);
      await assert.rejects(bus.head(), refused);
      await assert.rejects(bus.publish(someTensors(3), { version: 3 }), refused);
      writeFileSync(path, readFileSync(join(root, "heads", "000000000000001.json")));
      await assert.rejects(bus.head(), /expected version 2, found 1/);
      rmSync(path);
      await bus.publish(someTensors(3), { version: 3 });
      await follower.whenServing(3, { deadlineMs: 5000 });
    } finally {
      await follower.stop();
    }
  });

  it("left by a publisher that was killed: the head is whole, publishing goes on, drafts are pruned", async () => {
    const room = (file: string) => JSON.stringify(join(packageRoot(), "dist", "lib", "weights", file));
    const script = `
      const { openWeightsBus } = await import(${room("index.js")});
      const { someTensors } = await import(${room("testing.js")});
      const bus = await openWeightsBus(${JSON.stringify(harness.url)}, { run: "run-1", model: "tiny" });
      const tensors = someTensors(1, 1 << 20);
      for (let version = ((await bus.head())?.version ?? 0) + 1; ; version++) {
        tensors.get("scale").data[0] = version;
        await bus.publish(tensors, { version });
        console.log(version);
      }`;
    const bus = await harness.open({ leftoverMs: 60_000 });
    for (const delay of [1, 4, 9]) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const ended = new Promise((resolve) => child.once("exit", resolve));
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, delay));
      child.kill("SIGKILL");
      await ended;
      const head = await bus.head();
      assert.ok(head);
      const { tensors } = await bus.fetch(head);
      assert.deepEqual([...(tensors.get("scale") ?? [])], [head.version]);
    }
    const version = ((await bus.head())?.version ?? 0) + 1;
    await bus.publish(someTensors(2), { version });
    const draft = join(root, "objects", "9-abababababababab.safetensors.1-2.tmp");
    writeFileSync(draft, "half");
    await bus.prune(1);
    assert.ok(
      readdirSync(join(root, "objects")).some((name) => draft.endsWith(name)),
      "a young draft stays",
    );
    utimesSync(draft, new Date(0), new Date(0));
    await bus.prune(1);
    assert.ok(!readdirSync(join(root, "objects")).some((name) => draft.endsWith(name)));
  });

  it("keeps few head files", async () => {
    const bus = await harness.open();
    for (let version = 1; version <= 12; version++) await bus.publish(someTensors(version), { version });
    const heads = readdirSync(join(root, "heads")).sort();
    assert.equal(heads.length, 5);
    assert.equal(heads.at(-1), "000000000000012.json");
  });

  it("skips statuses that cannot be read", async () => {
    const bus = await harness.open();
    await bus.report({ instance: "p", version: 1, state: "serving", tookMs: 1 });
    writeFileSync(join(root, "status", "q.json"), "{");
    await eventually(async () => (await bus.statuses()).length === 1, "the good one is read");
  });
});
