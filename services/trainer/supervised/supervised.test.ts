import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadCheckpoint } from "../../../lib/checkpoint/index.js";
import { packageRoot } from "../../../lib/config/index.js";
import { parameterSpecs, parseModelConfig } from "../../../lib/models/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { isTime } from "../replay/quantities.js";
import { readJournal } from "../runs/journal.js";
import { RunManager } from "../runs/manager.js";
import { runEncoder } from "./encoder-run.js";
import { holdOut, labelNames, labelsOf, textExamples } from "./examples.js";
import { runReward } from "./reward-run.js";
import { runSft } from "./sft-run.js";
import { batchOf, stepsOf } from "./supervised-loop.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rlhf-supervised-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const quiet = { info() {}, warn() {}, error() {} };

function managerOf(): RunManager {
  const never = async () => assert.fail("another kind of run");
  return new RunManager({
    runsDirectory: folder,
    log: quiet,
    runners: { sft: runSft, reward: runReward, encoder: runEncoder, ppo: never },
  });
}

interface Line {
  readonly step: number;
  readonly [metric: string]: number;
}

const metricsOf = (id: string) => readJournal(join(folder, id, "metrics.jsonl")) as Line[];

/** Metrics without wall-clock times, which no two runs share. */
const timeless = (lines: readonly Line[]) =>
  lines.map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !isTime(name))));

/** The tensors of a model directory, by name. */
function headerOf(directory: string): Record<string, unknown> {
  const bytes = readFileSync(join(directory, "model.safetensors"));
  const length = Number(bytes.readBigUInt64LE(0));
  return JSON.parse(bytes.subarray(8, 8 + length).toString("utf8")) as Record<string, unknown>;
}

const QUESTIONS = ["where is the saw?", "who has the key?", "when do you open?", "what does it cost?"];
const ANSWERS = [
  "the saw hangs on the wall.",
  "the key is with ann.",
  "we open at nine.",
  "it costs two coins.",
];

function writeRows(): string {
  const path = join(folder, "rows.csv");
  const rows = QUESTIONS.map((question, i) => `${question},${ANSWERS[i]}`);
  writeFileSync(path, `question,answer\n${rows.join("\n")}\n`);
  return path;
}

const sftFile = (rows: string, epochs: number) => `
kind: sft
seed: 3
threads: 1
init: { layers: 1, width: 32, heads: 2, positions: 64, tokenizer: { vocabSize: 320 } }
data: { train: ${rows} }
epochs: ${epochs}
batchSize: 2
checkpoint: { every: 4 }
optimizer: { learningRate: 0.01, schedule: constant }
`;

describe("supervised fine-tuning", function () {
  this.timeout(120_000);

  it("starts from nothing, lowers the loss, and saves a model that loads", async () => {
    const manager = managerOf();
    manager.start(sftFile(writeRows(), 15), folder, "sft");
    const record = await manager.finished("sft");
    assert.equal(record.state, "FINISHED", record.reason);
    const losses = metricsOf("sft").map((line) => line["sft/loss"] as number);
    assert.equal(losses.length, 30);
    assert.ok((losses.at(-1) as number) < 0.5 * (losses[0] as number), `${losses[0]} → ${losses.at(-1)}`);
    const tokenizer = await loadTokenizer(record.modelDirectory);
    assert.equal(tokenizer.decode(tokenizer.encode(QUESTIONS[0] as string).ids), QUESTIONS[0]);
    const files = await readdir(record.modelDirectory);
    for (const name of ["config.json", "model.safetensors", "tokenizer.json"])
      assert.ok(files.includes(name), name);
  });

  it("goes on after a stop with the same numbers and the same weights, bit for bit", async () => {
    const manager = managerOf();
    const rows = writeRows();
    manager.start(sftFile(rows, 6), folder, "whole");
    await manager.finished("whole");
    const text = sftFile(rows, 6);
    manager.start(text, folder, "halves");
    await new Promise<void>((resolve) => {
      void (async () => {
        for await (const event of manager.watch("halves", 0, new AbortController().signal)) {
          if (event.kind === "step" && event.step === 5) {
            manager.request("halves", "stopped");
            resolve();
          }
        }
      })();
    });
    assert.equal((await manager.finished("halves")).state, "STOPPED");
    manager.resume("halves");
    const end = await manager.finished("halves");
    assert.equal(end.state, "FINISHED", end.reason);
    assert.deepEqual(timeless(metricsOf("halves")), timeless(metricsOf("whole")));
    const weights = (id: string) => readFileSync(join(folder, id, "model", "model.safetensors"));
    assert.ok(weights("halves").equals(weights("whole")), "the final weights are the same bytes");
  });

  it("fails with a named reason and its last checkpoint kept when the loss is not finite", async () => {
    const manager = managerOf();
    const broken = sftFile(writeRows(), 60)
      .replace("learningRate: 0.01", "learningRate: 1e30, maxGradNorm: null")
      .replace("every: 4", "every: 1");
    manager.start(broken, folder, "sft");
    const record = await manager.finished("sft");
    assert.equal(record.state, "FAILED");
    assert.match(record.reason, /step \d+: expected a finite (loss|gradient)/);
    assert.ok((await readdir(join(folder, "sft", "checkpoints"))).length > 0);
  });
});

