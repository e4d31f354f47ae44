import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../../lib/config/index.js";
import { RunInterrupted } from "../errors.js";
import type { SftRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "./context.js";
import { readJournal } from "./journal.js";
import { RunManager } from "./manager.js";

const RUN_FILE = `
kind: sft
init: { tokenizer: { vocabSize: 300 } }
data: { train: rows.csv }
`;

type Work = (context: RunContext<SftRunConfig>) => Promise<RunResult>;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rlhf-manager-"));
  writeFileSync(join(folder, "rows.csv"), "question,answer\nwhy?,because\n");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function managerOf(work: Work): RunManager {
  const quiet = { info() {}, warn() {}, error() {} };
  const never = async () => assert.fail("another kind of run");
  return new RunManager({
    runsDirectory: folder,
    log: quiet,
    runners: { sft: work, ppo: never, reward: never },
  });
}

/** Four steps with a checkpoint after each; obeys requests. */
const fourSteps: Work = async (context) => {
  context.running(4);
  const from = (context.resumeFrom?.step ?? 0) + 1;
  for (let step = from; step <= 4; step++) {
    await new Promise(setImmediate);
    context.step(step, { loss: 1 / step });
    await context.checkpoints.save(step, { metricsBytes: context.metricsBytes() }, async () => {});
    const how = context.requested();
    if (how) throw new RunInterrupted(how);
  }
  return { modelDirectory: join(context.directory, "model") };
};

describe("the run manager", () => {
  it("works a run to its end and keeps what happened", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    const record = await manager.finished("one");
    assert.equal(record.state, "FINISHED");
    assert.equal(record.step, 4);
    assert.deepEqual(readJournal(join(folder, "one", "metrics.jsonl")).at(-1), { step: 4, loss: 0.25 });
    const states: string[] = [];
    for await (const event of manager.watch("one", 0, new AbortController().signal)) {
      if (event.kind === "state") states.push(event.state);
    }
    assert.deepEqual(states, ["STARTING", "RUNNING", "FINISHED"]);
    assert.match(manager.get("one").config, /vocabSize: 300/);
  });

  it("pauses at the end of a step and goes on from there, each step once", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    manager.request("one", "paused");
    assert.equal((await manager.finished("one")).state, "PAUSED");
    manager.resume("one");
    assert.equal((await manager.finished("one")).state, "FINISHED");
    assert.deepEqual(
      readJournal(join(folder, "one", "metrics.jsonl")).map((line) => (line as { step: number }).step),
      [1, 2, 3, 4],
    );
  });

  it("names every problem of a run file before anything starts", () => {
    const manager = managerOf(fourSteps);
    assert.throws(
      () => manager.start(`${RUN_FILE}\nbatchSize: 0\nbanana: 1\n`, folder),
      (error: unknown) =>
        error instanceof ConfigError && /batchSize: 0/.test(error.message) && /banana/.test(error.message),
    );
    assert.deepEqual(manager.list(), []);
  });

  it("keeps the reason of a run that failed, and resumes it", async () => {
    let broken = true;
    const manager = managerOf(async (context) => {
      if (broken) throw new Error("loss is NaN");
      return fourSteps(context);
    });
    manager.start(RUN_FILE, folder, "one");
    const failed = await manager.finished("one");
    assert.deepEqual([failed.state, failed.reason], ["FAILED", "loss is NaN"]);
    broken = false;
    manager.resume("one");
    assert.equal((await manager.finished("one")).state, "FINISHED");
  });

  it("refuses a second run while one works, and a name that is taken", async () => {
    let finish = () => {};
    const manager = managerOf(async () => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return { modelDirectory: "" };
    });
    manager.start(RUN_FILE, folder, "one");
    assert.throws(() => manager.start(RUN_FILE, folder, "two"), { code: "QUEUE_FULL" });
    await new Promise((resolve) => setTimeout(resolve, 20));
    finish();
    await manager.finished("one");
    assert.throws(() => manager.start(RUN_FILE, folder, "one"), /exists already/);
    assert.throws(() => manager.get("none"), { code: "UNKNOWN_RUN" });
    assert.throws(() => manager.get("../one"), { code: "UNKNOWN_RUN" });
  });

  it("refuses to resume with a changed recipe and names the field and what may change", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    manager.request("one", "stopped");
    await manager.finished("one");
    const kept = readFileSync(join(folder, "one", "run.yaml"), "utf8");
    assert.throws(
      () => manager.resume("one", kept.replace(/^batchSize: .*$/m, "batchSize: 3")),
      /batchSize: 16 → 3.*epochs/,
    );
    manager.resume("one", kept.replace(/^epochs: .*$/m, "epochs: 9"));
    assert.equal((await manager.finished("one")).state, "FINISHED");
  });

  it("calls a run interrupted whose process is gone", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    await manager.finished("one");
    const path = join(folder, "one", "run.json");
    const record = JSON.parse(readFileSync(path, "utf8"));
    const { writeFileAtomic } = await import("./files.js");
    writeFileAtomic(path, JSON.stringify({ ...record, state: "RUNNING" }));
    assert.equal(manager.get("one").record.state, "INTERRUPTED");
    assert.equal(manager.list()[0]?.state, "INTERRUPTED");
  });

  it("pauses its runs when it drains, and aborts those that take too long", async () => {
    const manager = managerOf(
      (context) =>
        new Promise((_, reject) => {
          context.signal.addEventListener("abort", () => reject(context.signal.reason));
        }),
    );
    manager.start(RUN_FILE, folder, "one");
    await manager.drain(10);
    const { record } = manager.get("one");
    assert.deepEqual([record.state, record.reason], ["INTERRUPTED", "the trainer is shutting down"]);
  });
});
