/**
 * Runs under each profile, from rows to new weights: what each trains on, and the statistics that it leaves behind.
 */
import assert from "node:assert/strict";
import type { PPO_PROFILES } from "../ppo/options.js";
import { type MeshRun, TestMesh } from "../testing/mesh.js";
import { readBatchRecord } from "./batch-record.js";

const BATCHES = 2;

describe("a run under profile", function () {
  this.timeout(60_000);
  let mesh: TestMesh;
  before(async () => {
    mesh = await TestMesh.start();
  });
  after(() => mesh.close());

  async function runOf(profile: keyof typeof PPO_PROFILES): Promise<MeshRun> {
    // four samples of a dozen tokens say little about the health of learning
    const alarms = {
      negativeKl: "off",
      entropyCollapse: "off",
      ratioOutOfRange: "off",
      logprobMismatch: "off",
    };
    const ppo = { profile, learningRate: 1e-5, ...(profile === "default" ? {} : { minibatchSize: 1 }) };
    const run = await mesh.run(profile, { batches: BATCHES, record: true, alarms, ppo });
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.equal(run.metrics.length, BATCHES);
    assert.equal(run.record.weights?.version, BATCHES);
    for (const name of ["objective/kl", "objective/kl_k3", "ppo/loss/total", "ppo/grad_norm"]) {
      assert.ok(
        run.metrics.every((line) => Number.isFinite(line[name])),
        name,
      );
    }
    assert.ok(run.metrics.every((line) => line["rollout/weight_version_lag"] === 0));
    return run;
  }

  /** Ids of a sample's query and response as trained on, and the response as sampled. */
  const samplesOf = (run: MeshRun) =>
    (readBatchRecord(run.directory, 1)?.batch.samples ?? []).map(({ sample }) => sample);

  it("default trains on the response that was sampled", async () => {
    const run = await runOf("default");
    assert.ok(samplesOf(run).every(({ promptIds, responseIds }) => promptIds.length > responseIds.length));
    const mean = (name: string) => run.metrics[0]?.[name] as number;
    assert.equal(mean("tokens/responses_len_mean"), mean("rollout/response_tokens_mean"));
    assert.ok((mean("rollout/logprob_gap") as number) < 1e-4);
  });

  it("trl-0.2.1 has that version's statistics and none of later ones", async () => {
    const run = await runOf("trl-0.2.1");
    assert.ok("ppo/time/ppo/optimizer_step" in (run.metrics[0] ?? {}));
    for (const later of ["tokens/queries_len_mean", "ppo/mean_scores", "time/ppo/compute_advantages"]) {
      assert.ok(!(later in (run.metrics[0] ?? {})), later);
    }
  });

  it("notebook has the query in the response that it trains on, and rewards that are probabilities", async () => {
    const asked: string[] = [];
    const healthy = mesh.scorers.reward;
    mesh.scorers.reward = (text, call) => {
      asked.push(text);
      return healthy(text, call);
    };
    try {
      const run = await runOf("notebook");
      assert.ok(
        !("rollout/logprob_gap" in (run.metrics[0] ?? {})),
        "sampler and learner read other sequences",
      );
      assert.ok(
        asked.every((text) => text.includes("question: what is number")),
        "the reward model reads prompt and response",
      );
    } finally {
      mesh.scorers.reward = healthy;
    }
  });
});
