/**
 * maxStaleness 0 and 1: which weights sample a batch, what overlaps, what the ratio is taken against, and what is checked before learning.
 */
import assert from "node:assert/strict";
import { eventually } from "../../../lib/weights/testing.js";
import { logged, type MeshRun, TestMesh } from "../testing/mesh.js";
import { readBatchRecord } from "./batch-record.js";

const BATCHES = 4;

/** Learning that all but leaves the weights alone: a ratio that is not 1 has another cause. */
const STILL = { learningRate: 1e-12, earlyStopping: false };

describe("maxStaleness", function () {
  this.timeout(60_000);
  let mesh: TestMesh;
  before(async () => {
    mesh = await TestMesh.start();
  });
  after(() => mesh.close());

  /** Versions between the learner and each sample of each recorded batch. */
  function staleness({ directory, record }: MeshRun): number[][] {
    return Array.from({ length: record.step }, (_, i) => {
      const batch = readBatchRecord(directory, i + 1);
      return (batch?.batch.samples ?? []).map(({ sample }) => (batch?.version ?? -1) - sample.weightVersion);
    });
  }

  const series = (run: MeshRun, name: string) => run.metrics.map((line) => line[name]);

  it("0 generates each batch by the newest weights, when the one before is learned", async () => {
    const doing: string[] = [];
    const faults = { beforeGenerate: async () => void doing.push("generate") };
    const { address } = await mesh.policy("on-policy", faults);
    const file = mesh.runFile([address], { batches: BATCHES, record: true, maxStaleness: 0 });
    mesh.manager.start(file, mesh.directory, "on-policy");
    for await (const event of mesh.manager.watch("on-policy", 0, new AbortController().signal)) {
      if (event.kind === "step") doing.push("learned");
    }
    const run = await mesh.ended("on-policy");
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(doing.slice(0, 4), ["generate", "learned", "generate", "learned"]);
    assert.deepEqual(staleness(run), Array(BATCHES).fill([0, 0, 0, 0]));
    assert.deepEqual(series(run, "rollout/staleness_max"), Array(BATCHES).fill(0));
  });

  it("1 generates the next batch while this one is learned, by weights that are one version older by then", async () => {
    let learning = 0;
    let calls = 0;
    const overlapped: number[] = [];
    const faults = {
      // the second batch is not answered before the first is being learned
      beforeGenerate: async () => {
        calls += 1;
        if (calls === 1) return;
        const batch = calls - 1;
        await eventually(() => learning >= batch, `batch ${batch} is learned meanwhile`, 30_000);
        overlapped.push(batch);
      },
    };
    const { address } = await mesh.policy("ahead", faults);
    const file = mesh.runFile([address], { batches: BATCHES, record: true, maxStaleness: 1 });
    mesh.manager.start(file, mesh.directory, "ahead");
    for await (const event of mesh.manager.watch("ahead", 0, new AbortController().signal)) {
      if (event.kind === "phase" && event.phase === "learn") learning = event.step;
    }
    const run = await mesh.ended("ahead");
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(overlapped, [1, 2, 3]);
    const one = [1, 1, 1, 1];
    assert.deepEqual(staleness(run), [[0, 0, 0, 0], one, one, one]);
    assert.deepEqual(series(run, "rollout/staleness_max"), [0, 1, 1, 1]);
    assert.deepEqual(series(run, "rollout/weight_version_lag"), [0, 1, 1, 1]);
  });

  it("1 takes the ratio against the log-probabilities of the sampler, 0 against the learner's own", async () => {
    // the sampler says that each token was less likely than it is by a tenth of a nat
    const faults = { sampled: (logprob: number) => logprob - 0.1 };
    const change = { batches: 2, ppo: STILL, alarms: { logprobMismatch: "off" } };
    const ahead = await mesh.run("against-sampler", { ...change, maxStaleness: 1 }, faults);
    const on = await mesh.run("against-learner", change, faults);
    for (const [run, ratio] of [
      [ahead, Math.exp(0.1)],
      [on, 1],
    ] as const) {
      assert.equal(run.record.state, "FINISHED", run.record.reason);
      for (const bound of ["ppo/policy/ratio_min", "ppo/policy/ratio_max"]) {
        for (const value of series(run, bound)) assert.ok(Math.abs((value ?? 0) - ratio) < 1e-3, `${value}`);
      }
    }
  });

  it("1 asks the servers about each version before it is trained on, also where no sample is of it", async () => {
    let wrong = false;
    const { address } = await mesh.policy("probed", { scored: (logprob) => logprob - (wrong ? 0.5 : 0) });
    const file = mesh.runFile([address], { batches: BATCHES, maxStaleness: 1 });
    mesh.manager.start(file, mesh.directory, "probed");
    for await (const event of mesh.manager.watch("probed", 0, new AbortController().signal)) {
      if (event.kind === "step" && event.step === 2) wrong = true;
    }
    const run = await mesh.ended("probed");
    assert.equal(run.record.state, "FAILED");
    const [alarm] = logged(run, "alarm");
    assert.equal(alarm?.fields?.alarm, "logprobMismatch");
    assert.match(
      alarm?.message ?? "",
      /under weight version [23] policy server and learner differ by 0\.5 nats/,
    );
    assert.ok(run.metrics.length < BATCHES);
  });
});
