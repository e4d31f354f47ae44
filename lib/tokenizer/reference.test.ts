/**
 * @file Compares with the Rust tokenizers (package `tokenizers`, the reference) on odd texts.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Tokenizer as Reference } from "tokenizers";
import { packageRoot } from "../config/package-root.js";
import { createTokenizer } from "./tokenizer.js";
import { tokenizerFromFiles, trainBpe, trainWordPiece } from "./train.js";
import type { Tokenizer } from "./types.js";

/**
 * Whitespace of all kinds, controls, accents, CJK inside and outside the first plane, emoji, specials, long
 * words.
 */
const ATOMS = [
  ..." \n\t\r\u000b\f\u001c\u0085\u00a0\u1680\u2003\u2028\u202f\u3000\ufeff\u200b\u200d\u00ad\u0000\u0007\ufffd\u2060",
  ..."é É ﬁ İ ß ẞ Σ σ ς ½ Ⅷ ١ € — “ ” … 中 文 가 각 अ ﷺ ಠ 🙂 𝐀 𠀁 𪜀".split(" "),
  ...[
    "\r\n",
    "  ",
    "   ",
    "e\u0301",
    "\u0301",
    "ΟΔΥΣΣΕΥΣ",
    "İstanbul",
    "👩‍👩‍👧",
    "\u{10ffff}",
    "\u061d",
    "\u2e52",
    "\u1ac1",
  ],
  ...[
    "'s",
    "'S",
    "'ll",
    "don't",
    "n't",
    "!",
    "?",
    "...",
    "$5",
    "_",
    "-",
    "hello",
    "Policy",
    "the",
    "reward",
    "123",
  ],
  ...[
    "x".repeat(101),
    "x".repeat(100),
    "ab".repeat(300),
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "<unk>",
    "[SEP]",
    "[CLS]",
  ],
  ...[
    "[MASK]",
    "[UNK]",
    "[mask]",
    "<|endoftext|>",
    "<|startoftext|>",
    "<|pad|>",
    "<|PAD|>",
    "[good]",
    "[bad]",
  ],
];

const oddText = fc
  .array(fc.tuple(fc.constantFrom(...ATOMS), fc.constantFrom("", " ")), { maxLength: 14 })
  .map((parts) => parts.flat().join(""));
const anyText = fc.oneof(
  { weight: 3, arbitrary: oddText },
  { weight: 1, arbitrary: fc.string({ unit: "grapheme", maxLength: 40 }) },
  // the 21 code points in which Unicode 16 decompositions differ lie beyond U+10000; see README.md
  {
    weight: 1,
    arbitrary: fc.string({ unit: fc.integer({ min: 0, max: 0xd7ff }).map((c) => String.fromCodePoint(c)) }),
  },
);

async function compare(ours: Tokenizer, json: string, runs: number): Promise<void> {
  const theirs = Reference.fromString(json);
  theirs.disableTruncation();
  theirs.disablePadding();
  const property = fc.asyncProperty(
    anyText,
    fc.option(anyText.filter((text) => text !== "")),
    fc.boolean(),
    fc.array(fc.nat(ours.vocabSize + 2), { maxLength: 8 }),
    async (text, pair, addSpecialTokens, moreIds) => {
      const expected = await theirs.encode(text, pair, { addSpecialTokens });
      const { ids, typeIds } = ours.encode(text, { pair: pair ?? undefined, addSpecialTokens });
      assert.deepEqual(ids, expected.getIds());
      assert.deepEqual(typeIds, expected.getTypeIds());
      for (const skip of [true, false]) {
        const all = [...ids, ...moreIds];
        assert.equal(ours.decode(all, { skipSpecialTokens: skip }), await theirs.decode(all, skip));
      }
    },
  );
  await fc.assert(property, { numRuns: runs });
}

describe("tokenizers agree with the Rust tokenizers on odd texts", () => {
  for (const name of ["gpt2-tiny", "bert-tiny-classifier", "roberta-tiny"]) {
    it(name, async () => {
      const json = readFileSync(join(packageRoot(), "test/golden", name, "tokenizer.json"), "utf8");
      await compare(createTokenizer(JSON.parse(json)), json, 600);
    });
  }

  const texts = readFileSync(join(packageRoot(), "README.md"), "utf8").split("\n");
  const accented = [...texts, "café naïve ÅÄÖ 中文 text — “quotes” 🙂 ".repeat(3)];
  for (const [name, train] of [
    ["a trained byte-level BPE", trainBpe],
    ["a trained WordPiece", trainWordPiece],
  ] as const) {
    it(name, async () => {
      const files = train(accented, { vocabSize: 500 });
      await compare(tokenizerFromFiles(files), JSON.stringify(files["tokenizer.json"]), 300);
    });
  }

  it("a cased BERT, with added tokens of every kind", async () => {
    const json = JSON.parse(
      readFileSync(join(packageRoot(), "test/golden/bert-tiny-classifier/tokenizer.json"), "utf8"),
    );
    json.normalizer = { ...json.normalizer, lowercase: false, strip_accents: true };
    const kinds = [
      { content: "[good]", lstrip: true, special: true, normalized: false },
      { content: "[bad]", rstrip: true, special: false, normalized: false },
      { content: "hello", single_word: true, special: false, normalized: false },
      { content: "Policy", special: false, normalized: true },
      { content: "don't", special: false, normalized: true },
    ];
    for (const [i, kind] of kinds.entries()) {
      json.added_tokens.push({ single_word: false, lstrip: false, rstrip: false, ...kind, id: 900 + i });
    }
    await compare(createTokenizer(json), JSON.stringify(json), 600);
  });

  it("truncation of one text, and of a pair to an even number of places", async () => {
    const json = readFileSync(join(packageRoot(), "test/golden/bert-tiny-classifier/tokenizer.json"), "utf8");
    const ours = createTokenizer(JSON.parse(json));
    const theirs = Reference.fromString(json);
    await fc.assert(
      fc.asyncProperty(
        oddText,
        fc.option(oddText.filter((text) => text !== "")),
        fc.nat(12),
        async (text, pair, extra) => {
          const maxLength = pair === null ? 2 + extra : 3 + 2 * extra;
          theirs.setTruncation(maxLength, { strategy: "LongestFirst" as never });
          const { ids, truncated } = ours.encode(text, { pair: pair ?? undefined, maxLength });
          assert.deepEqual(ids, (await theirs.encode(text, pair)).getIds());
          assert.equal(truncated, ours.encode(text, { pair: pair ?? undefined }).ids.length > maxLength);
        },
      ),
      { numRuns: 300 },
    );
  });
});
