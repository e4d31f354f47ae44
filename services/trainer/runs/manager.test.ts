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
    runners: { sft: work, ppo: never, reward: never, encoder: never },
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
    assert.deepEqual(manager.load, { active: 1, most: 1 });
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

  it("refuses to resume where somebody changed the run's own run file by hand, and says which field", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    manager.request("one", "paused");
    await manager.finished("one");
    const path = join(folder, "one", "run.yaml");
    const kept = readFileSync(path, "utf8");
    assert.equal(
      readFileSync(join(folder, "one", "checkpoints", "step-00000001", "run.yaml"), "utf8"),
      kept,
      "a checkpoint holds the resolved run file",
    );
    writeFileSync(path, kept.replace(/^batchSize: .*$/m, "batchSize: 3"));
    assert.throws(() => manager.resume("one"), {
      code: "WRONG_STATE",
      message:
        /^the run file differs in batchSize: 16 → 3\. When a run is resumed, only .*epochs.* may change$/,
    });
    writeFileSync(path, kept.replace(/^epochs: .*$/m, "epochs: 9"));
    manager.resume("one");
    assert.equal((await manager.finished("one")).state, "FINISHED");
  });

  it("reads the paths of a run file that is given at a resume from the folder that is named with it", async () => {
    const manager = managerOf(fourSteps);
    manager.start(RUN_FILE, folder, "one");
    manager.request("one", "paused");
    await manager.finished("one");
    assert.throws(() => manager.resume("one", RUN_FILE, join(folder, "elsewhere")), /data\.train/);
    manager.resume("one", `${RUN_FILE}epochs: 9\n`, folder);
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

  it("interrupts its runs at the end of a step when it drains, and aborts those that take too long", async () => {
    const stubborn: Work = (context) =>
      new Promise((_, reject) => {
        context.signal.addEventListener("abort", () => reject(context.signal.reason));
      });
    const ending = async (work: Work, id: string) => {
      const manager = managerOf(work);
      manager.start(RUN_FILE, folder, id);
      await manager.drain(10);
      const { state, reason, step } = manager.get(id).record;
      return [state, reason, step];
    };
    assert.deepEqual(await ending(stubborn, "one"), ["INTERRUPTED", "the trainer is shutting down", 0]);
    const atEnd = "the trainer was shut down at the end of a step";
    assert.deepEqual(await ending(fourSteps, "two"), ["INTERRUPTED", atEnd, 1]);
  });

  it("goes on with what was interrupted when it is started again, and leaves alone what was paused", async () => {
    const first = managerOf(fourSteps);
    for (const id of ["paused", "drained"]) {
      first.start(RUN_FILE, folder, id);
      if (id === "paused") first.request(id, "paused");
      await (id === "paused" ? first.finished(id) : first.drain(60_000));
    }
    const again = managerOf(fourSteps);
    assert.deepEqual(
      again.resumeInterrupted().map(({ id }) => id),
      ["drained"],
    );
    assert.equal((await again.finished("drained")).state, "FINISHED");
    assert.equal(again.get("paused").record.state, "PAUSED");
    const steps = readJournal(join(folder, "drained", "metrics.jsonl")).map(
      (line) => (line as { step: number }).step,
    );
    assert.deepEqual(steps, [1, 2, 3, 4]);
  });

  it("passes over a damaged checkpoint, says so, and sets it aside", async () => {
    const manager = managerOf(async (context) => {
      if (!context.resumeFrom) {
        context.running(4);
        for (const step of [1, 2]) {
          context.step(step, { loss: 1 / step });
          await context.checkpoints.save(step, { metricsBytes: context.metricsBytes() }, async (into) => {
            writeFileSync(join(into, "weights"), `weights of ${step}`);
          });
        }
        throw new RunInterrupted("paused");
      }
      return fourSteps(context);
    });
    manager.start(RUN_FILE, folder, "one");
    await manager.finished("one");
    const newest = join(folder, "one", "checkpoints", "step-00000002");
    writeFileSync(join(newest, "weights"), "weights of ?");
    manager.resume("one");
    assert.equal((await manager.finished("one")).state, "FINISHED");
    const events = readJournal(join(folder, "one", "events.jsonl")) as { kind: string; message?: string }[];
    const said = events.flatMap(({ message }) => message ?? []);
    assert.match(said[0] ?? "", /^checkpoint .*step-00000002 is damaged: weights: expected sha256 .* found/);
    assert.equal(said[1], "resuming after step 1");
    assert.equal(readFileSync(join(`${newest}.damaged`, "weights"), "utf8"), "weights of ?");
    assert.equal(readJournal(join(folder, "one", "metrics.jsonl")).length, 4, "each step once");
  });
});
