/**
 * @file SIGKILL of every process of a mesh, again and again while a run trains: model workers, services, the trainer, NATS. The run
 * completes, trains each sample on the weights that generated it, and learns from no score that nobody gave.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { RunState, TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { RpcError } from "../../lib/rpc/index.js";
import type { NatsServer } from "../../lib/weights/index.js";
import { eventually } from "../support/eventually.js";
import { type TinyModels, tinyModels } from "../support/models.js";
import { ppoRunFile, type RunAddresses, serversOf, type TrainerClient } from "../support/runs.js";
import { useSandbox } from "../support/sandbox.js";
import { noteFigure, percentiles } from "./figures.js";
import { assertSoundRun } from "./recorded-run.js";
import { scale } from "./scale.js";
import { Supervised } from "./supervisor.js";

const RUN = "killed";
/** Longest pause before the next kill, so that it hits any part of a step. */
const PAUSE_MS = 400;

/** Something to kill; resolves with the milliseconds until it was back. */
interface Victim {
  readonly name: string;
  readonly kill: () => Promise<number>;
}

describe("a run whose processes are killed", function () {
  this.timeout(scale.full ? 1_200_000 : 240_000);
  const sandbox = useSandbox("all");

  it("completes, trains no sample on wrong weights, and invents no score", async () => {
    const box = sandbox();
    const models = await tinyModels();
    const nats = await box.nats();
    const bus = nats?.url ?? `file:${box.path("bus")}`;
    const follow = ["--model", models.policy, "--weights", bus, "--run", RUN];
    const start = (name: string, service: Parameters<typeof Supervised.start>[2], args: string[]) =>
      Supervised.start(box, name, service, args);
    const [policy1, policy2, reference, reward, bertscore, trainer] = await Promise.all([
      start("policy-1", "policy", follow),
      start("policy-2", "policy", follow),
      start("reference", "policy", ["--model", models.policy, "--pinned"]),
      start("reward", "reward", ["--model", models.reward]),
      start("bertscore", "bertscore", ["--model", models.reward, "--layer", "0"]),
      start("trainer", "trainer", ["--runs-dir", box.path("runs"), "--resume-interrupted"]),
    ]);
    const client = box.client(TrainerService, trainer.address, { retry: false });
    const policies = [policy1, policy2];
    let turn = 0;
    const eitherPolicy = () => policies[turn++ % policies.length] as Supervised;
    const kinds: Victim[] = [
      { name: "policy worker", kill: () => eitherPolicy().killWorker() },
      { name: "reference worker", kill: () => reference.killWorker() },
      { name: "reward worker", kill: () => reward.killWorker() },
      { name: "bertscore worker", kill: () => bertscore.killWorker() },
      { name: "policy", kill: () => eitherPolicy().killService() },
      { name: "reference", kill: () => reference.killService() },
      { name: "reward", kill: () => reward.killService() },
      { name: "bertscore", kill: () => bertscore.killService() },
      { name: "trainer", kill: () => killTrainer(trainer, client) },
      ...(nats ? [{ name: "nats", kill: () => killNats(nats) }] : []),
    ];
    const random = Rng.from(5, "kills");
    const victims = random.shuffle(Array.from({ length: scale.kills }, () => kinds).flat());
    const addresses = {
      policy: policies.map(({ address }) => address),
      reference: [reference.address],
      reward: [reward.address],
      bertscore: [bertscore.address],
    };
    // about twice as many batches as the kills take, so that the last victim falls while the run is at work
    const batches = Math.ceil(2.2 * victims.length);
    await client.startRun({ config: runFile(models, addresses, bus, batches), runId: RUN });

    const backMs = new Map<string, number[]>();
    let lastAt = 0;
    for (const { name, kill } of victims) {
      await sleep(random.uniform() * PAUSE_MS);
      const { state, step } = await stateOf(client);
      assert.ok([RunState.STARTING, RunState.RUNNING].includes(state), `the run ended at step ${step}`);
      lastAt = step;
      const took = await kill();
      backMs.set(name, [...(backMs.get(name) ?? []), took]);
    }
    const ended = await eventually(
      async () => {
        const run = await stateOf(client);
        return [RunState.STARTING, RunState.RUNNING].includes(run.state) ? undefined : run;
      },
      () => "the run ends",
      scale.full ? 600_000 : 120_000,
    );
    assert.equal(ended.state, RunState.FINISHED, ended.reason);
    assert.equal(ended.step, batches);
    const checked = await assertSoundRun(box, box.path("runs", RUN), {
      reward: reward.address,
      bertscore: bertscore.address,
    });
    assert.equal(checked.steps, batches);
    const slowest = [...backMs].map(([name, times]) => `${name} ${seconds(percentiles(times).max)}`);
    noteFigure({
      test: "SIGKILL during a run",
      load: `${victims.length} kills of ${kinds.length} kinds of processes, ${scale.kills} each`,
      measured: `run of ${batches} batches finished, the last kill at batch ${lastAt}; ${checked.samples} samples on their own weights, ${checked.scores} scores as the scorers give them; back within: ${slowest.join(", ")}`,
    });
  });
});

const seconds = (time: number) => `${(time / 1000).toFixed(1)} s`;

async function stateOf(client: TrainerClient): Promise<{ state: RunState; step: number; reason: string }> {
  const { run } = await client.getRun({ runId: RUN });
  if (!run) throw new Error("there is no run");
  return { state: run.state, step: Number(run.step), reason: run.reason };
}

/** Kills the trainer and starts it again: it goes on with the run by itself. */
async function killTrainer(trainer: Supervised, client: TrainerClient): Promise<number> {
  const killed = performance.now();
  await trainer.killService();
  let last = "";
  await eventually(
    async () => {
      try {
        const { state, reason } = await stateOf(client);
        last = `${RunState[state]} ${reason}`;
        return state === RunState.RUNNING || state === RunState.FINISHED;
      } catch (error) {
        // the channel finds the new server a moment later
        if (error instanceof RpcError && error.status === "UNAVAILABLE") return false;
        throw error;
      }
    },
    () => `the trainer goes on with the run; it is ${last}`,
    60_000,
  );
  return performance.now() - killed;
}

async function killNats(nats: NatsServer): Promise<number> {
  const killed = performance.now();
  await nats.kill();
  await nats.restart();
  return performance.now() - killed;
}

function runFile(models: TinyModels, addresses: RunAddresses, bus: string, batches: number): string {
  // for as long as a server may take to be started again, a score is worth waiting for
  const onFailure = { retries: 20, giveUp: "stop", circuit: { failures: 1000, coolDownMs: 1000 } };
  return ppoRunFile(models, {
    servers: serversOf(addresses),
    weights: { bus },
    generation: { maxNewTokens: 12 },
    rewards: [
      { type: "classifier", weight: 1, signed: false, onFailure },
      { type: "bertscore", signed: false, onFailure },
    ],
    batches,
    checkpoint: { every: 1 },
    record: true,
    ppo: { batchSize: 8, minibatchSize: 8, epochs: 1, learningRate: 1e-4 },
  });
}
