import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, packageRoot } from "../../lib/config/index.js";
import { type PpoRunConfig, parseRunConfig } from "./run-config.js";
import { checkRunInputs } from "./run-inputs.js";

const PPO = `
kind: ppo
model: policy
data: { train: train.csv }
rewards: [{ type: classifier }]
batches: 3
ppo: { batchSize: 32 }
`;

const problemsOf = (text: string): readonly string[] => {
  try {
    parseRunConfig(text, "/data");
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return assert.fail("the run file was accepted");
};

describe("a run file", () => {
  it("is resolved: defaults filled in, paths from its own folder", () => {
    const config = parseRunConfig(PPO, "/data") as PpoRunConfig;
    assert.equal(config.model, "/data/policy");
    assert.equal(config.data.train, "/data/train.csv");
    assert.deepEqual(config.control.tokens, ["[good]", "[bad]"]);
    assert.equal(config.ppo.minibatchSize, 8);
    assert.equal(config.maxStaleness, 0);
    assert.ok(Object.isFrozen(config));
  });

  it("read again from what was resolved is the same", () => {
    const config = parseRunConfig(PPO, "/data");
    assert.deepEqual(parseRunConfig(JSON.stringify(config), "/elsewhere"), config);
  });

  it("with several problems names each field, its value and what is accepted", () => {
    const problems = problemsOf(`${PPO.replace("batches: 3", "batches: -3")}\nbatchs: 3\nmaxStaleness: 7\n`);
    assert.equal(problems.length, 3);
    assert.match(problems.join("\n"), /batches: -3 → /);
    assert.match(problems.join("\n"), /batchs: unknown key → did you mean "batches"\?/);
    assert.match(problems.join("\n"), /maxStaleness: 7 → /);
  });

  it("whose minibatches do not divide the batch says so", () => {
    const [problem] = problemsOf(PPO.replace("batchSize: 32", "batchSize: 32, minibatchSize: 24"));
    assert.match(problem ?? "", /ppo.minibatchSize: 24 does not divide batchSize 32/);
  });

  it("that keeps the best checkpoint by a metric that it does not have is told which it may mean", () => {
    const by = (metric: string) => `${PPO}checkpoint: { keepBest: { metric: ${metric} } }`;
    assert.deepEqual(problemsOf(by("env/reward_meen")), [
      'checkpoint.keepBest.metric: "env/reward_meen", which no ppo run has → did you mean "env/reward_mean"?',
    ]);
    assert.match(problemsOf(by("reward/bertscore")).join(), /which no ppo run has/, "it has no such term");
    assert.match(
      problemsOf(by("sft/test_loss")).join(),
      /which no ppo run has → a metric of docs\/metrics\.md/,
    );
    for (const metric of ["env/reward_mean", "reward/classifier/good", "objective/kl"]) {
      assert.equal(parseRunConfig(by(metric), "/data").checkpoint.keepBest?.metric, metric);
    }
  });

  it("of an unknown kind, or none, or no YAML at all is told what is wanted", () => {
    assert.match(problemsOf("kind: dpo").join(), /kind: "dpo" → one of ppo, sft, reward/);
    assert.match(problemsOf("model: x").join(), /kind: missing → one of ppo, sft, reward/);
    assert.match(problemsOf("kind: [ppo").join(), /valid YAML/);
    assert.match(problemsOf("kind: *nothing").join(), /Unresolved alias.* → valid YAML/);
    assert.match(problemsOf("just text").join(), /not a mapping/);
  });

  it("takes the trainer's device where it names none", () => {
    assert.equal(parseRunConfig(PPO, "/data").device, "cpu");
    assert.equal(parseRunConfig(PPO, "/data", { device: "cuda" }).device, "cuda");
    assert.equal(parseRunConfig(`${PPO}device: webgpu\n`, "/data", { device: "cuda" }).device, "webgpu");
    assert.match(problemsOf(`${PPO}device: tpu\n`).join(), /device: "tpu" → .*cpu.*cuda.*webgpu/);
  });

  it("asks for names where two terms are of one type, and for no sign where there is no control token", () => {
    const two = PPO.replace("[{ type: classifier }]", "[{ type: classifier }, { type: classifier }]");
    assert.match(problemsOf(two).join(), /two terms are named classifier/);
    assert.match(problemsOf(`${PPO}control: { tokens: [] }\n`).join(), /rewards\[0\]\.signed: true → false/);
  });

  it("takes the notebook's habits from its profile", () => {
    const config = parseRunConfig(
      PPO.replace("{ batchSize: 32 }", "{ profile: notebook }"),
      "/data",
    ) as PpoRunConfig;
    assert.equal(config.ppo.batchSize, 32);
    assert.equal(config.ppo.responseIncludesQuery, true);
    assert.equal(config.ppo.rewardTransform, "probability");
  });
});

describe("the inputs of a run", () => {
  it("that are missing are all named, with what is accepted", () => {
    assert.throws(
      () => checkRunInputs(parseRunConfig(PPO, "/no/such/folder")),
      (error: unknown) =>
        error instanceof ConfigError &&
        /data.train: .*train.csv → a file that can be read/.test(error.message) &&
        /model: .*policy → a model directory, with config.json/.test(error.message),
    );
  });

  it("that are there pass", () => {
    const folder = mkdtempSync(join(tmpdir(), "rlhf-inputs-"));
    try {
      writeFileSync(join(folder, "train.csv"), "");
      writeFileSync(join(folder, "config.json"), '{ "model_type": "gpt2" }');
      checkRunInputs(parseRunConfig(PPO.replace("model: policy", "model: ."), folder));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("that hold a model of another family are named, with the families that will do", () => {
    const golden = (name: string) => join(packageRoot(), "test/golden", name);
    const file = (kind: string, model: string) =>
      JSON.stringify({ kind, model, data: { train: "config.json" }, ...(kind === "ppo" ? ppo : {}) });
    const ppo = {
      rewards: [{ type: "classifier" }],
      batches: 1,
      servers: { bertscore: { model: golden("gpt2-tiny") } },
    };
    const problemsOfInputs = (text: string): string => {
      try {
        checkRunInputs(parseRunConfig(text, golden("gpt2-tiny")));
        return "";
      } catch (error) {
        return (error as Error).message;
      }
    };
    for (const kind of ["reward", "encoder"]) {
      assert.match(
        problemsOfInputs(file(kind, golden("gpt2-tiny"))),
        /model: .*gpt2-tiny holds a gpt2 → bert, roberta, distilbert/,
      );
      assert.equal(problemsOfInputs(file(kind, golden("roberta-tiny"))), "");
    }
    assert.match(problemsOfInputs(file("sft", golden("roberta-tiny"))), /model: .* holds a roberta → gpt2/);
    const both = problemsOfInputs(file("ppo", golden("bert-tiny-classifier")));
    assert.match(both, /^.*model: .*bert-tiny-classifier holds a bert → gpt2/m);
    assert.match(both, /servers\.bertscore\.model: .*gpt2-tiny holds a gpt2 → bert, roberta, distilbert/);
  });
});
