/**
 * @file The forty-line reward server of examples/reward-servers/python: it keeps the contract as far as its README says, and real runs
 * use it as a reward term, also when it dies.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { metricsOf, series } from "../support/runs.js";
import { useSandbox } from "../support/sandbox.js";
import { PYTHON_SERVER, type PythonServer, pythonOrSkip, startPythonServer } from "./peers.js";

const README = readFileSync(join(PYTHON_SERVER, "README.md"), "utf8");
const MODULES = ["grpc_health.v1.health", "grpc_reflection.v1alpha.reflection"];
const BATCHES = 3;

/** The reward as server.py computes it. */
function tidiness(text: string): number {
  const words = text.split(/\s+/u).filter((word) => word !== "").length;
  return (text.trimEnd().endsWith(".") ? 1 : 0) - Math.min(Math.abs(words - 20) / 20, 10);
}

describe("a reward server of forty lines of Python", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");
  let python: string;
  let server: PythonServer;
  before(async function () {
    python = pythonOrSkip(this, ...MODULES);
    server = await startPythonServer(python);
    sandbox().defer(() => server.kill());
  });

  /** A run file for golden models whose one reward is the server's. */
  const runFile = (term: object): string =>
    JSON.stringify({
      kind: "ppo",
      seed: 5,
      threads: 1,
      model: join(packageRoot(), "test/golden/gpt2-tiny"),
      data: { train: join(packageRoot(), "examples/faq/train.csv") },
      generation: { maxNewTokens: 8 },
      rewards: [{ type: "classifier", name: "tidy", addresses: [server.address], signed: false, ...term }],
      batches: BATCHES,
      weights: { bus: `file:${sandbox().path("weights")}` },
      ppo: { batchSize: 8, minibatchSize: 4, epochs: 1, learningRate: 1e-4 },
    });

  it("is forty lines, and scores as it says", async () => {
    const lines = readFileSync(join(PYTHON_SERVER, "server.py"), "utf8").trimEnd().split("\n");
    assert.ok(lines.length <= 45, `server.py has ${lines.length} lines`);
    const texts = ["no", `${"word ".repeat(19)}end.`, "", "Half of it is ten words long, this one is."];
    const { results, label } = await sandbox().client(RewardService, server.address).score({ texts });
    assert.equal(label, "tidy");
    assert.equal(results[1]?.reward, 1, "twenty words and a full stop");
    assert.deepEqual(
      results.map(({ reward }) => reward),
      texts.map(tidiness),
    );
  });

  it("keeps every promise that can be seen, and its README says which can't", async () => {
    assert.match(README, /^rlhf conformance reward 127\.0\.0\.1:50055$/m);
    const { code, stdout, stderr } = await sandbox().rlhf([
      "--json",
      "conformance",
      "reward",
      server.address,
    ]);
    assert.equal(code, 0, stderr);
    const { checks } = JSON.parse(stdout) as { checks: { id: string; outcome: string; detail: string }[] };
    const table = README.split("\n").filter((line) => line.startsWith("| `"));
    const named = new Set(table.flatMap((line) => line.match(/`[a-z]+\/[a-z-]+`/g) ?? []));
    assert.ok(named.size > 5);
    for (const { id, outcome, detail } of checks) {
      if (!named.has(`\`${id}\``)) assert.equal(outcome, "pass", `${id}: ${detail}`);
    }
  });

  it("is the reward of a run that `rlhf train` starts, with the fields of its README", async () => {
    const yaml = /^```yaml\n([\s\S]*?)^```$/m.exec(README)?.[1] ?? "";
    const { rewards } = parse(yaml) as { rewards: Record<string, unknown>[] };
    const { addresses, ...term } = rewards.find(({ name }) => name === "tidy") ?? {};
    assert.deepEqual(addresses, ["127.0.0.1:50055"]);
    const box = sandbox();
    const file = box.write("run.json", runFile({ ...term, weight: 1, normalise: "none", clip: null }));
    const { code, stderr } = await box.rlhf(["train", file, "--run-id", "tidy", "--no-eval"], {
      timeoutMs: 100_000,
    });
    assert.equal(code, 0, stderr);
    const lines = metricsOf(box.path("runs", "tidy"));
    assert.equal(lines.length, BATCHES);
    const scores = series(lines, "reward/tidy");
    assert.deepEqual(series(lines, "env/reward_mean"), scores, "one term of weight 1 is the reward");
    for (const score of scores) assert.ok(score > -1 && score < 1, `a mean of ${score}`);
    assert.deepEqual(series(lines, "reward/tidy/failed"), [0, 0, 0]);
  });

  it("that is down stops a run whose file says stop, with the reason", async () => {
    const box = sandbox();
    const down = await startPythonServer(python);
    await down.kill();
    const term = { addresses: [down.address], onFailure: { retries: 1, giveUp: "stop" } };
    const ended = await box.rlhf(["train", box.write("down.json", runFile(term)), "--run-id", "down"], {
      timeoutMs: 100_000,
    });
    assert.equal(ended.code, 1);
    assert.match(ended.stderr, /reward term tidy: .*UNAVAILABLE/);
    assert.match(ended.stderr, /reward term tidy, attempt 2/);
  });

  it("ends with 0 when it is told to", async () => {
    const other = await startPythonServer(python);
    assert.equal(await other.stop(), 0);
  });
});
