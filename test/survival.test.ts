/**
 * @file `rlhf train` as a user runs it, with everything it needs started for it: to the end, through Ctrl-C, and through kill -9 of all
 * of its processes at once. What is resumed repeats the numbers of the run that nobody touched, bit for bit.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { eventually } from "./support/eventually.js";
import { tinyModels } from "./support/models.js";
import { markedProcesses } from "./support/processes.js";
import { metricsOf, ppoRunFile, withoutTimes } from "./support/runs.js";
import { type Sandbox, useSandbox } from "./support/sandbox.js";

const BATCHES = 8;

describe("an embedded run", function () {
  this.timeout(180_000);
  const sandbox = useSandbox("all");
  let file = "";

  before("runs to its end untouched", async () => {
    const box = sandbox();
    const models = await tinyModels();
    const config = JSON.parse(
      ppoRunFile(models, {
        seed: 7,
        servers: { reward: { model: models.reward }, bertscore: { model: models.reward, layer: 0 } },
        rewards: [
          { type: "classifier", weight: 2 },
          { type: "bertscore", signed: false },
        ],
        batches: BATCHES,
        checkpoint: { every: 2 },
      }),
    );
    file = box.write("run.json", JSON.stringify(config));
    const ended = await box.rlhf(["train", file, "--run-id", "whole"], { timeoutMs: 90_000 });
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(ended.stdout, /weights travel by (NATS|files)/);
    assert.match(ended.stdout, /reference +[\d.-]+/);
    assert.match(ended.stdout, /tuned \[good\] +[\d.-]+/);
    assert.deepEqual(markedProcesses(box.mark), [], "no process is left behind");
  });

  it("pauses at Ctrl-C, leaves no process, and goes on with the same numbers", async () => {
    const box = sandbox();
    const running = box.start(["train", file, "--run-id", "paused", "--no-eval"]);
    await eventually(
      () => steps(box, "paused") >= 2,
      () => "two steps",
      60_000,
    );
    running.child.kill("SIGINT");
    const ended = await running.ended;
    assert.equal(ended.code, 130, ended.stderr);
    assert.match(ended.stderr, /runs resume paused/);
    await eventually(
      () => markedProcesses(box.mark).length === 0,
      () => "an end of all",
      10_000,
    );
    await resumed(box, "paused");
  });

  it("survives kill -9 of every process, and goes on with the same numbers", async () => {
    const box = sandbox();
    box.start(["train", file, "--run-id", "killed", "--no-eval"]);
    await eventually(
      () => steps(box, "killed") >= 5,
      () => "five steps",
      60_000,
    );
    for (const pid of markedProcesses(box.mark)) process.kill(pid, "SIGKILL");
    await eventually(
      () => markedProcesses(box.mark).length === 0,
      () => "an end of all",
      10_000,
    );
    assert.ok(steps(box, "killed") < BATCHES, "it was killed in its midst");
    const listed = await box.rlhf(["runs", "list", "--json"]);
    const runs = JSON.parse(listed.stdout) as { id: string; state: string }[];
    assert.equal(runs.find(({ id }) => id === "killed")?.state, "interrupted");
    await resumed(box, "killed");
  });
});

/** Steps that a run has written down. */
function steps(box: Sandbox, runId: string): number {
  const path = box.path("runs", runId, "metrics.jsonl");
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
}

/** Resumes a run to its end and holds it against the one that nobody touched. */
async function resumed(box: Sandbox, runId: string): Promise<void> {
  const ended = await box.rlhf(["runs", "resume", runId], { timeoutMs: 90_000 });
  assert.equal(ended.code, 0, ended.stderr);
  assert.deepEqual(markedProcesses(box.mark), []);
  const numbers = (id: string) => withoutTimes(metricsOf(box.path("runs", id)));
  assert.equal(numbers(runId).length, BATCHES);
  assert.deepEqual(numbers(runId), numbers("whole"));
  const weights = (id: string) => readFileSync(box.path("runs", id, "model", "model.safetensors"));
  assert.ok(weights(runId).equals(weights("whole")), "the tuned weights are the same bytes");
}
