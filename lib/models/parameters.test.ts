import assert from "node:assert/strict";
import { openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { parseModelConfig } from "./config.js";
import { initParameters } from "./init.js";
import { parameterCount, parameterSpecs } from "./parameters.js";

const folder = (name: string) => join(packageRoot(), "test/golden", name);
const config = (name: string) =>
  parseModelConfig(JSON.parse(readFileSync(join(folder(name), "config.json"), "utf8")));

/** Names and shapes in a safetensors file, from its header alone. */
function headerShapes(name: string): Record<string, number[]> {
  const file = openSync(join(folder(name), "model.safetensors"), "r");
  const length = Buffer.alloc(8);
  readSync(file, length, 0, 8, 0);
  const header = Buffer.alloc(Number(length.readBigUInt64LE()));
  readSync(file, header, 0, header.length, 8);
  const entries = Object.entries(JSON.parse(header.toString("utf8")) as Record<string, { shape: number[] }>);
  return Object.fromEntries(
    entries.filter(([key]) => key !== "__metadata__").map(([key, value]) => [key, value.shape]),
  );
}

describe("parameterSpecs", () => {
  for (const name of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
    it(`lists exactly the tensors of ${name}`, () => {
      const specs = parameterSpecs(config(name), "sequence-classification");
      assert.deepEqual(Object.fromEntries(specs.map((s) => [s.name, s.shape])), headerShapes(name));
    });
  }

  it("lists the encoder of roberta-tiny with its prefix and without a pooler", () => {
    const specs = parameterSpecs(config("roberta-tiny"), "encoder");
    const stored = Object.entries(headerShapes("roberta-tiny")).filter(([key]) => !key.startsWith("pooler."));
    assert.deepEqual(
      Object.fromEntries(specs.map((s) => [s.name, s.shape])),
      Object.fromEntries(stored.map(([key, shape]) => [`roberta.${key}`, shape])),
    );
  });

  it("lists exactly the tensors of gpt2-tiny, and TRL's value head on demand", () => {
    const names = (task: "causal-lm" | "causal-lm-with-value") =>
      parameterSpecs(config("gpt2-tiny"), task).map((s) => s.name);
    assert.deepEqual(names("causal-lm").sort(), Object.keys(headerShapes("gpt2-tiny")).sort());
    assert.deepEqual(names("causal-lm-with-value").slice(-2), [
      "v_head.summary.weight",
      "v_head.summary.bias",
    ]);
  });

  it("counts the scalars of the published sizes", () => {
    const count = (json: object, task: "encoder" | "causal-lm") =>
      parameterCount(parameterSpecs(parseModelConfig(json), task));
    assert.equal(count({ model_type: "gpt2" }, "causal-lm"), 124_439_808);
    assert.equal(count({ model_type: "bert" }, "encoder"), 109_482_240 - (768 * 768 + 768)); // without the pooler
    assert.equal(count({ model_type: "distilbert" }, "encoder"), 66_362_880);
  });

  it("refuses a task that the family has no head for", () => {
    assert.throws(
      () => parameterSpecs(parseModelConfig({ model_type: "gpt2" }), "sequence-classification"),
      /encoder family/,
    );
    assert.throws(
      () => parameterSpecs(parseModelConfig({ model_type: "bert" }), "causal-lm"),
      /"gpt2" for causal-lm/,
    );
  });
});

describe("initParameters", () => {
  const specs = parameterSpecs(
    parseModelConfig({
      model_type: "roberta",
      vocab_size: 500,
      hidden_size: 64,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      intermediate_size: 128,
      max_position_embeddings: 40,
    }),
    "sequence-classification",
  );

  it("gives the same weights for the same seed, and others for another", () => {
    const name = "roberta.encoder.layer.0.output.dense.weight";
    const first = initParameters(specs, 7).get(name)!;
    assert.deepEqual(initParameters([...specs].reverse(), 7).get(name), first);
    assert.notDeepEqual(initParameters(specs, 8).get(name), first);
  });

  it("follows transformers' distributions", () => {
    const tensors = initParameters(specs, 1);
    const words = tensors.get("roberta.embeddings.word_embeddings.weight")!;
    const mean = words.reduce((sum, x) => sum + x, 0) / words.length;
    const std = Math.sqrt(words.reduce((sum, x) => sum + (x - mean) ** 2, 0) / words.length);
    assert.ok(Math.abs(mean) < 5e-4 && Math.abs(std - 0.02) < 5e-4, `mean ${mean}, std ${std}`);
    assert.ok(words.subarray(64, 128).every((x) => x === 0)); // row 1 is the pad token
    assert.ok(tensors.get("roberta.embeddings.LayerNorm.weight")!.every((x) => x === 1));
    assert.ok(tensors.get("classifier.dense.bias")!.every((x) => x === 0));
  });

  it("scales GPT-2's residual projections with depth and bounds the value head", () => {
    const gpt2 = parseModelConfig({ model_type: "gpt2", n_embd: 64, n_layer: 8, n_head: 4, vocab_size: 50 });
    const tensors = initParameters(parameterSpecs(gpt2, "causal-lm-with-value"), 3);
    const weights = tensors.get("transformer.h.5.mlp.c_proj.weight")!;
    const std = Math.sqrt(weights.reduce((sum, x) => sum + x * x, 0) / weights.length);
    assert.ok(Math.abs(std - 0.005) < 2e-4, `${std}`); // 0.02 / sqrt(16)
    assert.ok(tensors.get("v_head.summary.weight")!.every((x) => Math.abs(x) <= 1 / 8));
  });

  it("fills DistilBERT's position table with sinusoids where the config says so", () => {
    const json = {
      model_type: "distilbert",
      dim: 8,
      n_heads: 2,
      hidden_dim: 16,
      vocab_size: 9,
      max_position_embeddings: 4,
      n_layers: 1,
    };
    const table = (extra: object) =>
      initParameters(parameterSpecs(parseModelConfig({ ...json, ...extra }), "encoder"), 1).get(
        "distilbert.embeddings.position_embeddings.weight",
      )!;
    const sines = table({ sinusoidal_pos_embds: true });
    assert.ok(Math.abs(sines[8] - Math.sin(1)) < 1e-6 && Math.abs(sines[9] - Math.cos(1)) < 1e-6);
    assert.ok(Math.abs(sines[2 * 8 + 2] - Math.sin(2 / 10)) < 1e-6);
    assert.notDeepEqual(table({}), sines);
  });
});
