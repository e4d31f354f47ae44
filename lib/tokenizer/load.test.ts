import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { TokenizerError } from "./errors.js";
import { loadTokenizer } from "./load.js";

const golden = (name: string) => join(packageRoot(), "test/golden", name);
const TEXTS = [
  "How does a server drain?",
  "",
  "Café naïve\u0085 中文 🙂 [SEP] <mask>!",
  "a <|pad|> b <|endoftext|>",
];

describe("loadTokenizer", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "tokenizer-"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const write = (name: string, content: string | object) =>
    writeFileSync(join(dir, name), typeof content === "string" ? content : JSON.stringify(content));
  const refuses = (message: RegExp) =>
    assert.rejects(loadTokenizer(dir), (error: unknown) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(error.message, message);
      return true;
    });
  const sameAs = async (name: string) => {
    const [fast, classic] = [await loadTokenizer(golden(name)), await loadTokenizer(dir)];
    for (const text of TEXTS) assert.deepEqual(classic.encode(text), fast.encode(text), text);
    for (const text of TEXTS)
      assert.deepEqual(classic.encode(text, { pair: "x" }), fast.encode(text, { pair: "x" }));
    assert.equal(classic.vocabSize, fast.vocabSize);
    const { specialIds } = classic;
    for (const [role, id] of Object.entries(fast.specialIds)) {
      if (id !== undefined) assert.equal(specialIds[role as keyof typeof specialIds], id, role);
    }
  };
  /** vocabulary and merges of a golden tokenizer.json */
  const parts = (name: string) =>
    JSON.parse(readFileSync(join(golden(name), "tokenizer.json"), "utf8")).model;

  it("reads vocab.json, merges.txt and added_tokens.json as GPT-2's", async () => {
    const { vocab, merges } = parts("gpt2-tiny");
    write("vocab.json", vocab);
    write("merges.txt", `#version: 0.2\n${merges.map((pair: string[]) => pair.join(" ")).join("\n")}\n`);
    write("added_tokens.json", { "<|startoftext|>": 800, "<|pad|>": 801 });
    write("tokenizer_config.json", { tokenizer_class: "GPT2Tokenizer", pad_token: "<|pad|>", lower: true });
    write("special_tokens_map.json", { bos_token: { content: "<|startoftext|>", normalized: true } });
    await sameAs("gpt2-tiny");
    assert.equal((await loadTokenizer(dir)).modelMaxLength, Number.POSITIVE_INFINITY);
  });

  it("gives role tokens that the vocabulary lacks the next ids, in the order of roles", async () => {
    const { vocab, merges } = parts("gpt2-tiny");
    write("vocab.json", vocab);
    write("merges.txt", merges.map((pair: string[]) => pair.join(" ")).join("\n")); // no header, no last line break
    write("tokenizer_config.json", {
      bos_token: "<|startoftext|>",
      eos_token: "<|endoftext|>",
      unk_token: "<|endoftext|>",
      pad_token: "<|pad|>",
    });
    await sameAs("gpt2-tiny");
  });

  it("reads RoBERTa's files, the class known from config.json", async () => {
    const { vocab, merges } = parts("roberta-tiny");
    write("vocab.json", { ...vocab, "<mask>": 804 });
    write("merges.txt", merges.map((pair: string[]) => pair.join(" ")).join("\r\n"));
    write("config.json", { model_type: "roberta" });
    await sameAs("roberta-tiny");
  });

  it("reads vocab.txt as BERT's, cased when the config says so", async () => {
    const { vocab } = parts("bert-tiny-classifier");
    const lines = Object.keys(vocab).sort((a, b) => vocab[a] - vocab[b]);
    write("vocab.txt", `${lines.join("\n")}\n`);
    write("config.json", { model_type: "bert" });
    await sameAs("bert-tiny-classifier");
    const { unk } = (await loadTokenizer(dir)).specialIds;
    assert.ok(!(await loadTokenizer(dir)).encode("SERVER").ids.includes(unk!));
    write("tokenizer_config.json", { do_lower_case: false, model_max_length: 99 });
    const cased = await loadTokenizer(dir);
    assert.ok(cased.encode("SERVER").ids.includes(unk!));
    assert.equal(cased.modelMaxLength, 99);
  });

  it("lets the class of tokenizer_config.json overrule the normaliser, as BertTokenizerFast does", async () => {
    cpSync(golden("bert-tiny-classifier"), dir, { recursive: true });
    const json = JSON.parse(readFileSync(join(dir, "tokenizer.json"), "utf8"));
    json.normalizer.lowercase = false;
    write("tokenizer.json", json);
    const plain = await loadTokenizer(dir); // a class that overrules nothing
    write("tokenizer_config.json", { tokenizer_class: "BertTokenizer" });
    const bert = await loadTokenizer(dir);
    assert.notDeepEqual(plain.encode("The SERVER").ids, bert.encode("The SERVER").ids);
    assert.deepEqual(bert.encode("The SERVER").ids, bert.encode("the server").ids);
  });

  it("honours add_prefix_space of the config", async () => {
    cpSync(golden("gpt2-tiny"), dir, { recursive: true });
    const plain = (await loadTokenizer(dir)).encode(" server").ids;
    write("tokenizer_config.json", { add_prefix_space: true });
    assert.deepEqual((await loadTokenizer(dir)).encode("server").ids, plain);
  });

  it("names what is missing or damaged", async () => {
    await refuses(/expected tokenizer.json, vocab.json with merges.txt, or vocab.txt, found none/);
    await assert.rejects(loadTokenizer(join(dir, "none")), TokenizerError);
    write("vocab.json", { a: 0, b: 1, ab: 2 });
    await refuses(/merges.txt: expected merges beside vocab.json, found no such file/);
    write("merges.txt", "#version: 0.2\na b c\n");
    await refuses(/merges.txt: line 2: expected two tokens, found "a b c"/);
    write("merges.txt", "a b\n");
    write("added_tokens.json", { c: 7 });
    await refuses(/added_tokens.json: expected id 3 for c, found 7/);
    write("added_tokens.json", "[");
    await refuses(/added_tokens.json: expected valid JSON/);
    write("tokenizer.json", '"x"');
    await refuses(/tokenizer.json: expected a JSON object, found x/);
    write("tokenizer.json", "{}");
    await refuses(/tokenizer.json: expected a model, found none/);
    writeFileSync(join(dir, "tokenizer.json"), Buffer.from([0x7b, 0xff]));
    await refuses(/tokenizer.json: expected readable UTF-8 text/);
    for (const name of ["tokenizer.json", "vocab.json"]) rmSync(join(dir, name));
    write("added_tokens.json", {});
    write("vocab.txt", "a\nb\n");
    await refuses(/vocab.txt: expected \[CLS\] in the vocabulary/);
  });

  it("names what is wrong in a wrapper or a vocabulary of the right kind and the wrong content", async () => {
    cpSync(golden("bert-tiny-classifier"), dir, { recursive: true });
    const sound = readFileSync(join(dir, "tokenizer.json"), "utf8");
    const changed = (change: (json: Record<string, Record<string, unknown>>) => void) => {
      const json = JSON.parse(sound);
      change(json);
      write("tokenizer.json", json);
    };
    const template = (single: unknown[], ids: unknown) =>
      changed(({ post_processor: wrapper = {} }) => {
        Object.assign(wrapper, { single, special_tokens: { "[CLS]": { id: "[CLS]", ids } } });
      });
    const cls = { SpecialToken: { id: "[CLS]", type_id: 0 } };
    for (const single of [[null], [7], [{ SpecialToken: 1 }]]) {
      template(single, [2]);
      await refuses(/post_processor: expected special_tokens to list/);
    }
    template([cls], 2);
    await refuses(/post_processor: expected special_tokens to list/);
    template([{ SpecialToken: { id: "[CLS]", type_id: "x" } }], [2]);
    await refuses(/expected a type_id of 0 or 1, found "x"/);
    changed((json) => Object.assign(json, { post_processor: { type: "Sequence", processors: [null] } }));
    await loadTokenizer(dir); // nothing that adds tokens
    changed(({ model = {} }) => Object.assign(model, { type: "Unigram", vocab: [["a", 0], 7] }));
    await refuses(/model.vocab: expected pairs of token and score, found 7 at 1/);
    changed((json) => Object.assign(json, { normalizer: { type: "Sequence", normalizers: 7 } }));
    await refuses(/tokenizer.json: expected a tokenizer of/);
  });

  it("fails in no other way on mutated files", async () => {
    cpSync(golden("gpt2-tiny"), dir, { recursive: true });
    const text = readFileSync(join(dir, "tokenizer.json"), "utf8");
    const head = text.indexOf('"vocab"');
    for (let at = 0; at < head; at += 11) {
      for (const piece of ["", "null", "[]", "9"]) {
        write("tokenizer.json", text.slice(0, at) + piece + text.slice(at + 5));
        await loadTokenizer(dir).then(
          (tokenizer) => tokenizer.encode("hi"),
          (error: unknown) => assert.ok(error instanceof TokenizerError, `${at} ${piece}: ${error}`),
        );
      }
    }
  });
});
