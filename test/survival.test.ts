/**
 * @file `rlhf train` as a user runs it, with everything it needs started for it: to the end, through Ctrl-C, and through kill -9 of all
 * of its processes at once; and a trainer service that is killed while its servers live on. What is resumed repeats the numbers of the run that nobody touched, bit for bit.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { startCluster } from "./support/cluster.js";
import { eventually } from "./support/eventually.js";
import { type TinyModels, tinyModels } from "./support/models.js";
import { killMarked, markedProcesses } from "./support/processes.js";
import { awaitRun, metricsOf, ppoRunFile, withoutTimes } from "./support/runs.js";
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
        // two shards a batch that are scored as they come, and rows that come up again and again
        servers: {
          policy: { count: 2 },
          reward: { model: models.reward },
          bertscore: { model: models.reward, layer: 1 },
        },
        data: { train: models.train, test: models.test, maxRows: 40 },
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
    const other = box.write(
      "other.json",
      JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), seed: 8 }),
    );
    const refused = await box.rlhf(["runs", "resume", "paused", "--file", other]);
    assert.equal(refused.code, 4);
    assert.match(
      refused.stderr,
      /the run file differs in seed: 7 → 8\. When a run is resumed, only servers,/,
    );
    await resumed(box, "paused", "--file", file);
  });

  it("survives kill -9 of every process, and goes on with the same numbers", async () => {
    const box = sandbox();
    box.start(["train", file, "--run-id", "killed", "--no-eval"]);
    await eventually(
      () => steps(box, "killed") >= 5,
      () => "five steps",
      60_000,
    );
    killMarked(box.mark);
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

describe("a trainer service", function () {
  this.timeout(180_000);
  const sandbox = useSandbox("all");
  let models: TinyModels;

  before("makes the models", async () => {
    models = await tinyModels();
  });

  /** Starts a trainer on the sandbox's runs. */
  async function trainerOf(box: Sandbox, ...flags: string[]) {
    const trainer = await box.serve("trainer", ["--runs-dir", box.path("runs"), ...flags]);
    return { trainer, client: box.client(TrainerService, trainer.address) };
  }

  it("that is killed twice and started again goes on with the same numbers, asked to or by itself", async () => {
    const box = sandbox();
    const change = {
      batches: BATCHES,
      checkpoint: { every: 2 },
      rewards: [{ type: "classifier", weight: 4 }],
    };
    // what a killed trainer asked for may still run beside what the next one asks for
    const servers = { bus: `file:${box.path("weights")}`, batchInvariant: true };
    const [whole, killed] = await Promise.all([
      startCluster(box, models, { runId: "whole", ...servers }),
      startCluster(box, models, { runId: "killed", ...servers }),
    ]);
    let { trainer, client } = await trainerOf(box);
    const start = (runId: string, fields: object) =>
      client.startRun({ runId, config: ppoRunFile(models, { ...change, ...fields }) });
    await start("whole", whole.fields);
    assert.equal((await awaitRun(client, "whole")).state, RunState.FINISHED);

    await start("killed", killed.fields);
    await eventually(
      () => steps(box, "killed") >= 3,
      () => "three steps",
      60_000,
    );
    await trainer.kill();
    ({ trainer, client } = await trainerOf(box));
    assert.equal((await client.getRun({ runId: "killed" })).run?.state, RunState.INTERRUPTED);
    const resumed = await box.rlhf(["runs", "resume", "killed", "--trainer", trainer.address]);
    assert.equal(resumed.code, 0, resumed.stderr);
    assert.match(resumed.stdout, /run killed goes on/);
    await eventually(
      () => steps(box, "killed") >= 5,
      () => "five steps",
      60_000,
    );
    await trainer.kill();
    ({ trainer, client } = await trainerOf(box, "--resume-interrupted"));
    const ended = await awaitRun(client, "killed");
    assert.equal(ended.state, RunState.FINISHED, ended.reason);
    assertSame(box, "killed", "whole");
  });
});

/** Steps that a run has written down. */
function steps(box: Sandbox, runId: string): number {
  const path = box.path("runs", runId, "metrics.jsonl");
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
}

/** Resumes a run to its end and holds it against the one that nobody touched. */
async function resumed(box: Sandbox, runId: string, ...options: string[]): Promise<void> {
  const ended = await box.rlhf(["runs", "resume", runId, ...options], { timeoutMs: 90_000 });
  assert.equal(ended.code, 0, ended.stderr);
  assert.deepEqual(markedProcesses(box.mark), []);
  assertSame(box, runId, "whole");
}

/** Asserts that two runs ended with the same metrics and the same tuned model. */
function assertSame(box: Sandbox, one: string, other: string): void {
  const numbers = (id: string) => withoutTimes(metricsOf(box.path("runs", id)));
  assert.equal(numbers(one).length, BATCHES);
  assert.deepEqual(numbers(one), numbers(other));
  const weights = (id: string) => readFileSync(box.path("runs", id, "model", "model.safetensors"));
  assert.ok(weights(one).equals(weights(other)), "the tuned models are the same bytes");
}
