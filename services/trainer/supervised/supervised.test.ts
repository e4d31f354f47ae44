import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { readJournal } from "../runs/journal.js";
import { RunManager } from "../runs/manager.js";
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
    runners: { sft: runSft, reward: runReward, ppo: never },
  });
}

interface Line {
  readonly step: number;
  readonly [metric: string]: number;
}

const metricsOf = (id: string) => readJournal(join(folder, id, "metrics.jsonl")) as Line[];

/** Metrics without wall-clock times, which no two runs share. */
const timeless = (lines: readonly Line[]) =>
  lines.map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !name.startsWith("time/"))));

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
