/**
 * The model side against transformers on the golden classifiers. Expected numbers have six decimals; the project
 * promises 2e-4.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { Classifier } from "./classifier.js";
import { labelScores } from "./score-functions.js";

const golden = (name: string) => join(packageRoot(), "test/golden", name);

interface Golden {
  texts: string[];
  items: { input_ids: number[]; logits: number[]; softmax: number[] }[];
  pair: { text: string; text_pair: string; input_ids: number[]; logits: number[] };
}

function assertClose(actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i] - value) <= tolerance, `[${i}] expected ${value}, got ${actual[i]}`);
  }
}

for (const name of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
  describe(`Classifier on ${name}`, () => {
    const expected: Golden = JSON.parse(readFileSync(join(golden(name), "expected.json"), "utf8"));
    let classifier: Classifier;
    before(async () => {
      classifier = await Classifier.load({ model: golden(name), device: "cpu", threads: 1 });
    });
    after(() => classifier.close());

    it("gives the reference's ids, logits and probabilities for each text, from text alone", async () => {
      const rows = expected.texts.map((text) => classifier.tokenize({ text }, false));
      const logits = await classifier.logits(rows);
      for (const [i, item] of expected.items.entries()) {
        assert.deepEqual([...rows[i].ids], item.input_ids);
        assertClose(logits[i], item.logits, 5e-6);
        assertClose(labelScores(logits[i], "softmax"), item.softmax, 2e-6);
      }
    });

    it("gives the reference's logits for a text pair", async () => {
      const { text, text_pair: pair, input_ids, logits } = expected.pair;
      const row = classifier.tokenize({ text, pair }, false);
      assert.deepEqual([...row.ids], input_ids);
      assertClose((await classifier.logits([row]))[0], logits, 5e-6);
    });

    it("cuts a long text only when asked, and says how long it was", () => {
      const text = "word ".repeat(2000);
      const whole = classifier.tokenize({ text }, false);
      const cut = classifier.tokenize({ text }, true);
      assert.ok(whole.ids.length > 512 && whole.fullLength === whole.ids.length);
      assert.deepEqual([cut.ids.length, cut.fullLength, cut.ids[511]], [512, whole.fullLength, 3]);
    });

    it("says what it is", () => {
      const { facts } = classifier;
      assert.deepEqual([facts.name, facts.maxTokens, facts.vocabSize, facts.device], [name, 512, 900, "cpu"]);
      assert.match(facts.digest, /^[0-9a-f]{64}$/);
      assert.ok(facts.parameterCount > 40_000);
    });
  });
}

describe("a batch-invariant classifier", () => {
  const model = golden("bert-tiny-classifier");
  const texts = Array.from({ length: 40 }, (_, i) => "so it is and was ".repeat(1 + (i % 7)) + i);

  /** Logits of every text alone, in pairs, in a batch with others and in another order; a line of bits per way. */
  async function ways(batchInvariant: boolean): Promise<string[]> {
    const classifier = await Classifier.load({ model, device: "cpu", threads: 3, batchInvariant });
    try {
      const rows = texts.map((text) => classifier.tokenize({ text }, false));
      const alone: Float32Array[] = [];
      for (const row of rows) alone.push(...(await classifier.logits([row])));
      const pairs: Float32Array[] = [];
      for (let i = 0; i < rows.length; i += 2) pairs.push(...(await classifier.logits(rows.slice(i, i + 2))));
      const together = await classifier.logits(rows);
      const reversed = (await classifier.logits([...rows].reverse())).reverse();
      return [alone, pairs, together, reversed].map((logits) =>
        logits.map((row) => Buffer.from(new Uint8Array(row.slice().buffer)).toString("hex")).join(),
      );
    } finally {
      await classifier.close();
    }
  }

  it("gives a text the same bits alone and in any batch", async () => {
    assert.equal(new Set(await ways(true)).size, 1);
  });

  it("is another than the usual one, which rounds as the batch falls", async () => {
    assert.notEqual(new Set(await ways(false)).size, 1);
  });
});

describe("Classifier.load", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "rlhf-reward-"));
  });
  after(() => rm(folder, { recursive: true }));

  /** A copy of the BERT classifier with one JSON file changed. */
  async function changed(name: string, file: string, change: object): Promise<string> {
    const copy = join(folder, name);
    await cp(golden("bert-tiny-classifier"), copy, { recursive: true });
    const json = JSON.parse(await readFile(join(copy, file), "utf8"));
    await writeFile(join(copy, file), JSON.stringify({ ...json, ...change }));
    return copy;
  }

  it("uses segments where the tokenizer's class has them", async () => {
    const model = await changed("segments", "tokenizer_config.json", {
      tokenizer_class: "BertTokenizerFast",
    });
    const classifier = await Classifier.load({ model, device: "cpu", threads: 1 });
    const { typeIds } = classifier.tokenize({ text: "a", pair: "b" }, false);
    assert.deepEqual([...typeIds], [0, 0, 0, 1, 1]);
    await classifier.close();
  });

  it("refuses a tokenizer with more tokens than the model has rows", async () => {
    const model = await changed("vocabulary", "config.json", { vocab_size: 899 });
    await assert.rejects(Classifier.load({ model, device: "cpu" }), /899|900/);
  });

  it("refuses a directory without weights or of another family, naming what is missing", async () => {
    await assert.rejects(Classifier.load({ model: join(folder, "nothing"), device: "cpu" }), /nothing/);
    await assert.rejects(Classifier.load({ model: golden("gpt2-tiny"), device: "cpu" }), /model_type/);
    await assert.rejects(Classifier.load({ model: golden("roberta-tiny"), device: "cpu" }), /classifier/);
  });
});
