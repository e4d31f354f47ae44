/**
 * @file `rlhf runs …` and runs on a trainer elsewhere, as a user meets them: list, watch, pause, resume and stop, for people and for
 * scripts; leaving a run that goes on; exit statuses of runs that end well, fail, or do not exist.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { golden } from "./contract/contract.js";
import { eventually } from "./support/eventually.js";
import type { Service } from "./support/processes.js";
import type { TrainerClient } from "./support/runs.js";
import { useSandbox } from "./support/sandbox.js";

describe("rlhf runs, with a trainer that serves", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");
  let trainer: Service;
  let client: TrainerClient;

  before("serves", async () => {
    const box = sandbox();
    trainer = await box.serve("trainer", ["--runs-dir", box.path("runs"), "--max-runs", "3"]);
    client = box.client(TrainerService, trainer.address);
  });

  /** A run file of fine-tuning on the tiny golden model. */
  function runFile(name: string, change: object): string {
    const box = sandbox();
    const train = box.write("rows.csv", "question,answer\nwhere is it?,it is here.\nwho is it?,it is ann.\n");
    const small = { threads: 1, model: golden("gpt2-tiny"), batchSize: 2, maxTokens: 16 };
    return box.write(
      `${name}.json`,
      JSON.stringify({ kind: "sft", data: { train }, ...small, epochs: 1, ...change }),
    );
  }

  const rlhf = (...args: string[]) => sandbox().rlhf([...args, "--trainer", trainer.address]);
  const stateOf = async (runId: string) => (await client.getRun({ runId })).run?.state;
  const reaches = (runId: string, state: RunState) =>
    eventually(
      async () => (await stateOf(runId)) === state,
      () => `${runId} is ${RunState[state]}`,
    );
  const step = async (runId: string) => Number((await client.getRun({ runId })).run?.step);

  it("runs a file on it to the end, with plain lines of progress where there is no terminal", async () => {
    const file = runFile("short", { epochs: 3 });
    const { code, stdout, stderr } = await rlhf("sft", file, "--run-id", "short");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^run short started on 127\.0\.0\.1:\d+/m);
    assert.match(stdout, /^model: .*runs\/short\/model$/m);
    assert.match(stderr, /step 3\/3: loss [\d.]+, tokens\/s \d+: 0 s left/);
    assert.ok(!stderr.includes("\u001b["), "no control sequences");
  });

  it("says events as JSON lines to scripts, and nothing else on stdout", async () => {
    const { code, stdout } = await sandbox().rlhf([
      "--json",
      "runs",
      "watch",
      "short",
      "--trainer",
      trainer.address,
    ]);
    assert.equal(code, 0);
    const events = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: number; step?: { metrics: Record<string, number> } });
    assert.deepEqual(
      events.map(({ event }) => event),
      events.map((_, i) => i),
    );
    const steps = events.flatMap((event) => event.step ?? []);
    assert.equal(steps.length, 3);
    assert.ok(Number.isFinite(steps[0]?.metrics["sft/loss"]));
  });

  it("pauses a run at the end of a step, resumes it where it was, and stops it for good", async () => {
    const file = runFile("long", { epochs: 1_000_000, checkpoint: { every: 1_000_000 } });
    await client.startRun({ config: readFileSync(file, "utf8"), runId: "long" });
    await eventually(
      async () => (await step("long")) >= 2,
      () => "two steps",
    );
    const paused = await rlhf("runs", "pause", "long");
    assert.equal(paused.code, 0, paused.stderr);
    assert.match(paused.stdout, /run long will pause at the end of its step/);
    await reaches("long", RunState.PAUSED);
    const at = await step("long");
    const listed = JSON.parse((await rlhf("runs", "list", "--json")).stdout) as {
      id: string;
      state: string;
      step: number;
    }[];
    assert.deepEqual(
      listed.map(({ id, state }) => [id, state]),
      [
        ["long", "paused"],
        ["short", "finished"],
      ],
    );
    const table = (await rlhf("runs", "list")).stdout;
    assert.match(table, /^run +kind +state +step +started +reason$/m);
    assert.match(table, new RegExp(`^long +sft +paused +${at}/1000000 `, "m"));

    const resumed = await rlhf("runs", "resume", "long");
    assert.equal(resumed.code, 0, resumed.stderr);
    await eventually(
      async () => (await step("long")) > at,
      () => "a step after the resume",
    );
    const watching = sandbox().start(["runs", "watch", "long", "--trainer", trainer.address]);
    await watching.seen(/sft step|long step|step \d+\/1000000/);
    assert.equal((await rlhf("runs", "stop", "long")).code, 0);
    const watched = await watching.ended;
    assert.equal(watched.code, 0, watched.stderr);
    assert.match(watched.stdout, /run long: stopped/);
    assert.equal(await stateOf("long"), RunState.STOPPED);
  });

  it("leaves a run that goes on when it gets Ctrl-C, and says how to see it again", async () => {
    const box = sandbox();
    const file = runFile("left", { epochs: 1_000_000, checkpoint: { every: 1_000_000 } });
    const running = box.start(["sft", file, "--run-id", "left", "--trainer", trainer.address]);
    await running.seen(/step \d+\/1000000/);
    running.child.kill("SIGINT");
    const ended = await running.ended;
    assert.equal(ended.code, 130, ended.stderr);
    assert.match(ended.stderr, /left run left; `rlhf runs watch left --trainer/);
    assert.equal(await stateOf("left"), RunState.RUNNING);
    assert.equal((await rlhf("runs", "stop", "left")).code, 0);
    await reaches("left", RunState.STOPPED);
  });

  it("ends with 1 where the run failed, and says why and where its log is", async () => {
    const file = runFile("broken", { epochs: 3, optimizer: { learningRate: 1e30, maxGradNorm: null } });
    const { code, stderr } = await rlhf("sft", file, "--run-id", "broken");
    assert.equal(code, 1);
    assert.match(stderr, /run broken failed: step \d+: expected a finite (loss|gradient)/);
    assert.match(stderr, /its log and checkpoints are in .*runs\/broken/);
  });

  it("ends with 4 where the trainer refuses, and with 2 where the request is wrong", async () => {
    const unknown = await rlhf("runs", "pause", "nobody");
    assert.equal(unknown.code, 4);
    assert.match(unknown.stderr, /NOT_FOUND: run "nobody": no such run/);
    const finished = await rlhf("runs", "stop", "short");
    assert.equal(finished.code, 4);
    assert.match(finished.stderr, /FAILED_PRECONDITION: run short is FINISHED/);
    const taken = await rlhf("sft", runFile("again", {}), "--run-id", "short");
    assert.equal(taken.code, 4);
    assert.match(taken.stderr, /short exists already/);
    const wrong = await rlhf("sft", runFile("wrong", { batchSize: 0 }), "--run-id", "wrong");
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /config\.batchSize: 0 → /);
  });
});