describe("reward-model training", function () {
  this.timeout(120_000);

  it("learns to tell labels apart, on rows it has not seen", async () => {
    const path = join(folder, "labels.csv");
    const lines = Array.from({ length: 80 }, (_, i) =>
      i % 2 === 0 ? `the answer ${i} is kind and clear,1` : `no idea ${i} go away,0`,
    );
    writeFileSync(path, `response,label\n${lines.join("\n")}\n`);
    const manager = managerOf();
    manager.start(
      `
kind: reward
threads: 1
init: { layers: 1, width: 32, heads: 2, positions: 64, tokenizer: { vocabSize: 330 } }
data: { train: ${path}, heldOut: 0.25 }
epochs: 6
batchSize: 10
optimizer: { learningRate: 0.003 }
`,
      folder,
      "reward",
    );
    const record = await manager.finished("reward");
    assert.equal(record.state, "FINISHED", record.reason);
    assert.equal(record.metrics["classifier/accuracy"], 1);
  });
});

const encoderFile = (rows: string, epochs: number, change = "") => `
kind: encoder
seed: 3
threads: 1
init: { layers: 1, width: 32, heads: 2, positions: 64, tokenizer: { vocabSize: 330 } }
data: { train: ${rows}, heldOut: 0.25 }
epochs: ${epochs}
batchSize: 4
checkpoint: { every: 8 }
optimizer: { learningRate: 0.01, schedule: constant }
${change}
`;

