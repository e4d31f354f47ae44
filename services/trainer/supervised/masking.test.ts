import assert from "node:assert/strict";
import { Rng } from "../../../lib/dataset/index.js";
import { tokenizerFromFiles, trainBpe, trainWordPiece } from "../../../lib/tokenizer/index.js";
import { IGNORED_LABEL } from "../learner/labels.js";
import { type MaskingVocabulary, maskingVocabulary, maskTokens } from "./masking.js";

const CLS = 2;
const SEP = 3;
const MASK = 4;
const VOCABULARY: MaskingVocabulary = {
  maskId: MASK,
  ordinary: Array.from({ length: 95 }, (_, i) => 5 + i),
  isSpecial: (id) => id < 5,
};
/** A text of `length` ordinary tokens in its wrapper. */
const textOf = (length: number) => [CLS, ...Array.from({ length }, (_, i) => 5 + (i % 95)), SEP];

describe("the masking of a text", () => {
  it("asks for 15 % of its tokens, at least one, and never for a special token", () => {
    for (const [length, asked] of [
      [1, 1],
      [3, 1],
      [20, 3],
      [100, 15],
    ] as const) {
      const ids = textOf(length);
      const { ids: read, labels } = maskTokens(ids, VOCABULARY, 0.15, Rng.from(1, length));
      const places = Array.from(labels).flatMap((label, t) => (label === IGNORED_LABEL ? [] : [t]));
      assert.equal(places.length, asked, `${length} tokens`);
      for (const [t, id] of ids.entries()) {
        if (places.includes(t)) assert.equal(labels[t], id);
        else assert.equal(read[t], id);
      }
      assert.ok(!places.includes(0) && !places.includes(ids.length - 1));
    }
  });

  it("puts the mask token in place of 80 % of them, any other token in 10 %, and leaves 10 %", () => {
    const counts = { mask: 0, same: 0, other: 0 };
    const stood = new Set<number>();
    for (let i = 0; i < 400; i++) {
      const ids = textOf(100);
      const { ids: read, labels } = maskTokens(ids, VOCABULARY, 0.15, Rng.from(2, i));
      for (const [t, id] of ids.entries()) {
        if (labels[t] === IGNORED_LABEL) continue;
        if (read[t] === MASK) counts.mask += 1;
        else if (read[t] === id) counts.same += 1;
        else {
          counts.other += 1;
          stood.add(read[t] as number);
        }
      }
    }
    // 6000 draws: a standard deviation is 0.5 % and 0.4 %
    assert.ok(Math.abs(counts.mask / 6000 - 0.8) < 0.02, JSON.stringify(counts));
    assert.ok(Math.abs(counts.other / 6000 - 0.1) < 0.02, JSON.stringify(counts));
    assert.ok(Math.abs(counts.same / 6000 - 0.1) < 0.02, JSON.stringify(counts));
    assert.ok(
      [...stood].every((id) => id >= 5),
      "no special token stands in for another",
    );
    assert.ok(stood.size > 90, "any ordinary token may");
  });

  it("is a function of its stream alone, and another for another stream", () => {
    const ids = textOf(40);
    const masked = (...keys: number[]) => maskTokens(ids, VOCABULARY, 0.15, Rng.from(7, ...keys));
    assert.deepEqual(masked(1, 0), masked(1, 0));
    assert.notDeepEqual(masked(1, 0).labels, masked(1, 1).labels);
    assert.notDeepEqual(masked(1, 0).labels, masked(2, 0).labels);
  });

  it("leaves a text of special tokens alone as it is, with nothing to find", () => {
    const { ids, labels } = maskTokens([CLS, SEP], VOCABULARY, 0.15, Rng.from(1));
    assert.deepEqual(ids, [CLS, SEP]);
    assert.deepEqual(labels, [IGNORED_LABEL, IGNORED_LABEL]);
  });

  it("knows a tokenizer's mask token and its ordinary tokens; one of GPT-2 has none", () => {
    const texts = ["the saw hangs on the wall", "the key is with ann"];
    const wordPiece = tokenizerFromFiles(trainWordPiece(texts, { vocabSize: 400 }));
    const vocabulary = maskingVocabulary(wordPiece);
    assert.equal(vocabulary?.maskId, wordPiece.specialIds.mask);
    assert.equal(vocabulary?.ordinary.length, wordPiece.vocabSize - 5);
    assert.equal(maskingVocabulary(tokenizerFromFiles(trainBpe(texts, { vocabSize: 400 }))), undefined);
  });
});
