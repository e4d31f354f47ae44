import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { RunLockedError } from "../errors.js";
import { CheckpointStore } from "./checkpoint-store.js";
import { EventLog, type RunEvent } from "./events.js";
import { writeFileAtomic } from "./files.js";
import { Journal, readJournal } from "./journal.js";
import { isLocked, lockRun } from "./lock.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rlhf-runs-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const writeText = (text: string) => async (into: string) => writeFile(join(into, "weights"), text);
const quiet = () => assert.fail("no checkpoint is damaged");

describe("checkpoints", () => {
  it("come back with their state, and the newest is the one that counts", async () => {
    const store = new CheckpointStore(folder, { keepLast: 2 });
    await store.save(10, { klCoef: 0.2 }, writeText("ten"));
    const path = await store.save(20, { klCoef: 0.1 }, writeText("twenty"));
    const latest = await store.latest(quiet);
    assert.deepEqual(latest, { step: 20, folder: path, state: { klCoef: 0.1 } });
    assert.equal(readFileSync(join(path, "weights"), "utf8"), "twenty");
  });

  it("hold the run file that they were made under, with its digest", async () => {
    const path = await new CheckpointStore(folder, { keepLast: 1 }, "seed: 7\n").save(
      1,
      {},
      writeText("one"),
    );
    const { files } = JSON.parse(readFileSync(join(path, "manifest.json"), "utf8"));
    const sha256 = createHash("sha256").update("seed: 7\n").digest("hex");
    assert.deepEqual(files["run.yaml"], { sha256, bytes: 8 });
    assert.deepEqual(CheckpointStore.configsOf(folder), ["seed: 7\n"]);
  });

  it("that are damaged are named and the one before is used", async () => {
    const store = new CheckpointStore(folder, { keepLast: 3 });
    await store.save(1, {}, writeText("one"));
    const path = await store.save(2, {}, writeText("two"));
    writeFileSync(join(path, "weights"), "tvo");
    const damaged: string[] = [];
    assert.equal((await store.latest((_, why) => damaged.push(why)))?.step, 1);
    assert.match(damaged.join(), /weights: expected sha256 .* found/);
  });

  it("that could not be written leave the earlier ones alone", async () => {
    const store = new CheckpointStore(folder, { keepLast: 2 });
    await store.save(1, {}, writeText("one"));
    const full = async (into: string) => {
      await writeText("half")(into);
      throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    };
    await assert.rejects(store.save(2, {}, full), { code: "ENOSPC" });
    assert.equal((await store.latest(quiet))?.step, 1);
    assert.deepEqual(await readdir(join(folder, "checkpoints")), ["step-00000001"]);
  });

  it("keep the last and the best", async () => {
    const store = new CheckpointStore(folder, { keepLast: 1, keepBest: { mode: "max" } });
    for (const [step, score] of [
      [1, 0.1],
      [2, 0.9],
      [3, 0.5],
      [4, null],
    ] as const) {
      await store.save(step, {}, writeText(String(step)), score);
    }
    assert.deepEqual(await readdir(join(folder, "checkpoints")), ["step-00000002", "step-00000004"]);
  });
});

describe("a journal", () => {
  it("drops a last line that a crash cut short", () => {
    const path = join(folder, "metrics.jsonl");
    const first = new Journal(path);
    first.append({ step: 1 });
    first.close();
    appendFileSync(path, '{"step":2,"los');
    const second = new Journal(path);
    second.append({ step: 2 });
    second.close();
    assert.deepEqual(readJournal(path), [{ step: 1 }, { step: 2 }]);
  });

  it("is cut back to the length that a checkpoint noted, so no step stands twice", () => {
    const path = join(folder, "metrics.jsonl");
    const first = new Journal(path);
    first.append({ step: 1 });
    const noted = first.bytes;
    first.append({ step: 2 });
    first.close();
    const second = new Journal(path, noted);
    second.append({ step: 2, again: true });
    second.close();
    assert.deepEqual(readJournal(path), [{ step: 1 }, { step: 2, again: true }]);
  });

  it("that is closed takes nothing more, and leaves alone the file that its number went to", () => {
    const closed = new Journal(join(folder, "closed.jsonl"));
    closed.append({ step: 1 });
    closed.close();
    closed.close();
    const next = new Journal(join(folder, "next.jsonl"));
    next.append({ step: 1, with: "a line long enough to be written into" });
    assert.throws(() => closed.append({ step: 2 }), /closed\.jsonl: closed/);
    next.close();
    assert.deepEqual(readJournal(next.path), [{ step: 1, with: "a line long enough to be written into" }]);
  });

  it("that is shorter than the checkpoint says is refused", () => {
    assert.throws(() => new Journal(join(folder, "metrics.jsonl"), 5), /expected at least 5 bytes, found 0/);
  });
});

