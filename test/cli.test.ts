/**
 * @file The command line as a user meets it: help with examples, exit statuses that mean something, bad input named before anything is
 * started, and one call to each kind of server.
 */
import assert from "node:assert/strict";
import { tinyModels } from "./support/models.js";
import { markedProcesses } from "./support/processes.js";
import { useSandbox } from "./support/sandbox.js";

const COMMANDS = [
  "demo",
  "train",
  "sft",
  "train-reward",
  "train-encoder",
  "eval",
  "serve",
  "generate",
  "score",
  "bertscore",
  "doctor",
  "dashboard",
  "runs list",
  "runs watch",
  "runs pause",
  "runs resume",
  "runs stop",
  "runs replay",
  "runs diff",
  "conformance",
  "serve policy",
  "serve reward",
  "serve bertscore",
  "serve trainer",
];

describe("the command line", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");

  it("shows an example in the help of every command, and what exit statuses mean", async () => {
    const box = sandbox();
    const helps = await Promise.all(COMMANDS.map((name) => box.rlhf([...name.split(" "), "--help"])));
    helps.forEach(({ code, stdout }, i) => {
      assert.equal(code, 0, COMMANDS[i]);
      assert.match(stdout, new RegExp(`Example:\\n +rlhf ${COMMANDS[i]}`), COMMANDS[i]);
    });
    assert.match((await box.rlhf(["--help"])).stdout, /Exit status:\n +0 +done/);
  });

  it("refuses what it does not know with status 2 and the way out", async () => {
    const box = sandbox();
    const [command, option, number] = await Promise.all([
      box.rlhf(["trian", "run.yaml"]),
      box.rlhf(["train", "run.yaml", "--run"]),
      box.rlhf(["generate", "--address", "127.0.0.1:1", "--max-new-tokens", "many", "x"]),
    ]);
    assert.equal(command.code, 2);
    assert.match(command.stderr, /Did you mean train\?/);
    assert.equal(option.code, 2);
    assert.match(option.stderr, /unknown option '--run'|Did you mean/);
    assert.equal(number.code, 2);
    assert.match(number.stderr, /many.*expected a whole number/s);
  });

  it("names every problem of a run file, its value and what is accepted, and starts nothing", async () => {
    const box = sandbox();
    const file = box.write("bad.yaml", "kind: ppo\nmodel: nowhere\ndata: { train: gone.csv }\nbatchs: 3\n");
    const { code, stderr } = await box.rlhf(["train", file]);
    assert.equal(code, 2);
    assert.match(stderr, /batchs: unknown key → did you mean "batches"\?/);
    assert.match(stderr, /rewards: missing → /);
    const missing = box.write(
      "missing.yaml",
      "kind: ppo\nmodel: nowhere\ndata: { train: gone.csv }\nbatches: 3\nrewards: [{ type: length, target: 9 }]\n",
    );
    const second = await box.rlhf(["train", missing]);
    assert.equal(second.code, 2);
    assert.match(second.stderr, /model: .*nowhere → a model directory/);
    assert.match(second.stderr, /data.train: .*gone.csv → a file that can be read/);
    const kind = await box.rlhf(["sft", missing]);
    assert.equal(kind.code, 2);
    assert.match(kind.stderr, /kind is ppo, expected sft; `rlhf train/);
    assert.deepEqual(markedProcesses(box.mark), []);
  });

  it("says which server can't be reached, with status 3", async () => {
    const box = sandbox();
    const { code, stderr } = await box.rlhf(["score", "--address", "127.0.0.1:1", "--timeout", "2000", "x"]);
    assert.equal(code, 3);
    assert.match(stderr, /127\.0\.0\.1:1: (UNAVAILABLE|DEADLINE_EXCEEDED)/);
  });

  it("generates, scores and compares on running servers, for people and as JSON", async () => {
    const box = sandbox();
    const models = await tinyModels();
    const [policy, reward, bertscore] = await Promise.all([
      box.serve("policy", ["--model", models.policy, "--pinned"]),
      box.serve("reward", ["--model", models.reward]),
      box.serve("bertscore", ["--model", models.reward, "--layer", "0"]),
    ]);
    const json = async (args: readonly string[]) => {
      const { code, stdout, stderr } = await box.rlhf(["--json", ...args]);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout);
    };
    const prompt = "question: when are you open?\nanswer:";
    const generate = ["generate", "--address", policy.address, "--max-new-tokens", "6", prompt];
    const generated = await json(generate);
    assert.equal(generated.sequences.length, 1);
    assert.ok(generated.sequences[0].tokens.length <= 6);
    assert.match(generated.weights.digest, /^[0-9a-f]{64}$/);
    const shown = await box.rlhf(generate);
    assert.ok(shown.stdout.startsWith(prompt + generated.sequences[0].text), shown.stdout);

    const scored = await json(["score", "--address", reward.address, "yes.", "we open at three, come in."]);
    assert.equal(scored.results.length, 2);
    const total = Object.values(scored.results[0].scores as Record<string, number>).reduce(
      (a, b) => a + b,
      0,
    );
    assert.ok(Math.abs(total - 1) < 1e-6, "probabilities of all labels sum to 1");
    const lines = await box.rlhf(["score", "--address", reward.address, "-"], { input: "one\ntwo\n" });
    assert.equal(lines.stdout.trimEnd().split("\n").length, 3, "a header and a line for each text");

    const pair = ["--candidate", "a red box", "--reference", "a red box"];
    const same = await json(["bertscore", "--address", bertscore.address, ...pair]);
    assert.ok(Math.abs(same.results[0].f1 - 1) < 1e-5);
    assert.match(same.hash, /_L0_no-idf_/);
    const odd = await box.rlhf(["bertscore", "--address", bertscore.address, "--candidate", "x"]);
    assert.equal(odd.code, 2);
    assert.match(odd.stderr, /1 candidates and 0 references/);

    const well = await box.rlhf(["doctor", `reward=${reward.address}`, `policy=${policy.address}`]);
    assert.equal(well.code, 0, well.stdout + well.stderr);
    const mistaken = await box.rlhf(["doctor", `policy=${reward.address}`]);
    assert.equal(mistaken.code, 3);
    assert.match(mistaken.stdout, /does not serve rlhf\.policy\.v1\.PolicyService/);
    const refused = await box.rlhf(["score", "--address", reward.address, "--label", "nobody", "x"]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /label: .*nobody/);
  });

  it("refuses a service it does not have, and a service its own bad flags", async () => {
    const box = sandbox();
    const none = await box.rlhf(["serve", "oracle"]);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /expected one of policy, reward, bertscore, trainer/);
    const flag = await box.rlhf(["serve", "reward", "--modle", "x"]);
    assert.equal(flag.code, 2);
    assert.match(flag.stderr, /modle: unknown key → did you mean "model"/);
    const open = await box.rlhf(["serve", "trainer", "--listen", "0.0.0.0:0"]);
    assert.notEqual(open.code, 0);
    assert.match(open.stderr, /--insecure/);
  });
});
