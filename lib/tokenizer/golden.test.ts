import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { runReadmeExample } from "../config/readme-example.js";
import { loadTokenizer } from "./load.js";

const golden = (name: string) => join(packageRoot(), "test/golden", name);
const expected = (name: string) => JSON.parse(readFileSync(join(golden(name), "expected.json"), "utf8"));

describe("the tokenizers of the golden models", () => {
  for (const name of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
    it(`give the ids of ${name}, cut to 512, alone and as a pair`, async () => {
      const tokenizer = await loadTokenizer(golden(name));
      const { texts, items, pair } = expected(name);
      assert.equal(tokenizer.modelMaxLength, 512);
      const encoded = tokenizer.encodeBatch(texts, { maxLength: tokenizer.modelMaxLength });
      for (const [i, { ids, typeIds, truncated }] of encoded.entries()) {
        assert.deepEqual(ids, items[i].input_ids, texts[i].slice(0, 80));
        assert.ok(typeIds.every((id) => id === 0));
        assert.equal(truncated, false);
      }
      // two of the longest text are too much: the first 510 ids are kept, in their wrapper
      const twice = `${texts.at(-1)} ${texts.at(-1)}`;
      const cut = tokenizer.encode(twice, { maxLength: 512 });
      assert.equal(cut.truncated, true);
      assert.deepEqual(cut.ids, [...tokenizer.encode(twice).ids.slice(0, 511), tokenizer.specialIds.sep]);
      const { ids, typeIds } = tokenizer.encode(pair.text, { pair: pair.text_pair });
      assert.deepEqual(ids, pair.input_ids);
      const first = pair.input_ids.indexOf(tokenizer.specialIds.sep) + 1;
      assert.deepEqual(
        typeIds,
        ids.map((_, i) => (i < first ? 0 : 1)),
      );
    });
  }

  it("give the ids and the text of gpt2-tiny", async () => {
    const tokenizer = await loadTokenizer(golden("gpt2-tiny"));
    const { prompts, input_ids, generate } = expected("gpt2-tiny");
    assert.deepEqual(
      tokenizer.encodeBatch(prompts).map(({ ids }) => ids),
      input_ids,
    );
    for (const { new_ids, text } of generate) {
      assert.deepEqual(
        new_ids.map((ids: number[]) => tokenizer.decode(ids)),
        text,
      );
    }
    assert.equal(tokenizer.modelMaxLength, Number.POSITIVE_INFINITY);
    assert.equal(tokenizer.vocabSize, 802);
    assert.deepEqual(tokenizer.specialIds, {
      bos: 800,
      eos: 0,
      unk: 0,
      pad: 801,
      cls: undefined,
      sep: undefined,
      mask: undefined,
    });
  });

  it("give the ids of roberta-tiny", async () => {
    const tokenizer = await loadTokenizer(golden("roberta-tiny"));
    const { candidates, hidden } = expected("roberta-tiny");
    for (const [i, { input_ids }] of hidden.entries()) {
      assert.deepEqual(tokenizer.encode(candidates[i].trim()).ids, input_ids);
    }
  });

  it("give what the README says", async () => {
    const example = await runReadmeExample("lib/tokenizer");
    assert.deepEqual((example.pieces as string[]).join(" "), "<s> T he Ġcall Ġis Ġre </s>");
    assert.equal(example.text, "The call is re");
    assert.deepEqual(example.again, example.ids);
    assert.equal(example.truncated, true);
  });
});
