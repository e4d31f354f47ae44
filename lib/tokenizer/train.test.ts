import assert from "node:assert/strict";
import { tokenizerFromFiles, trainBpe, trainWordPiece } from "./train.js";

const TEXTS = [
  "low low low low low",
  "lower lower",
  "newest newest newest newest newest newest",
  "widest widest widest",
];

describe("training a tokenizer", () => {
  it("merges the most frequent pairs first, of equals the one with the smaller ids", () => {
    const { model } = trainBpe(TEXTS, { vocabSize: 2 + 256 + 6 })["tokenizer.json"] as {
      model: { merges: string[][] };
    };
    // e s: 9 times, then es t: 9; then of the pairs that occur 7 times "l o" before "o w"
    assert.deepEqual(model.merges.slice(0, 4), [
      ["e", "s"],
      ["es", "t"],
      ["l", "o"],
      ["lo", "w"],
    ]);
  });

  it("gives the same files for the same texts, and the specials the first ids", () => {
    for (const train of [trainBpe, trainWordPiece]) {
      const files = train(TEXTS, { vocabSize: 400, modelMaxLength: 64 });
      assert.equal(
        JSON.stringify(train(TEXTS, { vocabSize: 400, modelMaxLength: 64 })),
        JSON.stringify(files),
      );
      const tokenizer = tokenizerFromFiles(files);
      assert.equal(tokenizer.modelMaxLength, 64);
      assert.ok(tokenizer.vocabSize <= 400);
    }
    const tokenizer = tokenizerFromFiles(
      trainBpe(TEXTS, {
        vocabSize: 300,
        specialTokens: { eos: "<|endoftext|>", bos: "<|startoftext|>", pad: "<|pad|>" },
      }),
    );
    assert.deepEqual(
      [tokenizer.specialIds.eos, tokenizer.specialIds.bos, tokenizer.specialIds.pad],
      [0, 1, 2],
    );
    assert.equal(tokenizer.encode("<|pad|>").ids[0], 2);
  });

  it("encodes any text with byte-level BPE, and unseen ASCII words with WordPiece", () => {
    const bpe = tokenizerFromFiles(trainBpe([], { vocabSize: 258 }));
    assert.equal(bpe.decode(bpe.encode("Ünïcode 🙂\n").ids), "Ünïcode 🙂\n");
    const wordPiece = tokenizerFromFiles(trainWordPiece(TEXTS, { vocabSize: 300 }));
    const ids = wordPiece.encode("Zebra-99, ok?").ids;
    assert.ok(!ids.includes(wordPiece.specialIds.unk!));
    assert.equal(wordPiece.decode(ids), "zebra - 99, ok?");
  });

  it("does not learn from special tokens in the texts", () => {
    const files = trainBpe(["<|pad|><|pad|><|pad|>ab ab ab"], { vocabSize: 300 });
    const { merges } = (files["tokenizer.json"] as { model: { merges: string[][] } }).model;
    assert.deepEqual(merges, [
      ["a", "b"],
      ["Ġ", "ab"],
    ]);
  });

  it("stops when no pair is left, and refuses a vocabulary without room", () => {
    assert.equal(tokenizerFromFiles(trainBpe(["ab"], { vocabSize: 9_000 })).vocabSize, 258);
    assert.throws(() => trainBpe([], { vocabSize: 257 }), /vocabSize: expected at least 258/);
    assert.throws(
      () => trainWordPiece([], { vocabSize: 10 }),
      /vocabSize: expected at least \d+ for special tokens/,
    );
    assert.throws(
      () => trainWordPiece([], { vocabSize: 400, specialTokens: { pad: "[PAD]" } }),
      /a token for (cls|unk)/,
    );
  });
});
