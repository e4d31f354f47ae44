import assert from "node:assert/strict";
import { Rng } from "../lib/dataset/index.js";
import { tokenizerFromFiles } from "../lib/tokenizer/index.js";
import { knownWords, sentence, tokenizerFiles, wordAt } from "./words.js";
import { qaRows, raggedLengths } from "./workload.js";

const SIZES = { gpt2: 600, roberta: 600, bert: 600 } as const;
const families = ["gpt2", "roberta", "bert"] as const;
const tokenizerOf = (family: (typeof families)[number], size: number) =>
  tokenizerFromFiles(tokenizerFiles(family, size));

describe("the made-up language", () => {
  it("has no word twice", () => {
    const words = new Set(Array.from({ length: 60_000 }, (_, i) => wordAt(i)));
    assert.equal(words.size, 60_000);
  });

  for (const family of families) {
    it(`has a ${family} tokenizer of the size asked for, in which a known word is one token`, () => {
      const tokenizer = tokenizerOf(family, SIZES[family]);
      assert.equal(tokenizer.vocabSize, SIZES[family]);
      const known = knownWords(family, SIZES[family]);
      const text = sentence(Rng.from(1), 50, { known });
      const { ids } = tokenizer.encode(` ${text}`, { addSpecialTokens: false });
      assert.equal(ids.length, 50);
      assert.equal(tokenizer.decode(ids).trim(), text);
      const wrapped =
        tokenizer.encode(text).ids.length - tokenizer.encode(text, { addSpecialTokens: false }).ids.length;
      assert.equal(wrapped, family === "gpt2" ? 0 : 2);
    });
  }

  it("has vocabularies of real size, whose long words are known too", () => {
    const tokenizer = tokenizerOf("gpt2", 50_257);
    const known = knownWords("gpt2", 50_257);
    for (const i of [0, 8099, 8100, known - 1]) {
      assert.equal(tokenizer.encode(` ${wordAt(i)}`, { addSpecialTokens: false }).ids.length, 1);
    }
    assert.equal(tokenizer.encode(` ${wordAt(known)}`, { addSpecialTokens: false }).ids.length, 2);
  });
});

describe("the question/answer rows", () => {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

  it("have 23 prompt and 60 new tokens on average, and the spread of the FAQ bot's", () => {
    const lengths = raggedLengths(32);
    const prompts = lengths.map(({ prompt }) => prompt);
    const answers = lengths.map(({ newTokens }) => newTokens);
    assert.ok(Math.abs(mean(prompts) - 23) < 1 && Math.abs(mean(answers) - 60) < 1);
    assert.deepEqual([Math.min(...prompts), Math.max(...prompts)], [10, 64]);
    assert.deepEqual([Math.min(...answers), Math.max(...answers)], [13, 125]);
  });

  it("tokenize to the lengths they were made for", () => {
    const tokenizer = tokenizerOf("gpt2", 600);
    const lengths = raggedLengths(32);
    const rows = qaRows(lengths, { tokenizer, known: knownWords("gpt2", 600), overhead: 3 });
    for (const [i, { question, answer }] of rows.entries()) {
      const { prompt, newTokens } = lengths[i];
      const tokens = 3 + tokenizer.encode(question, { addSpecialTokens: false }).ids.length;
      const words = `${question} ${answer}`.split(" ").length;
      assert.deepEqual([tokens, words + 1], [prompt, newTokens]);
    }
  });
});
