/**
 * Reward terms with servers of their own, in real runs: how their scores become the reward, and what becomes of a run whose term
 * refuses, fails, is away for a while or for good. The rewards are computed here once more, from the recorded raw scores.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RewardService, ScoreFunction } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import {
  InvalidFieldError,
  implement,
  KitError,
  NotReadyError,
  type RunningServer,
  startServer,
} from "../../../lib/rpc/index.js";
import { type RecordedTelemetry, recordTelemetry } from "../../../lib/rpc/testing/telemetry.js";
import { silentLog } from "../../../lib/telemetry/index.js";
import { logged, type MeshRun, TestMesh } from "../testing/mesh.js";
import { readBatchRecord } from "./batch-record.js";

/** A reward server of a test, and what it was asked. */
interface Judge {
  readonly server: RunningServer;
  readonly calls: string[][];
  /** The authorization header of each call. */
  readonly tokens: unknown[];
}

const COMMON = { type: "classifier", signed: false };
const SHORT = { retries: 2, circuit: { failures: 1000, coolDownMs: 1000 } };

describe("a reward term with a server of its own", function () {
  this.timeout(60_000);
  let mesh: TestMesh;
  const judges: Judge[] = [];
  before(async () => {
    mesh = await TestMesh.start();
  });
  after(() => mesh.close());
  afterEach(async () => {
    await Promise.all(judges.splice(0).map(({ server }) => server.drain()));
  });

  /** Starts a reward server whose logit is `score`, and that takes `maxItems` texts; what `score` throws fails the call. */
  async function judge(
    score: (text: string, call: number) => number,
    { listen = "127.0.0.1:0", maxItems = 256 } = {},
  ): Promise<Judge> {
    const calls: string[][] = [];
    const tokens: unknown[] = [];
    const service = implement(RewardService, {
      score: ({ texts, function: asked }, { metadata }) => {
        assert.equal(asked, ScoreFunction.NONE);
        if (texts.length > maxItems) {
          throw new InvalidFieldError([{ field: "texts", description: `accepted: at most ${maxItems}` }]);
        }
        calls.push(texts);
        tokens.push(metadata.get("authorization")[0]);
        return { results: texts.map((text) => ({ reward: score(text, calls.length) })), model: "own" };
      },
      getInfo: () => ({ server: { limits: { max_items: BigInt(maxItems) } } }),
    });
    const server = await startServer({ name: "own", services: [service], listen, log: silentLog() });
    const started = { server, calls, tokens };
    judges.push(started);
    return started;
  }

  const address = ({ server }: Judge) => server.address;
  /** A recorded batch of a run. */
  const batchOf = ({ id }: MeshRun, step: number) => {
    const record = readBatchRecord(join(mesh.runsDirectory, id), step);
    assert.ok(record, `batch ${step} is recorded`);
    return record.batch;
  };
  const assertFinished = (run: MeshRun) => assert.equal(run.record.state, "FINISHED", run.record.reason);

  it("stands beside others: each has its address, weight, sign, normalisation and clip", async () => {
    const length = await judge((text) => text.length);
    const letters = await judge((text) => text.split("e").length - 3);
    const rewards = [
      { ...COMMON, name: "length", addresses: [address(length)], weight: 2, normalise: "running", clip: 0.8 },
      {
        ...COMMON,
        name: "letters",
        addresses: [address(letters)],
        weight: -0.5,
        signed: true,
        clip: 1,
        text: "full",
      },
      { ...COMMON, weight: 0.25 },
    ];
    const run = await mesh.run("two-addresses", { rewards, batches: 3, record: true });
    assertFinished(run);
    const seen: number[] = []; // raw scores of the term that normalises, of all batches so far
    const clip = (value: number, most: number) => Math.min(most, Math.max(-most, value));
    for (const { step, ...metrics } of run.metrics) {
      const { samples } = batchOf(run, step);
      const raw = (name: string) => samples.map(({ reward }) => reward.terms[name] as number);
      assert.deepEqual(
        raw("length"),
        samples.map(({ sample }) => sample.response.length),
      );
      const full = samples.map(({ sample }) => sample.prompt + sample.response);
      assert.deepEqual(
        raw("letters"),
        full.map((text) => text.split("e").length - 3),
      );
      seen.push(...raw("length"));
      const mean = seen.reduce((sum, value) => sum + value, 0) / seen.length;
      const deviation = Math.sqrt(
        seen.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (seen.length - 1),
      );
      const expected = samples.map(({ sample, reward: { terms } }) => {
        const [own, other, third] = [terms.length, terms.letters, terms.classifier] as [
          number,
          number,
          number,
        ];
        const standard = deviation > 0 ? (own - mean) / deviation : own - mean;
        return 2 * clip(standard, 0.8) - 0.5 * sample.sign * clip(other, 1) + 0.25 * third;
      });
      samples.forEach(({ reward: { outcome } }, i) => {
        assert.ok(outcome.kind === "scored");
        assert.ok(Math.abs(outcome.score - (expected[i] as number)) < 1e-9, `sample ${i} of batch ${step}`);
      });
      const average = expected.reduce((sum, value) => sum + value, 0) / expected.length;
      assert.ok(Math.abs((metrics["env/reward_mean"] ?? Number.NaN) - average) < 1e-9);
    }
    assert.equal(seen.length, 12);
  });

  it("with several addresses is asked at each of them", async () => {
    const [one, two] = [await judge((text) => text.length), await judge((text) => text.length)];
    const rewards = [{ ...COMMON, name: "own", addresses: [address(one), address(two)] }];
    assertFinished(await mesh.run("balanced", { rewards, batches: 4 }));
    assert.ok(
      one.calls.length > 0 && two.calls.length > 0,
      `${one.calls.length} and ${two.calls.length} calls`,
    );
    assert.equal(one.calls.length + two.calls.length, 4);
  });

  it("is never sent more texts at once than its GetInfo allows", async () => {
    const small = await judge((text) => text.length, { maxItems: 3 });
    const run = await mesh.run("small", {
      rewards: [{ ...COMMON, name: "own", addresses: [address(small)] }],
    });
    assertFinished(run);
    assert.deepEqual(
      small.calls.map((texts) => texts.length),
      [3, 1, 3, 1, 3, 1],
    );
  });

  it("gets the token of its addresses, which may be another than the run's, or none", async () => {
    const [usual, own, none] = [await judge(() => 1), await judge(() => 2), await judge(() => 3)];
    for (const name of ["run", "own"])
      writeFileSync(join(mesh.directory, `${name}.token`), `token-of-${name}\n`);
    const rewards = [
      { ...COMMON, name: "usual", addresses: [address(usual)] },
      { ...COMMON, name: "own", addresses: [address(own)], tokenFile: "own.token" },
      { ...COMMON, name: "none", addresses: [address(none)], tokenFile: null, tls: false },
    ];
    const { address: policy } = await mesh.policy("tokens");
    const file = JSON.parse(mesh.runFile([policy], { rewards, batches: 1, alarms: { deadTerm: "off" } }));
    file.servers.tokenFile = "run.token";
    mesh.manager.start(JSON.stringify(file), mesh.directory, "tokens");
    assertFinished(await mesh.ended("tokens"));
    assert.deepEqual(usual.tokens, ["Bearer token-of-run"]);
    assert.deepEqual(own.tokens, ["Bearer token-of-own"]);
    assert.deepEqual(none.tokens, [undefined]);
  });

  it("that refuses texts by name loses those samples alone, wherever in a cut batch they are", async () => {
    let seen = 0;
    const strict = await judge(
      (text) => {
        seen += 1;
        if (seen === 4) throw new InvalidFieldError([{ field: "texts[0]", description: "is in bad taste" }]);
        return text.length;
      },
      { maxItems: 3 },
    );
    const rewards = [{ ...COMMON, name: "own", addresses: [address(strict)] }];
    const run = await mesh.run("picky", { rewards, batches: 1, record: true });
    assertFinished(run);
    const outcomes = batchOf(run, 1).samples.map(({ reward }) => reward.outcome.kind);
    assert.deepEqual(outcomes, ["scored", "scored", "scored", "failed"]);
    assert.equal(run.metrics[0]?.["rollout/failed"], 1);
    assert.equal(run.metrics[0]?.["rollout/score_retries"], 0);
  });

  it("that is away for a while is waited for, and no score is invented", async () => {
    const score = (text: string) => (text.length % 5) - 2;
    const first = await judge(score);
    const at = address(first);
    const id = "away";
    const policy = await mesh.policy(id);
    let batches = 0;
    let again: Promise<Judge> | undefined;
    policy.faults.beforeGenerate = async () => {
      batches += 1;
      if (batches !== 2) return;
      await first.server.drain();
      again = sleep(1500).then(() => judge(score, { listen: at }));
    };
    const rewards = [{ ...COMMON, name: "own", addresses: [at] }];
    mesh.manager.start(mesh.runFile([policy.address], { rewards, record: true }), mesh.directory, id);
    const run = await mesh.ended(id);
    await again;
    assertFinished(run);
    assert.ok((run.metrics[1]?.["rollout/score_retries"] ?? 0) > 0);
    for (const { step } of run.metrics) {
      for (const { sample, reward } of batchOf(run, step).samples) {
        assert.deepEqual(reward.outcome, { kind: "scored", score: score(sample.response) });
      }
    }
    assert.ok(
      run.events.some((event) => event.kind === "log" && /^reward term own, attempt 1: /.test(event.message)),
    );
  });

  it("is not tried again where the same call would fail alike, and the reason is said", async () => {
    const closed = await judge(() => {
      throw new KitError("UNAUTHENTICATED", "no credentials");
    });
    const rewards = [{ ...COMMON, name: "own", addresses: [address(closed)] }];
    const run = await mesh.run("closed", { rewards });
    assert.deepEqual([run.record.state, closed.calls.length], ["FAILED", 1]);
    assert.match(
      run.record.reason,
      /^4 of 4 samples could not be scored .*own: .*UNAUTHENTICATED: no credentials/,
    );
  });

  it("is tried again no sooner than it asks for", async () => {
    const times: number[] = [];
    const busy = await judge((text, call) => {
      times.push(performance.now());
      if (call < 3) throw new NotReadyError("loading", { retryAfterMs: 700 });
      return text.length;
    });
    const rewards = [{ ...COMMON, name: "own", addresses: [address(busy)] }];
    assertFinished(await mesh.run("busy", { rewards, batches: 1 }));
    const [one, two, three] = times as [number, number, number];
    assert.ok(two - one >= 695 && three - two >= 695, `${two - one} and ${three - two} ms`);
  });

  it("that stays down stops a run whose file says stop, with the reason", async () => {
    const gone = await judge(() => 0);
    await gone.server.drain();
    const onFailure = { ...SHORT, giveUp: "stop" };
    const rewards = [{ ...COMMON, name: "own", addresses: [address(gone)], onFailure }, COMMON];
    const run = await mesh.run("stopped", { rewards, maxFailedFraction: 1 });
    assert.deepEqual([run.record.state, run.metrics.length], ["FAILED", 0]);
    assert.match(run.record.reason, /^reward term own: .*UNAVAILABLE/);
  });

  describe("in metrics", () => {
    let telemetry: RecordedTelemetry;
    before(() => {
      telemetry = recordTelemetry();
    });
    after(() => telemetry.stop());

    const pointsOf = async (name: string, term: string) =>
      (await telemetry.points(name)).filter(({ attributes }) => attributes["rlhf.reward.term"] === term);

    it("loses the samples of a call that fails for good, and counts them and its retries", async () => {
      let lost = "";
      const flaky: Judge = await judge((text, call) => {
        if (call === 3 && lost === "") lost = text; // the first call of the second batch fails however often it is made
        if (flaky.calls.at(-1)?.includes(lost)) throw new NotReadyError("restarting");
        return text.length;
      });
      const id = "flaky";
      const [one, two] = [await mesh.policy(id), await mesh.policy(id)];
      const onFailure = { retries: 2, giveUp: "drop", circuit: { failures: 3, coolDownMs: 100 } };
      const rewards = [{ ...COMMON, name: "flaky", addresses: [address(flaky)], onFailure }];
      const change = { rewards, batches: 3 };
      mesh.manager.start(mesh.runFile([one.address, two.address], change), mesh.directory, id);
      const run = await mesh.ended(id);
      assertFinished(run);
      const of = (name: string) => run.metrics.map((line) => line[name]);
      assert.deepEqual(of("reward/flaky/failed"), [0, 2, 0]);
      assert.deepEqual(of("rollout/failed"), [0, 2, 0]);
      assert.deepEqual(of("rollout/score_retries"), [0, 3, 0]);
      const [failures] = await pointsOf("rlhf.reward.term.failures", "flaky");
      assert.deepEqual([failures?.value, failures?.attributes["error.type"]], [2, "UNAVAILABLE"]);
      const [reward] = await pointsOf("rlhf.reward", "flaky");
      assert.equal(reward?.value, run.metrics.at(-1)?.["reward/flaky"]);
      const outcomes = Object.fromEntries(
        (await telemetry.points("rlhf.samples")).map(({ attributes, value }) => [
          attributes["rlhf.outcome"],
          value,
        ]),
      );
      assert.deepEqual(outcomes, { scored: 10, failed: 2 });
    });

    it("shows its circuit: open while it is down, closed once it answers", async () => {
      let down = true;
      const own = await judge((text) => {
        if (down) throw new NotReadyError("restarting", { retryAfterMs: 1 });
        return text.length;
      });
      const id = "circuit";
      const policy = await mesh.policy(id);
      const onFailure = { retries: 5, circuit: { failures: 2, coolDownMs: 3000 } };
      const rewards = [{ ...COMMON, name: "opened", addresses: [address(own)], onFailure }];
      const start = () =>
        mesh.manager.start(mesh.runFile([policy.address], { rewards, batches: 1 }), mesh.directory, id);
      start();
      const stopped = await mesh.ended(id);
      assert.equal(stopped.record.state, "FAILED");
      assert.match(stopped.record.reason, /opened: not called: 2 calls in a row failed \(.*restarting\)/);
      assert.equal(own.calls.length, 2, "a term that is down is spared the rest");
      assert.deepEqual(
        logged(stopped, "circuit").map(({ fields }) => fields?.circuit),
        ["open"],
      );
      const [open] = await pointsOf("rlhf.reward.term.circuit", "opened");
      assert.equal(open?.value, 1);
      const types = (await pointsOf("rlhf.reward.term.failures", "opened")).map(
        ({ attributes }) => attributes["error.type"],
      );
      assert.deepEqual(types, ["CircuitOpenError"]);
      down = false;
      mesh.manager.resume(id);
      assertFinished(await mesh.ended(id));
      const [closed] = await pointsOf("rlhf.reward.term.circuit", "opened");
      assert.equal(closed?.value, 0);
    });
  });
});
