/**
 * Replays and comparisons over the trainer's own service; the model servers of the runs are gone by then.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DiffRunsResponse,
  type ReplayRunResponse,
  TrainerService,
} from "../../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { type Client, createClient, type RunningServer, startServer } from "../../../lib/rpc/index.js";
import { silentLog } from "../../../lib/telemetry/index.js";
import { Evaluator } from "../evaluate/evaluator.js";
import { trainerService } from "../service.js";
import { type RunFileChange, TestMesh, usualReward } from "../testing/mesh.js";
import { Replayer } from "./replayer.js";

describe("a recorded run", function () {
  this.timeout(60_000);
  let mesh: TestMesh;
  let server: RunningServer;
  let client: Client<(typeof TrainerService)["method"]>;

  before(async () => {
    mesh = await TestMesh.start();
    const plain = { record: true, batches: 4, checkpoint: { every: 2, keepLast: 9 } };
    await mesh.run("one", plain);
    await mesh.run("two", plain);
    await mesh.run("other-seed", { ...plain, batches: 2, seed: 4 });
    await mesh.run("stale", {
      ...plain,
      maxStaleness: 1,
      ppo: { profile: "trl-0.2.1", batchSize: 4, minibatchSize: 1, epochs: 2, learningRate: 1e-3 },
    });
    await changedScores("changed", plain);
    await overflow("overflow", plain);
    await resumed("resumed", { ...plain, schedule: "linear" });
    await mesh.closeServers();
    const service = trainerService(
      mesh.manager,
      new Evaluator(mesh.manager),
      new Replayer(mesh.manager),
      "/",
      () => ({}),
    );
    server = await startServer({
      name: "trainer",
      services: [service],
      listen: "127.0.0.1:0",
      log: silentLog(),
    });
    client = createClient(TrainerService, server.address, { deadlineMs: 30_000 });
  });
  after(async () => {
    client.close();
    await server.drain();
    await mesh.close();
  });

  /** A run whose scores change a little in its third batch. */
  async function changedScores(id: string, change: RunFileChange) {
    const before = mesh.calls.reward;
    mesh.scorers.reward = (text, call) => usualReward(text) + (call - before === 3 ? 0.25 : 0);
    await mesh.run(id, change);
    mesh.scorers.reward = usualReward;
  }

  /** A run that fails at its third batch. */
  async function overflow(id: string, change: RunFileChange) {
    const before = mesh.calls.reward;
    mesh.scorers.reward = (text, call) => (call - before >= 3 ? 1e30 : usualReward(text));
    const { record } = await mesh.run(id, change);
    assert.equal(record.state, "FAILED");
    mesh.scorers.reward = usualReward;
  }

  /** A run that pauses after its first batch and goes on with more threads and more batches, so with another learning rate. */
  async function resumed(id: string, change: RunFileChange) {
    const { address } = await mesh.policy(id);
    mesh.manager.start(mesh.runFile([address], { ...change, batches: 3 }), mesh.directory, id);
    mesh.manager.request(id, "paused");
    assert.equal((await mesh.manager.finished(id)).step, 1);
    mesh.manager.resume(id, mesh.runFile([address], { ...change, batches: 4, threads: 2 }));
    assert.equal((await mesh.manager.finished(id)).state, "FINISHED");
  }

  const path = (id: string, ...parts: string[]) => join(mesh.runsDirectory, id, ...parts);

  async function replay(runId: string, batch: number): Promise<ReplayRunResponse[]> {
    const replies: ReplayRunResponse[] = [];
    for await (const reply of client.replayRun({ runId, batch: BigInt(batch) })) replies.push(reply);
    return replies;
  }

  const plainly = (replies: readonly ReplayRunResponse[]) =>
    replies.map(({ step, fromStep, differences }) => [Number(step), Number(fromStep), differences.length]);

  it("repeats its numbers from the checkpoint before, and from the start", async () => {
    const replies = await replay("one", 4);
    assert.deepEqual(plainly(replies), [
      [3, 2, 0],
      [4, 2, 0],
    ]);
    assert.ok((replies[0]?.compared ?? 0) > 40, "all metrics but times, and the digest of the weights");
    assert.deepEqual(plainly(await replay("one", 2)), [
      [1, 0, 0],
      [2, 0, 0],
    ]);
  });

  it("repeats its numbers with stale samples and dropout", async () => {
    rmSync(path("stale", "checkpoints"), { recursive: true });
    assert.deepEqual(plainly(await replay("stale", 4)), [
      [1, 0, 0],
      [2, 0, 0],
      [3, 0, 0],
      [4, 0, 0],
    ]);
  });

  it("repeats its numbers over a resume with other threads and another length of the schedule", async () => {
    rmSync(path("resumed", "checkpoints"), { recursive: true });
    const replies = await replay("resumed", 4);
    assert.deepEqual(plainly(replies), [
      [1, 0, 0],
      [2, 0, 0],
      [3, 0, 0],
      [4, 0, 0],
    ]);
  });

  it("repeats the failure of the step that failed", async () => {
    const [reply, ...rest] = await replay("overflow", 3);
    assert.deepEqual([reply?.step, reply?.differences.length, rest.length], [3n, 0, 0]);
    assert.match(reply?.failure ?? "", /expected a finite/);
  });

  it("that was changed differs, in the first quantity that the change reaches, and ends there", async () => {
    const file = path("two", "records", "batch-00000003.json");
    const record = readFileSync(file, "utf8");
    const changed = JSON.parse(record);
    changed.batch.samples[1].reward.outcome.score += 1e-12;
    writeFileSync(file, JSON.stringify(changed));
    const replies = await replay("two", 4);
    writeFileSync(file, record);
    assert.equal(replies.length, 1);
    const [first] = replies[0]?.differences ?? [];
    assert.equal(first?.quantity, "env/reward_mean");
    assert.equal(first.first, String(lineOf("two", 3)["env/reward_mean"]));
    assert.notEqual(first.second, first.first);
  });

  it("without the records that a replay needs is refused with what is missing", async () => {
    rmSync(path("two", "records", "batch-00000003.json"));
    await assert.rejects(replay("two", 4), (error: Error & { code?: string }) => {
      assert.equal(error.code, "WRONG_STATE");
      assert.match(error.message, /batch 3 has no record.*goes from checkpoint 2.*recorded: 1 to 4/);
      return true;
    });
    await assert.rejects(replay("two", 9), /batch.*9/);
    await assert.rejects(replay("none", 1), { code: "UNKNOWN_RUN" });
  });

  it("does not stand in the way of another: one replay at a time, and none of a run at work", async () => {
    const replayer = new Replayer(mesh.manager);
    const options = { signal: new AbortController().signal, warn: () => {} };
    const first = replayer.replay("one", 4, options);
    await first.next();
    await assert.rejects(replayer.replay("one", 4, options).next(), { code: "QUEUE_FULL" });
    await first.return(undefined);
    assert.ok(!(await replayer.replay("one", 1, options).next()).done);
  });

  const diff = (runId: string, otherRunId: string): Promise<DiffRunsResponse> =>
    client.diffRuns({ runId, otherRunId });

  function lineOf(id: string, step: number): Record<string, number> {
    const lines = readFileSync(path(id, "metrics.jsonl"), "utf8").split("\n");
    return JSON.parse(lines[step - 1] as string);
  }

  it("is the same as one of the same run file, but for where its servers were", async () => {
    const { step, differences, configuration, commonSteps } = await diff("one", "two");
    assert.deepEqual([step, differences.length, commonSteps], [undefined, 0, 4n]);
    assert.deepEqual(
      configuration.map(({ field, matters }) => [field, matters]),
      [["servers.policy.addresses.0", false]],
    );
  });

  it("parts from one whose scorer changed in that batch, at the score of the first sample", async () => {
    const { step, differences } = await diff("one", "changed");
    assert.equal(step, 3n);
    const [first] = differences;
    assert.deepEqual([first?.quantity, first?.sample], ["scores", 0]);
    assert.match(first?.first ?? "", /^\[0\] classifier -?\d/);
  });

  it("parts from one of another seed at once, and names the field", async () => {
    const { step, differences, configuration, otherSteps } = await diff("one", "other-seed");
    assert.deepEqual([step, otherSteps], [1n, 2n]);
    assert.match(differences[0]?.quantity ?? "", /prompt ids|control token/);
    const seed = configuration.find(({ field }) => field === "seed");
    assert.deepEqual([seed?.first, seed?.second, seed?.matters], ["3", "4", true]);
  });
});
