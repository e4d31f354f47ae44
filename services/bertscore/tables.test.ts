import assert from "node:assert/strict";
import { parseBaseline, publishedBaseline, rescale } from "./baselines.js";
import { scoreHash } from "./hash.js";
import { defaultLayer, MODEL_LAYERS, modelForLanguage } from "./layers.js";
import { pythonStrip, startsWithPythonSpace } from "./python-strip.js";

describe("the layer and language tables", () => {
  it("hold bert_score's 140 models", () => {
    assert.equal(Object.keys(MODEL_LAYERS).length, 140);
    assert.equal(defaultLayer("roberta-large"), 17);
    assert.equal(defaultLayer("amazon/bort"), 0);
    assert.equal(defaultLayer("my/model"), undefined);
    assert.equal(defaultLayer("toString"), undefined);
  });

  it("fall back to the multilingual model", () => {
    assert.equal(modelForLanguage("EN"), "roberta-large");
    assert.equal(modelForLanguage("en-sci"), "allenai/scibert_scivocab_uncased");
    assert.equal(modelForLanguage("fi"), "bert-base-multilingual-cased");
  });
});

describe("baseline rescaling", () => {
  it("has one published row for every layer", () => {
    assert.equal(publishedBaseline("en", "roberta-large")?.length, 25);
    assert.equal(publishedBaseline("en", "distilbert-base-uncased")?.length, 7);
    assert.equal(publishedBaseline("fi", "roberta-large"), undefined);
  });

  it("reproduces upstream's rescaled roberta-large scores from its raw ones", () => {
    const row = publishedBaseline("en", "roberta-large")?.[17];
    assert.ok(row);
    const rescaled = rescale({ precision: 0.98433, recall: 0.982384, f1: 0.983356 }, row);
    assert.ok(Math.abs(rescaled.precision - 0.907001) < 1e-5);
    assert.ok(Math.abs(rescaled.recall - 0.895457) < 1e-5);
    assert.ok(Math.abs(rescaled.f1 - 0.901383) < 1e-5);
  });

  it("reads a file by row position and refuses what is not a number below 1", () => {
    assert.deepEqual(parseBaseline("LAYER,P,R,F\n7,0.1,0.2,0.3\n9,0.4,0.5,0.6\n", "b.tsv"), [
      [0.1, 0.2, 0.3],
      [0.4, 0.5, 0.6],
    ]);
    assert.throws(
      () => parseBaseline("LAYER,P,R,F\n0,0.1,,0.3\n", "b.tsv"),
      /b\.tsv row 0: .*got "0,0\.1,,0\.3"/,
    );
    assert.throws(() => parseBaseline("LAYER,P,R,F\n0,1,0.1,0.3\n", "b.tsv"), /row 0/);
    assert.throws(() => parseBaseline("LAYER,P,R,F\n", "b.tsv"), /expected a header and one row a layer/);
  });
});

describe("the hash string", () => {
  it("has bert_score's shape and our name", () => {
    const facts = { model: "roberta-large", layer: 17, idf: false, version: "0.1.0" };
    assert.equal(scoreHash(facts), "roberta-large_L17_no-idf_version=0.3.13(rlhf-mesh=0.1.0)");
    assert.equal(
      scoreHash({ ...facts, idf: true, rescaled: "custom", prefixSpace: false }),
      "roberta-large_L17_idf_version=0.3.13(rlhf-mesh=0.1.0)-custom-rescaled_fast-tokenizer",
    );
    assert.ok(scoreHash({ ...facts, rescaled: "published" }).endsWith(")-rescaled"));
  });
});

describe("Python's strip", () => {
  it("removes the separators that trim keeps, and keeps the BOM that trim removes", () => {
    assert.equal(pythonStrip("\x1c\x85 a b\x1f\n"), "a b");
    assert.equal(pythonStrip("\ufeffa\ufeff"), "\ufeffa\ufeff");
    assert.equal(pythonStrip("\u3000\u2009"), "");
    assert.equal(pythonStrip("\u200ba"), "\u200ba");
  });

  it("knows a leading space", () => {
    assert.equal(startsWithPythonSpace("\x1cx"), true);
    assert.equal(startsWithPythonSpace("\ufeffx"), false);
    assert.equal(startsWithPythonSpace(""), false);
  });
});