describe("the lock of a run directory", () => {
  it("names its owner to whoever comes second, and is free again after", () => {
    const release = lockRun(folder);
    assert.ok(isLocked(folder));
    assert.throws(
      () => lockRun(folder),
      (error: unknown) => error instanceof RunLockedError && error.owner.pid === process.pid,
    );
    release();
    assert.ok(!isLocked(folder));
    lockRun(folder)();
  });

  it("is taken over from a process that is gone", () => {
    const dead = spawnSync(process.execPath, ["-e", "0"]).pid;
    writeFileSync(join(folder, "lock"), JSON.stringify({ pid: dead, host: "", since: "", started: "1" }));
    assert.ok(isLocked(folder), "another host is believed");
    rmSync(join(folder, "lock"));
    const release = lockRun(folder);
    const owner = JSON.parse(readFileSync(join(folder, "lock"), "utf8"));
    release();
    writeFileSync(join(folder, "lock"), JSON.stringify({ ...owner, started: "1" }));
    assert.ok(!isLocked(folder), "a reused process id is not the owner");
    lockRun(folder)();
    assert.ok(!existsSync(join(folder, "lock")));
  });

  it("is taken over from a process that was killed and whose parent never asked", async () => {
    // `exec` puts a program in the shell's place that waits for no child
    const parent = spawn("sh", ["-c", "sleep 0.2 & echo $!; exec sleep 30"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    try {
      const [chunk] = (await once(parent.stdout, "data")) as [Buffer];
      const pid = Number(chunk.toString());
      while (!readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")) await new Promise(setImmediate);
      const owner = { pid, host: hostname(), since: "", started: "" };
      writeFileSync(join(folder, "lock"), JSON.stringify(owner));
      assert.ok(!isLocked(folder));
    } finally {
      parent.kill();
    }
  });
});

describe("events of a run", () => {
  it("are followed from any number on, live, until the log is closed", async () => {
    const log = new EventLog(folder);
    log.add({ kind: "state", state: "RUNNING" });
    const seen: RunEvent[] = [];
    const reading = (async () => {
      for await (const event of log.follow(0, new AbortController().signal)) seen.push(event);
    })();
    log.add({ kind: "log", level: "warn", message: "slow" });
    await new Promise(setImmediate);
    log.add({ kind: "state", state: "FINISHED" });
    log.close();
    await reading;
    assert.deepEqual(
      seen.map((event) => event.event),
      [0, 1, 2],
    );
    const again = new EventLog(folder);
    assert.equal(again.next, 3, "numbers go on after a restart");
    again.close();
  });

  it("are read from disk where a follower wants older ones than memory holds", async () => {
    const log = new EventLog(folder);
    for (let i = 0; i < 2000; i++) log.add({ kind: "log", level: "info", message: "from memory" });
    const path = join(folder, "events.jsonl");
    await writeFile(path, readFileSync(path, "utf8").replaceAll("from memory", "from disk!!")); // of one length
    log.add({ kind: "log", level: "info", message: "the newest" });
    log.close();
    const seen: (RunEvent & { message?: string })[] = [];
    for await (const event of log.follow(10, new AbortController().signal)) seen.push(event);
    assert.deepEqual(
      seen.map(({ event }) => event),
      Array.from({ length: 1991 }, (_, i) => 10 + i),
      "each once and in order",
    );
    const memory = seen.findIndex(({ message }) => message === "from memory");
    assert.ok(memory > 1000, "what a long run said is not kept in memory");
    assert.ok(seen.slice(0, memory).every(({ message }) => message === "from disk!!"));
    assert.equal(seen.at(-1)?.message, "the newest");
  });

  it("keep only the newest of consecutive phases", async () => {
    const log = new EventLog(folder);
    for (const done of [0, 0.5, 1]) log.add({ kind: "phase", step: 1, phase: "generate", done });
    log.close();
    const seen: RunEvent[] = [];
    for await (const event of log.follow(0, new AbortController().signal)) seen.push(event);
    assert.equal(seen.length, 1);
    assert.equal(readJournal(join(folder, "events.jsonl")).length, 0);
  });
});

describe("an atomic write", () => {
  it("replaces the file and leaves nothing beside it", async () => {
    const path = join(folder, "run.json");
    writeFileAtomic(path, "one");
    writeFileAtomic(path, "two");
    assert.equal(readFileSync(path, "utf8"), "two");
    assert.deepEqual(await readdir(folder), ["run.json"]);
  });
});
