/**
 * Faults put into real PPO runs; each must raise its alarm with the cause that was put in.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { logged, type MeshRun, TestMesh, usualReward } from "../testing/mesh.js";

/** The one alarm of that name; fails if there are others or none. */
function alarmOf(run: MeshRun, name: string) {
  const alarms = logged(run, "alarm").filter(({ level }) => level === "warn");
  assert.deepEqual(
    [...new Set(alarms.map(({ fields }) => fields?.alarm))],
    [name],
    `${run.record.reason}\n${alarms.map(({ message }) => message).join("\n")}`,
  );
  const { message, fields = {} } = alarms[0] as (typeof alarms)[number];
  assert.match(message, /^alarm \w+ at step \d+: .+\. Likely cause: .+\. Remedy: .+\.$/);
  return { message, ...fields, cause: fields.cause ?? "", remedy: fields.remedy ?? "", step: fields.step };
}

describe("a run with a fault", function () {
  this.timeout(30_000);
  let mesh: TestMesh;
  before(async () => {
    mesh = await TestMesh.start();
  });
  after(() => mesh.close());
  afterEach(() => {
    mesh.scorers.reward = usualReward;
    mesh.scorers.similarity = () => 0.5;
    delete mesh.reference.scored;
  });

  it("but none raises no alarm", async () => {
    const run = await mesh.run("healthy", { batches: 4 });
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(logged(run, "alarm"), []);
  });

  it("in the policy server's log-probabilities stops before a single sample is learned from", async () => {
    const run = await mesh.run("mismatch", {}, { sampled: (logprob) => logprob - 0.5 });
    const { cause, step } = alarmOf(run, "logprobMismatch");
    assert.match(cause, /other weights than the learner, or read the prompt differently/);
    assert.equal(step, "1");
    assert.deepEqual([run.record.state, run.metrics.length], ["FAILED", 0]);
    assert.match(run.record.reason, /^alarm logprobMismatch at step 1: .*differ by 0\.5 nats/);
    assert.ok(!existsSync(join(run.directory, "checkpoints")));
  });

  it("in later tokens alone names cache, positions and mask", async () => {
    const run = await mesh.run("cache", {}, { sampled: (logprob, place) => logprob - (place > 0 ? 0.5 : 0) });
    assert.match(alarmOf(run, "logprobMismatch").cause, /first token of each response agrees/);
  });

  it("in one of two policy servers names that one, and goes on where the run file says warn", async () => {
    const id = "one-of-two";
    const [good, bad] = [
      await mesh.policy(id),
      await mesh.policy(id, { sampled: (logprob) => logprob - 0.5 }),
    ];
    const change = { batches: 2, alarms: { logprobMismatch: "warn" } };
    mesh.manager.start(mesh.runFile([good.address, bad.address], change), mesh.directory, id);
    const run = await mesh.ended(id);
    const { cause } = alarmOf(run, "logprobMismatch");
    assert.ok(cause.startsWith(`${bad.address} holds other weights`), cause);
    assert.equal(run.record.state, "FINISHED");
    assert.equal(logged(run, "alarm").length, 1, "said once, for it never ended");
  });

  it("in the reference shows as a KL that stays negative", async () => {
    mesh.reference.scored = (logprob) => logprob + 1;
    const run = await mesh.run("reference", { batches: 4 });
    const { cause, message, step } = alarmOf(run, "negativeKl");
    assert.match(message, /objective\/kl is -\d.* over the last 3 batches/);
    assert.match(cause, /the reference is not the model that training started from/);
    assert.equal(step, "3");
  });

  it("in the options of sampling names them as the cause of a negative KL", async () => {
    mesh.reference.scored = (logprob) => logprob + 1;
    const generation = { maxNewTokens: 6, temperature: 0.7, topK: 40 };
    const run = await mesh.run("sampling", {
      generation,
      alarms: { negativeKl: { action: "stop", batches: 2 } },
    });
    const { cause, remedy } = alarmOf(run, "negativeKl");
    assert.match(cause, /temperature 0\.7, topK 40/);
    assert.match(remedy, /temperature 1, topK 0/);
    assert.deepEqual([run.record.state, run.metrics.length], ["FAILED", 2]);
  });

  it("in the learning rate drives ratios out of range", async () => {
    const change = { batches: 1, ppo: { learningRate: 0.5, epochs: 4, earlyStopping: false } };
    const run = await mesh.run("ratio", { ...change, alarms: { entropyCollapse: "off", negativeKl: "off" } });
    const { cause, remedy } = alarmOf(run, "ratioOutOfRange");
    assert.match(cause, /ppo\.learningRate 0\.5, 4 epochs/);
    assert.match(remedy, /^lower ppo\.learningRate or ppo\.epochs, or set ppo\.earlyStopping\.$/);
  });

  it("in the KL penalty collapses the policy onto one answer", async () => {
    const run = await mesh.run("collapse", {
      batches: 8,
      alarms: {
        ratioOutOfRange: "off",
        valueUnexplained: "off",
        entropyCollapse: { batches: 2 },
        deadTerm: "off",
      },
      ppo: { learningRate: 0.1, initialKlCoef: 0, klController: "fixed", epochs: 4, earlyStopping: false },
    });
    const { cause, remedy } = alarmOf(run, "entropyCollapse");
    assert.match(cause, /settled on the few answers that score best: the KL penalty \(coefficient 0 /);
    assert.match(remedy, /raise ppo\.initialKlCoef, lower ppo\.learningRate/);
  });

  it("in the scale of the rewards leaves the values behind, and names the clip", async () => {
    mesh.scorers.reward = (text) => 50 * usualReward(text);
    const alarms = { valueUnexplained: { batches: 3, action: "stop" }, ratioOutOfRange: "off" };
    const run = await mesh.run("values", { batches: 4, alarms, ppo: { learningRate: 0.01 } });
    const { cause } = alarmOf(run, "valueUnexplained");
    assert.match(cause, /ppo\.clipRangeValue 0\.2 is small beside the returns/);
    assert.equal(run.metrics.length, 3);
  });

  it("in the reward model is hacked: the reward rises while the similarity falls", async () => {
    const { calls } = mesh;
    const before = { ...calls };
    mesh.scorers.reward = (text, call) => (call - before.reward) / 2 + (text.length % 2);
    mesh.scorers.similarity = (candidate, _, call) =>
      0.9 - (call - before.similarity) / 40 + (candidate.length % 3) / 200;
    const rewards = [
      { type: "classifier", signed: false },
      { type: "bertscore", weight: 0, signed: false },
    ];
    const run = await mesh.run("hacked", { batches: 8, rewards, alarms: { rewardHacking: { batches: 8 } } });
    const { cause, message, remedy } = alarmOf(run, "rewardHacking");
    assert.match(message, /env\/reward_good rose from .* while reward\/bertscore\/good fell/);
    assert.match(cause, /what the scorer likes and a reader would not \(risen: classifier/);
    assert.match(remedy, /raise the weight of the term bertscore/);
  });

  it("in a score overflows, stops with the last good checkpoint, and goes on from there", async () => {
    const healthy = mesh.scorers.reward;
    const before = mesh.calls.reward;
    mesh.scorers.reward = (text, call) => (call - before >= 3 ? 1e30 : healthy(text, call));
    const run = await mesh.run("overflow", { batches: 4 });
    const { message, cause, step } = alarmOf(run, "nonFinite");
    assert.match(message, /expected a finite (loss|gradient)/);
    assert.match(cause, /the updates diverge at ppo\.learningRate 0\.001 .*or a score is huge/);
    assert.deepEqual([run.record.state, step, run.metrics.length], ["FAILED", "3", 2]);
    assert.match(run.record.reason, /^alarm nonFinite at step 3/);
    mesh.scorers.reward = healthy;
    mesh.manager.resume("overflow");
    const again = await mesh.ended("overflow");
    assert.equal(again.record.state, "FINISHED", again.record.reason);
    assert.ok(
      again.events.some((event) => event.kind === "log" && event.message === "resuming after step 2"),
    );
  });

  it("in a reward term that always says the same is a dead term", async () => {
    mesh.scorers.reward = () => 1;
    const run = await mesh.run("constant", { batches: 3, alarms: { deadTerm: { batches: 3 } } });
    const { message, cause, step } = alarmOf(run, "deadTerm");
    assert.match(message, /the term classifier gave every sample of the last 3 batches the same score, 1/);
    assert.match(cause, /its label \(the server's own\) is the wrong one/);
    assert.equal(step, "3");
  });

  it("in a reward server that is down is a dead term, before the run gives up", async () => {
    mesh.scorers.reward = () => {
      throw new Error("no such model");
    };
    const rewards = [{ type: "classifier", signed: false, onFailure: { retries: 0 } }];
    const run = await mesh.run("down", { rewards });
    assert.match(alarmOf(run, "deadTerm").cause, /the reward server is away, overloaded, or refuses/);
    assert.match(run.record.reason, /^4 of 4 samples could not be scored/);
  });
});
