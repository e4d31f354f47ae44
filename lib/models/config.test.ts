import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { maxTokens, parseEncoderConfig, parseModelConfig } from "./config.js";
import { ModelConfigError } from "./errors.js";

const golden = (folder: string) =>
  JSON.parse(readFileSync(join(packageRoot(), "test/golden", folder, "config.json"), "utf8"));

describe("parseModelConfig", () => {
  it("reads each family into the same words", () => {
    const bert = parseModelConfig(golden("bert-tiny-classifier"));
    assert.equal(bert.modelType, "bert");
    assert.deepEqual([bert.hiddenSize, bert.layers, bert.heads, bert.innerSize], [32, 2, 4, 128]);
    assert.deepEqual(bert.labels, ["LABEL_0", "LABEL_1"]);

    const distil = parseModelConfig(golden("distilbert-tiny-classifier"));
    assert.deepEqual([distil.hiddenSize, distil.layers, distil.heads, distil.innerSize], [32, 2, 4, 128]);
    assert.deepEqual(distil.labels, ["LABEL_0", "LABEL_1", "LABEL_2"]);

    const gpt2 = parseModelConfig(golden("gpt2-tiny"));
    assert.equal(gpt2.modelType, "gpt2");
    assert.equal(gpt2.innerSize, 4 * gpt2.hiddenSize);
  });

  it("takes transformers' class defaults for absent and null keys", () => {
    const bert = parseModelConfig({ model_type: "bert", hidden_size: null });
    assert.deepEqual([bert.hiddenSize, bert.layers, bert.heads, bert.innerSize], [768, 12, 12, 3072]);
    assert.deepEqual([bert.vocabSize, bert.positions, bert.layerNormEps], [30522, 512, 1e-12]);
    const roberta = parseModelConfig({ model_type: "roberta" });
    assert.deepEqual([roberta.padTokenId, roberta.bosTokenId, roberta.eosTokenIds], [1, 0, [2]]);
    const distil = parseModelConfig({ model_type: "distilbert" });
    assert.deepEqual([distil.layers, distil.padTokenId], [6, 0]);
    const gpt2 = parseModelConfig({ model_type: "gpt2" });
    assert.deepEqual(
      [gpt2.positions, gpt2.innerSize, gpt2.activation, gpt2.vocabSize],
      [1024, 3072, "gelu_new", 50257],
    );
    assert.deepEqual([gpt2.bosTokenId, gpt2.eosTokenIds], [50256, [50256]]);
  });

  it("accepts transformers' aliases", () => {
    const gpt2 = parseModelConfig({
      model_type: "gpt2",
      hidden_size: 24,
      num_hidden_layers: 3,
      num_attention_heads: 2,
    });
    assert.deepEqual([gpt2.hiddenSize, gpt2.layers, gpt2.heads], [24, 3, 2]);
    const distil = parseModelConfig({
      model_type: "distilbert",
      hidden_size: 24,
      num_hidden_layers: 3,
      num_attention_heads: 2,
    });
    assert.deepEqual([distil.hiddenSize, distil.layers, distil.heads], [24, 3, 2]);
  });

  it("keeps DistilBERT's fixed LayerNorm epsilon whatever the file says", () => {
    assert.equal(parseModelConfig({ model_type: "distilbert", layer_norm_eps: 0.1 }).layerNormEps, 1e-12);
  });

  it("orders labels by their number, not as strings", () => {
    const id2label = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [String(i), `l${i}`]).reverse());
    assert.equal(parseModelConfig({ model_type: "bert", id2label }).labels[10], "l10");
  });

  it("counts RoBERTa's capacity from behind the pad id", () => {
    assert.equal(maxTokens(parseModelConfig({ model_type: "roberta", max_position_embeddings: 514 })), 512);
    assert.equal(maxTokens(parseModelConfig({ model_type: "bert" })), 512);
  });

  const refused: [string, object, RegExp][] = [
    ["an unknown family", { model_type: "t5" }, /model_type: expected one of "gpt2", "bert", .* got "t5"/],
    ["no family", {}, /model_type: .*got nothing/],
    [
      "relative positions",
      { model_type: "bert", position_embedding_type: "relative_key" },
      /position_embedding_type: expected "absolute", got "relative_key"/,
    ],
    [
      "an unknown activation",
      { model_type: "bert", hidden_act: "mish" },
      /hidden_act: expected one of .*got "mish"/,
    ],
    [
      "cross attention",
      { model_type: "gpt2", add_cross_attention: true },
      /add_cross_attention: expected false/,
    ],
    ["a decoder made of BERT", { model_type: "bert", is_decoder: true }, /is_decoder/],
    [
      "heads that do not divide the width",
      { model_type: "bert", hidden_size: 30, num_attention_heads: 4 },
      /num_attention_heads: expected a divisor of the hidden size 30, got 4/,
    ],
    [
      "a width that is not a number",
      { model_type: "roberta", hidden_size: "768" },
      /hidden_size: .*got "768"/,
    ],
    [
      "a width of 0",
      { model_type: "distilbert", dim: 0 },
      /dim: expected a whole number of at least 1 and at most 2147483647, got 0/,
    ],
    [
      "more layers than memory holds",
      { model_type: "gpt2", n_layer: 1e9 },
      /n_layer: expected a whole number of at least 1 and at most 1000, got 1000000000/,
    ],
    [
      "more labels than memory holds",
      { model_type: "bert", num_labels: 1e9 },
      /num_labels: .*at most 100000/,
    ],
    ["labels with a hole", { model_type: "bert", id2label: { 0: "a", 2: "b" } }, /id2label/],
    [
      "an unknown problem type",
      { model_type: "bert", problem_type: "ranking" },
      /problem_type: .*"regression"/,
    ],
    [
      "a RoBERTa without room for a token",
      { model_type: "roberta", max_position_embeddings: 2 },
      /max_position_embeddings/,
    ],
  ];
  for (const [name, json, message] of refused) {
    it(`refuses ${name}, naming the key`, () => {
      assert.throws(
        () => parseModelConfig(json),
        (error) => error instanceof ModelConfigError && message.test(error.message),
      );
    });
  }

  it("refuses what is not an object, and GPT-2 where an encoder is needed", () => {
    assert.throws(() => parseModelConfig([]), /expected a JSON object/);
    assert.throws(() => parseModelConfig(null), ModelConfigError);
    assert.throws(() => parseEncoderConfig({ model_type: "gpt2" }), /"bert", "roberta", "distilbert"/);
  });
});
