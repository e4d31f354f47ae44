/**
 * docs/runs.md says what a run directory holds, what may change, which waits and which alarms there are; here it is held against the code.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { Evaluator } from "./evaluate/evaluator.js";
import { alarmsSchema } from "./health/settings.js";
import { ALL_THAT_MAY_CHANGE } from "./runs/changed-config.js";
import { type MeshRun, TestMesh } from "./testing/mesh.js";

describe("docs/runs.md", function () {
  this.timeout(60_000);
  const page = readFileSync(join(packageRoot(), "docs", "runs.md"), "utf8");
  /** Text of a section. */
  const section = (title: string) => page.split(`\n## ${title}\n`)[1]?.split("\n## ")[0] ?? "";
  let mesh: TestMesh;
  let run: MeshRun;

  before(async () => {
    mesh = await TestMesh.start();
    run = await mesh.run("one", { record: true, batches: 2 });
    const signal = new AbortController().signal;
    await new Evaluator(mesh.manager).evaluate("one", { rows: 2, signal });
  });
  after(() => mesh.close());

  it("names everything that a run directory and a checkpoint hold", () => {
    const named = (text: string) =>
      [...text.matchAll(/^\|([^|]+)\|/gm)].flatMap(([, cell = ""]) =>
        [...cell.matchAll(/`([^`]+)`/g)].map(([, path = ""]) => path.split("/")[0]),
      );
    const layout = named(section("What it holds"));
    assert.deepEqual(
      readdirSync(run.directory).filter((name) => !layout.includes(name)),
      [],
    );
    const parts = named(section("Checkpoints"));
    const checkpoint = join(run.directory, "checkpoints", "step-00000002");
    assert.deepEqual(readdirSync(checkpoint).sort(), parts.sort());
  });

  it("lists the fields that may change when a run is resumed", () => {
    const listed = /```\n(servers[^`]*)```/.exec(section("Resume"))?.[1]?.split(/\s+/).filter(Boolean);
    assert.deepEqual(listed, ALL_THAT_MAY_CHANGE);
  });

  it("lists every alarm with what it does usually and its thresholds", () => {
    const rows = [...section("Alarms").matchAll(/^\| `(\w+)` \|.*\| (\w+) \| (.*)\|$/gm)];
    const listed = rows.map(([, name, action, thresholds = ""]) => [
      name,
      action,
      Object.fromEntries(
        [...thresholds.matchAll(/`(\w+)` ([−\d.e-]+)/g)].map(([, field, value = ""]) => [
          field,
          Number(value.replace("−", "-")),
        ]),
      ),
    ]);
    const settings = Object.entries(alarmsSchema.parse({})).map(([name, { action, ...rest }]) => [
      name,
      action,
      rest,
    ]);
    assert.deepEqual(listed, settings);
  });

  it("lists every wait that has a name", () => {
    const source = readFileSync(
      join(packageRoot(), "services", "trainer", "stalls", "stall-watch.ts"),
      "utf8",
    );
    const names = [...(/readonly call:([^;]+);/.exec(source)?.[1] ?? "").matchAll(/"(\w+)"/g)];
    const listed = [...section("Waits and stalls").matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = ""]) => [
      ...cell.matchAll(/`(\w+)`/g),
    ]);
    assert.ok(names.length >= 8);
    assert.deepEqual(listed.map(([, name]) => name).sort(), names.map(([, name]) => name).sort());
  });
});
