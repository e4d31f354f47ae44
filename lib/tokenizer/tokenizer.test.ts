import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { cleanUpSpaces } from "./decode.js";
import { TokenizerError } from "./errors.js";
import { createTokenizer } from "./tokenizer.js";
import type { Tokenizer } from "./types.js";

const golden = (name: string) =>
  JSON.parse(readFileSync(join(packageRoot(), "test/golden", name, "tokenizer.json"), "utf8"));
const spelled = (tokenizer: Tokenizer, text: string) =>
  tokenizer.encode(text, { addSpecialTokens: false }).ids.map((id) => tokenizer.idToToken(id));

/** All 256 bytes, then the merges "Ġh" and "hi": small enough to follow by hand. */
function tinyBpe(extra: object = {}): Tokenizer {
  const chars = [...Array(256).keys()].map((byte) => {
    if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)) return String.fromCharCode(byte);
    return "";
  });
  let next = 0x100;
  const alphabet = chars.map((char) => char || String.fromCharCode(next++));
  const vocab = Object.fromEntries([...alphabet, "Ġh", "hi"].map((token, id) => [token, id + 1]));
  return createTokenizer({
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab, merges: ["Ġ h", "h i"] },
    ...extra,
  });
}

describe("a byte-level tokenizer", () => {
  it("splits and merges as GPT-2 does", () => {
    const tokenizer = tinyBpe();
    assert.deepEqual(spelled(tokenizer, "hi hi"), ["hi", "Ġh", "i"]);
    assert.deepEqual(spelled(tokenizer, "  hi"), ["Ġ", "Ġh", "i"]);
    assert.deepEqual(spelled(tokenizer, "hi  hi "), ["hi", "Ġ", "Ġh", "i", "Ġ"]);
  });

  it("takes Unicode's whitespace, not JavaScript's", () => {
    // U+0085 is whitespace: "h" and "i" after it are apart; U+FEFF is not
    assert.deepEqual(spelled(tinyBpe(), "\u0085\u0085hi").slice(-1), ["hi"]);
    assert.equal(spelled(tinyBpe(), " \ufeff").length, 4);
    assert.deepEqual(spelled(tinyBpe(), " \ufeffh").slice(0, 1), ["Ġ"]);
  });

  it("brings every text back, and U+FFFD for bytes that are none", () => {
    const tokenizer = tinyBpe();
    for (const text of ["", "é🙂中\u0000\ufeff x", "\n\t  "]) {
      assert.equal(tokenizer.decode(tokenizer.encode(text).ids), text);
    }
    const [first] = tokenizer.encode("é").ids;
    assert.equal(tokenizer.decode([first!, first!]), "\ufffd\ufffd");
    assert.equal(tokenizer.decodeToken(first!), "\ufffd");
    assert.equal(tokenizer.decode([99_999]), "");
    assert.equal(tokenizer.decode(tokenizer.encode("a\ud800b").ids), "a\ufffdb");
  });

  it("puts a space in front only when asked, and not before whitespace or nothing", () => {
    const tokenizer = tinyBpe();
    const first = (text: string) => tokenizer.decode(tokenizer.encode(text, { prefixSpace: true }).ids);
    assert.deepEqual(["hi", " hi", "\x1chi", "\u0085hi", ""].map(first), [
      " hi",
      " hi",
      "\x1chi",
      "\u0085hi",
      "",
    ]);
    assert.equal(first("\ufeffhi"), " \ufeffhi");
  });

  it("joins the bytes on both sides of a special token that it leaves out", () => {
    const tokenizer = tinyBpe({ added_tokens: [{ id: 300, content: "<|pad|>", special: true }] });
    const [a, b] = tokenizer.encode("é").ids;
    assert.equal(tokenizer.decode([a!, 300, b!]), "é");
    assert.equal(tokenizer.decode([a!, 300, b!], { skipSpecialTokens: false }), "\ufffd<|pad|>\ufffd");
    assert.deepEqual(tokenizer.encode("hi<|pad|>hi").ids, [258, 300, 258]);
    assert.ok(tokenizer.isSpecial(300) && !tokenizer.isSpecial(1));
    assert.equal(tokenizer.vocabSize, 301);
  });

  it("encodes a page without a space in good time", () => {
    const started = performance.now();
    assert.equal(tinyBpe().encode("hi".repeat(100_000)).ids.length, 100_000);
    assert.ok(performance.now() - started < 5_000);
  });

  it("undoes spaces before punctuation on request", () => {
    assert.equal(cleanUpSpaces("i do n't know . it 's , well ? ' no ' !"), "i don't know. it's, well?'no '!");
    const tokenizer = tinyBpe();
    assert.equal(tokenizer.decode(tokenizer.encode("hi .").ids, { cleanUp: true }), "hi.");
    assert.equal(tokenizer.decode(tokenizer.encode("hi .").ids), "hi .");
  });
});

