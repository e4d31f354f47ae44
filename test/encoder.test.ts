/**
 * @file From texts to BERTScore as a user goes: `rlhf train-encoder` on the questions and answers of examples/faq, `rlhf serve bertscore` on
 * what it made. On answers that say the same in other words and answers that say something else, the trained encoder must tell more
 * than one that has read nothing.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BertScoreService } from "../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { packageRoot } from "../lib/config/package-root.js";
import { useSandbox } from "./support/sandbox.js";

/** An answer, another to the same question, and one to another question, of like length. */
const TRIPLES = [
  [
    "two sewing machines stand upstairs, and one for thick cloth; you can use them in the shop or borrow one.",
    "yes, we do: two sewing machines stand upstairs, and one for thick cloth. use them here or borrow one; anna shows you the first steps.",
    "you can do it: mark the holes with a level, drill, put in plugs that fit the wall, and fasten the screws. bring a photo and we choose plugs together.",
  ],
  [
    "call the desk during opening hours, or put a note in the blue letter box.",
    "call us at the desk in opening hours; a note in the blue letter box reaches us too.",
    "brush off the dirt, dry the metal, and put a little oil on the blade; a tap is in the yard.",
  ],
] as const;

describe("an encoder of one's own", function () {
  this.timeout(180_000);
  const sandbox = useSandbox("all");

  /** A run file; `epochs` of next to nothing leaves the model as it began. */
  const runFile = (epochs: number) =>
    JSON.stringify({
      ...{ kind: "encoder", seed: 1, threads: 1, epochs, maxTokens: 64, batchSize: 16 },
      init: { layers: 2, width: 64, heads: 2, positions: 96, tokenizer: { vocabSize: 900 } },
      data: { train: join(packageRoot(), "examples/faq/train.csv"), maxRows: 300, heldOut: 0.1 },
      checkpoint: { every: 1000 },
      optimizer: { learningRate: 2e-3, warmupSteps: 10 },
    });

  it("is made by one command and served for BERTScore by another, and knows what is said in other words", async () => {
    const box = sandbox();
    for (const [name, epochs] of [
      ["read", 10],
      ["new", 0.01],
    ] as const) {
      const file = box.write(`${name}.json`, runFile(epochs));
      const made = await box.rlhf(["train-encoder", file, "--run-id", name], { timeoutMs: 120_000 });
      assert.equal(made.code, 0, made.stderr);
      if (name === "read") assert.match(made.stderr, /encoder step \d+\/\d+: loss [\d.]+, test loss [\d.]+/);
    }
    const [read, unread] = await Promise.all(["read", "new"].map(margin));
    console.log(
      `      F1 of the same in other words less that of other things: ${(read as number).toFixed(3)}, unread ${(unread as number).toFixed(3)}`,
    );
    assert.ok(
      (read as number) > 0.02,
      `F1 of the same in other words is above that of other things: ${read}`,
    );
    assert.ok(
      (read as number) > (unread as number),
      `${read} against ${unread} of a model that read nothing`,
    );
  });

  /** How far F1 of the same in other words is above F1 of something else, on the model of a run. */
  async function margin(run: string): Promise<number> {
    const box = sandbox();
    const model = box.path("runs", run, "model");
    const server = await box.serve("bertscore", ["--model", model, "--layer", "1"]);
    const client = box.client(BertScoreService, server.address);
    const info = await client.getInfo({});
    assert.equal(info.model?.family, "bert");
    assert.deepEqual([info.layerCount, info.defaultLayer], [2, 1]);
    assert.match(info.model?.weights?.digest ?? "", /^[0-9a-f]{64}$/);
    const pairs = TRIPLES.flatMap(([answer, same, other]) => [
      { candidate: same, references: [answer] },
      { candidate: other, references: [answer] },
    ]);
    const { results } = await client.score({ pairs });
    const f1 = results.map(({ score }) => score?.f1 as number);
    const gaps = TRIPLES.map((_, i) => (f1[2 * i] as number) - (f1[2 * i + 1] as number));
    return gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  }
});