describe("training of an encoder", function () {
  this.timeout(120_000);

  it("starts from nothing, learns to find hidden tokens, and saves what transformers calls BertForMaskedLM", async () => {
    const manager = managerOf();
    manager.start(encoderFile(writeRows(), 60), folder, "encoder");
    const record = await manager.finished("encoder");
    assert.equal(record.state, "FINISHED", record.reason);
    const lines = metricsOf("encoder");
    assert.equal(lines.length, 90); // 60 epochs of the 6 of 8 texts that are not held out
    const mean = (part: readonly Line[]) =>
      part.reduce((sum, line) => sum + (line["mlm/loss"] as number), 0) / part.length;
    const [first, last] = [mean(lines.slice(0, 10)), mean(lines.slice(-10))];
    assert.ok(last < 0.5 * first, `loss went from ${first} to ${last}`);
    const evaluated = lines.filter((line) => "mlm/test_loss" in line);
    assert.deepEqual(
      evaluated.map(({ step }) => step),
      [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 90],
    );
    for (const line of evaluated) {
      assert.ok(Number.isFinite(line["mlm/test_loss"]));
      assert.ok((line["mlm/accuracy"] as number) >= 0 && (line["mlm/accuracy"] as number) <= 1);
    }
    const json = JSON.parse(readFileSync(join(record.modelDirectory, "config.json"), "utf8"));
    assert.deepEqual(json.architectures, ["BertForMaskedLM"]);
    const loaded = await loadCheckpoint(record.modelDirectory, (config) =>
      parameterSpecs(parseModelConfig(config), "encoder"),
    );
    assert.deepEqual(loaded.unused, []);
    const names = Object.keys(headerOf(record.modelDirectory)).filter((name) => name.startsWith("cls."));
    assert.deepEqual(names.sort(), [
      "cls.predictions.bias",
      "cls.predictions.transform.LayerNorm.bias",
      "cls.predictions.transform.LayerNorm.weight",
      "cls.predictions.transform.dense.bias",
      "cls.predictions.transform.dense.weight",
    ]);
    assert.notEqual((await loadTokenizer(record.modelDirectory)).specialIds.mask, undefined);
  });

  it("hides other tokens each time it reads a text, and goes on after a stop with the same bits", async () => {
    const manager = managerOf();
    const text = encoderFile(writeRows(), 12);
    manager.start(text, folder, "whole");
    assert.equal((await manager.finished("whole")).state, "FINISHED");
    manager.start(text, folder, "halves");
    for await (const event of manager.watch("halves", 0, new AbortController().signal)) {
      if (event.kind === "step" && event.step === 5) manager.request("halves", "stopped");
    }
    assert.equal((await manager.finished("halves")).state, "STOPPED");
    manager.resume("halves");
    const end = await manager.finished("halves");
    assert.equal(end.state, "FINISHED", end.reason);
    assert.deepEqual(timeless(metricsOf("halves")), timeless(metricsOf("whole")));
    const weights = (id: string) => readFileSync(join(folder, id, "model", "model.safetensors"));
    assert.ok(weights("halves").equals(weights("whole")), "the final weights are the same bytes");
  });

  it("goes on from a directory: an encoder, or a classifier whose head it replaces", async () => {
    const manager = managerOf();
    const rows = writeRows();
    manager.start(encoderFile(rows, 30), folder, "first");
    const first = await manager.finished("first");
    assert.equal(first.state, "FINISHED", first.reason);
    const from = (directory: string) => encoderFile(rows, 1).replace(/^init: .*$/m, `model: ${directory}`);
    manager.start(from(first.modelDirectory), folder, "second");
    const second = await manager.finished("second");
    assert.equal(second.state, "FINISHED", second.reason);
    const lossOf = (id: string, step: number) => metricsOf(id)[step - 1]?.["mlm/loss"] as number;
    assert.ok(lossOf("second", 1) < 0.7 * lossOf("first", 1), "it starts from what was learned");
    const classifier = join(packageRoot(), "test/golden/bert-tiny-classifier");
    manager.start(from(classifier), folder, "third");
    const third = await manager.finished("third");
    assert.equal(third.state, "FINISHED", third.reason);
    const json = JSON.parse(readFileSync(join(third.modelDirectory, "config.json"), "utf8"));
    assert.deepEqual(json.architectures, ["BertForMaskedLM"]);
  });

  it("says so where the tokenizer has no token to hide others with", async () => {
    const manager = managerOf();
    const gpt2 = join(packageRoot(), "test/golden/gpt2-tiny");
    const unmasked = encoderFile(writeRows(), 1).replace(/tokenizer: \{[^}]*\}/, `tokenizer: ${gpt2}`);
    manager.start(unmasked, folder, "unmasked");
    assert.match(
      (await manager.finished("unmasked")).reason,
      /^init.tokenizer: .*gpt2-tiny has a tokenizer without a mask token/,
    );
  });
});

describe("training examples", () => {
  it("learn the answer alone where the run file says so, the end token included", async () => {
    const ids = new Map<string, number>();
    const tokenizer = {
      specialIds: { eos: 0 },
      encode: (text: string) => ({
        ids: text
          .split(/(?= )/)
          .map((word) => ids.set(word, ids.get(word) ?? ids.size + 1).get(word) as number),
      }),
    };
    const config = {
      template: "q: {question} a: {answer}",
      lossOn: "answer",
      prefixes: [],
      maxTokens: 99,
      seed: 1,
    } as const;
    const [example] = textExamples(config, [{ question: "why", answer: "so it is" }], tokenizer as never);
    assert.deepEqual(example?.ids, [1, 2, 3, 4, 5, 6, 0]);
    assert.deepEqual(example?.labels, [-100, -100, -100, 4, 5, 6, 0]);
  });

  it("come in an order of their own each epoch, each once", () => {
    const examples = [0, 1, 2, 3, 4, 5];
    const epochOf = (first: number) =>
      [first, first + 1, first + 2].flatMap((step) => batchOf(examples, 2, 7, step));
    assert.deepEqual(epochOf(1).sort(), examples);
    assert.deepEqual(epochOf(4).sort(), examples);
    assert.notDeepEqual(epochOf(1), epochOf(4));
    assert.equal(stepsOf({ epochs: 1.5, batchSize: 4 }, 6), 3);
  });

  it("name their labels as checkpoints do", () => {
    const rows = (labels: string[]) => labels.map((label) => ({ text: "", label }));
    assert.deepEqual(labelsOf(rows(["1", "0", "10", "1"])), ["0", "1", "10"]);
    assert.deepEqual(labelNames(["0", "1"]), ["LABEL_0", "LABEL_1"]);
    assert.deepEqual(labelNames(["bad", "good"]), ["bad", "good"]);
    assert.deepEqual(
      [holdOut([...Array(20).keys()], 0.25, 1)].map(({ train, heldOut }) => [train.length, heldOut.length]),
      [[15, 5]],
    );
  });
});