describe("a tokenizer", () => {
  const bert = () => createTokenizer(golden("bert-tiny-classifier"));

  it("wraps the empty text, and cuts to what is asked", () => {
    const tokenizer = bert();
    assert.deepEqual(tokenizer.encode(""), { ids: [2, 3], typeIds: [0, 0], truncated: false });
    assert.deepEqual(tokenizer.encode("the server", { maxLength: 3 }).ids.length, 3);
    assert.deepEqual(tokenizer.encode("the server", { maxLength: 2 }), {
      ids: [2, 3],
      typeIds: [0, 0],
      truncated: true,
    });
    assert.throws(
      () => tokenizer.encode("the", { maxLength: 1 }),
      /maxLength: expected a whole number of at least 2, got 1/,
    );
  });

  it("shares the room between the texts of a pair", () => {
    const lengths = (a: number, b: number, maxLength: number) => {
      const { typeIds } = bert().encode(". ".repeat(a), {
        pair: ". ".repeat(b),
        maxLength,
        addSpecialTokens: false,
      });
      return [typeIds.filter((id) => id === 0).length, typeIds.filter((id) => id === 1).length];
    };
    assert.deepEqual(lengths(2, 9, 7), [2, 5]);
    assert.deepEqual(lengths(9, 5, 3), [2, 1]);
    assert.deepEqual(lengths(5, 9, 3), [1, 2]);
    assert.deepEqual(lengths(9, 9, 6), [3, 3]);
  });

  it("counts an empty second text as none", () => {
    assert.deepEqual(bert().encode("the", { pair: "" }), bert().encode("the"));
  });

  it("finds roles, gives new ones the next id, and lets the map win", () => {
    const tokenizer = createTokenizer(golden("gpt2-tiny"), {
      config: { bos_token: { content: "<|startoftext|>" }, eos_token: "<|pad|>", mask_token: "<|new|>" },
      specialTokensMap: { eos_token: "<|endoftext|>" },
    });
    assert.equal(tokenizer.specialIds.bos, 800);
    assert.equal(tokenizer.specialIds.eos, 0);
    assert.equal(tokenizer.specialIds.mask, 802);
    assert.deepEqual(tokenizer.encode("<|new|>").ids, [802]);
  });

  it("takes other kinds of parts from the library", () => {
    const tokenizer = createTokenizer({
      added_tokens: [{ id: 3, content: "</s>", special: true }],
      normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }, { type: "Lowercase" }] },
      pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
      post_processor: null,
      decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
      model: {
        type: "Unigram",
        unk_id: 0,
        vocab: [
          ["<unk>", 0],
          ["▁ab", -1],
          ["c", -2],
        ],
      },
    });
    assert.deepEqual(tokenizer.encode("ＡＢ c</s>").ids.slice(0, 1), [1]);
    assert.equal(tokenizer.decode([1, 2]), "abc");
    assert.equal(tokenizer.decode([]), "");
  });

  const damage: [string, (json: Record<string, unknown>) => void, RegExp][] = [
    ["no model", (json) => delete json.model, /expected a model, found none/],
    ["no vocabulary", (json) => (json.model = { type: "BPE" }), /model.vocab to map tokens to ids/],
    [
      "an id that is none",
      (json) => ((json.model as { vocab: object }).vocab = { a: "x" }),
      /an id for "a", found "x"/,
    ],
    [
      "merges that are no list",
      (json) => ((json.model as { merges: unknown }).merges = 3),
      /model.merges: expected a list/,
    ],
    [
      "a merge of one",
      (json) => ((json.model as { merges: unknown }).merges = ["ab"]),
      /expected pairs of tokens, found "ab" at 0/,
    ],
    [
      "a merge unknown",
      (json) => ((json.model as { merges: unknown }).merges = ["h zzz"]),
      /"zzz" of merge 0 in the vocabulary/,
    ],
    [
      "added tokens without id",
      (json) => (json.added_tokens = [{ content: "x" }]),
      /added_tokens\[0\]: expected id and content/,
    ],
    [
      "an added token elsewhere",
      (json) => (json.added_tokens = [{ id: 7, content: "h" }]),
      /expected id \d+ for "h"/,
    ],
    [
      "an unknown post-processor",
      (json) => (json.post_processor = { type: "X" }),
      /post_processor: .* found "X"/,
    ],
    ["an unknown normaliser", (json) => (json.normalizer = { type: "X" }), /tokenizer of known parts/],
    ["an unknown model", (json) => (json.model = { type: "X", vocab: {} }), /tokenizer of known parts|model/],
    [
      "a template without its ids",
      (json) =>
        (json.post_processor = {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: "?", type_id: 0 } }],
        }),
      /special_tokens to list the ids/,
    ],
  ];
  for (const [what, break_, message] of damage) {
    it(`is refused when it has ${what}`, () => {
      const json = golden("gpt2-tiny");
      break_(json);
      assert.throws(
        () => createTokenizer(json, { file: "some/tokenizer.json" }).encode("hi"),
        (error: unknown) => {
          assert.ok(error instanceof TokenizerError, String(error));
          assert.equal(error.code, "CHECKPOINT_CORRUPT");
          assert.match(error.message, message);
          assert.match(error.message, /^some\/tokenizer.json/);
          return true;
        },
      );
    });
  }
});
