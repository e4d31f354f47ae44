import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { weightsDigest } from "./digest.js";
import { CheckpointError } from "./errors.js";
import { loadCheckpoint } from "./load.js";
import { type HostTensor, readSafetensors, writeSafetensors } from "./safetensors.js";
import type { TensorSpec } from "./state-dict.js";

const golden = (name: string) => join(packageRoot(), "test/golden", name);

/** A float32 tensor whose elements count up from `first`. */
function counting(shape: number[], first = 0): HostTensor {
  const length = shape.reduce((a, b) => a * b, 1);
  return { dtype: "F32", shape, data: Float32Array.from({ length }, (_, i) => first + i) };
}

describe("loadCheckpoint", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "checkpoint-"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  async function model(
    modelType: string,
    tensors: Record<string, HostTensor>,
    config: object = {},
  ): Promise<void> {
    writeFileSync(join(dir, "config.json"), JSON.stringify({ model_type: modelType, ...config }));
    await writeSafetensors(join(dir, "model.safetensors"), new Map(Object.entries(tensors)));
  }
  const load = (specs: TensorSpec[], optional: string[] = []) => loadCheckpoint(dir, specs, { optional });
  const refuses = (specs: TensorSpec[], message: RegExp) =>
    assert.rejects(load(specs), (error: unknown) => {
      assert.ok(error instanceof CheckpointError, String(error));
      assert.match(error.message, message);
      return true;
    });

  it("loads the golden models, prefixed or not, and digests them alike", async () => {
    for (const name of ["gpt2-tiny", "bert-tiny-classifier", "distilbert-tiny-classifier", "roberta-tiny"]) {
      const { tensors: raw } = await readSafetensors(join(golden(name), "model.safetensors"));
      const prefix = name === "roberta-tiny" ? "roberta." : "";
      const specs = [...raw].map(([stored, { shape }]) => ({ name: prefix + stored, shape }));
      const checkpoint = await loadCheckpoint(golden(name), specs);
      assert.deepEqual(
        [...checkpoint.tensors.keys()],
        specs.map((spec) => spec.name),
      );
      assert.equal(checkpoint.weightVersion, 0);
      assert.deepEqual(checkpoint.unused, []);
      for (const [stored, { data }] of raw) {
        const loaded = checkpoint.tensors.get(prefix + stored)!;
        assert.ok(Buffer.from(loaded.buffer).equals(data as Uint8Array), stored);
        assert.equal(loaded.buffer.byteLength, loaded.byteLength);
      }
      const shaped = new Map(
        specs.map(({ name, shape }) => [name, { shape, data: checkpoint.tensors.get(name)! }]),
      );
      assert.equal(checkpoint.digest, await weightsDigest(shaped));
    }
  });

  it("takes the specs from the config, and gives both configs back", async () => {
    const checkpoint = await loadCheckpoint(golden("gpt2-tiny"), (config) => [
      { name: "transformer.wte.weight", shape: [config.vocab_size as number, config.n_embd as number] },
    ]);
    assert.equal(checkpoint.config.n_layer, 2);
    assert.equal(checkpoint.generationConfig?._from_model_config, true);
    assert.ok(checkpoint.unused.includes("transformer.wpe.weight"));
  });

  it("reads a base model's file for a task model, with the head beside it", async () => {
    await model("gpt2", { "wte.weight": counting([3, 2]), "v_head.summary.weight": counting([1, 2]) });
    const { tensors } = await load([
      { name: "transformer.wte.weight", shape: [3, 2] },
      { name: "v_head.summary.weight", shape: [1, 2] },
    ]);
    assert.deepEqual([...tensors.get("transformer.wte.weight")!], [0, 1, 2, 3, 4, 5]);
  });

  it("renames the legacy LayerNorm names and passes over buffers and other heads", async () => {
    await model("bert", {
      "bert.embeddings.LayerNorm.gamma": counting([2], 5),
      "bert.embeddings.LayerNorm.beta": counting([2], 7),
      "bert.embeddings.position_ids": { dtype: "I64", shape: [1, 2], data: new BigInt64Array(2) },
      "cls.predictions.bias": counting([4]),
      "bert.gamma.extra": counting([1]),
    });
    const { tensors, unused } = await load([
      { name: "bert.embeddings.LayerNorm.weight", shape: [2] },
      { name: "bert.embeddings.LayerNorm.bias", shape: [2] },
    ]);
    assert.deepEqual([...tensors.get("bert.embeddings.LayerNorm.weight")!], [5, 6]);
    assert.deepEqual([...tensors.get("bert.embeddings.LayerNorm.bias")!], [7, 8]);
    assert.deepEqual(unused, ["bert.gamma.extra"]);
  });

  it("ignores the causal mask buffer but not the attention biases", async () => {
    await model("gpt2", {
      "transformer.h.0.attn.bias": { dtype: "BOOL", shape: [1, 1, 2, 2], data: new Uint8Array(4) },
      "transformer.h.0.attn.c_attn.bias": counting([6]),
    });
    const { unused } = await load([{ name: "transformer.h.0.attn.c_attn.bias", shape: [6] }]);
    assert.deepEqual(unused, []);
    await refuses(
      [{ name: "transformer.h.0.attn.bias", shape: [1, 1, 2, 2] }],
      /expected dtype F32.*found BOOL/,
    );
  });

  it("ties the output layer to the embedding unless the config says otherwise", async () => {
    await model("gpt2", { "transformer.wte.weight": counting([2, 2]) });
    const specs = [
      { name: "transformer.wte.weight", shape: [2, 2] },
      { name: "lm_head.weight", shape: [2, 2] },
    ];
    const { tensors } = await load(specs);
    assert.deepEqual(tensors.get("lm_head.weight"), tensors.get("transformer.wte.weight"));
    assert.notEqual(tensors.get("lm_head.weight")!.buffer, tensors.get("transformer.wte.weight")!.buffer);
    await model("gpt2", { "transformer.wte.weight": counting([2, 2]) }, { tie_word_embeddings: false });
    await refuses(specs, /tensor lm_head.weight: expected a tensor of shape \[2,2\], found no tensor/);
  });

  it("leaves out what may be absent, and names the first of what may not", async () => {
    await model("gpt2", { "transformer.wte.weight": counting([2, 2]) });
    const specs = [
      { name: "transformer.wte.weight", shape: [2, 2] },
      { name: "v_head.summary.weight", shape: [1, 2] },
      { name: "v_head.summary.bias", shape: [1] },
    ];
    assert.equal((await load(specs, ["v_head."])).tensors.size, 1);
    assert.equal((await load(specs.map((spec) => ({ ...spec, optional: true })))).tensors.size, 1);
    await refuses(
      specs,
      /tensor v_head.summary.weight: .* found no tensor of that name among 1 \(and 1 more are missing\)/,
    );
  });

  it("widens F16, BF16 and F64", async () => {
    await model("gpt2", {
      "transformer.a": { dtype: "F16", shape: [2], data: Uint16Array.of(0x3e00, 0xc000) },
      "transformer.b": { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3fc0, 0xc000) },
      "transformer.c": { dtype: "F64", shape: [2], data: Float64Array.of(1.5, -2) },
    });
    const { tensors } = await load(
      ["a", "b", "c"].map((name) => ({ name: `transformer.${name}`, shape: [2] })),
    );
    for (const data of tensors.values()) assert.deepEqual([...data], [1.5, -2]);
  });

  it("names wrong shapes, wrong types and rival names", async () => {
    await model("bert", {
      "bert.x": counting([2, 3]),
      "bert.ids": { dtype: "I64", shape: [1], data: new BigInt64Array(1) },
      "bert.LayerNorm.gamma": counting([1]),
    });
    await refuses(
      [{ name: "bert.x", shape: [3, 2] }],
      /tensor bert.x: expected shape \[3,2\], found \[2,3\]/,
    );
    await refuses([{ name: "bert.ids", shape: [1] }], /tensor bert.ids: expected dtype F32.*found I64/);
    await model("bert", { "bert.LayerNorm.gamma": counting([1]), "bert.LayerNorm.weight": counting([1]) });
    await refuses([{ name: "bert.LayerNorm.weight", shape: [1] }], /expected one tensor, found both/);
  });

  it("reads shards, and names those that do not keep their index's promise", async () => {
    cpSync(golden("gpt2-tiny"), dir, { recursive: true });
    const { tensors } = await readSafetensors(join(dir, "model.safetensors"));
    const whole = await load([...tensors].map(([name, { shape }]) => ({ name, shape })));
    rmSync(join(dir, "model.safetensors"));
    const names = [...tensors.keys()];
    const weight_map: Record<string, string> = {};
    for (const part of [0, 1]) {
      const shard = `model-0000${part + 1}-of-00002.safetensors`;
      const mine = names.filter((_, i) => i % 2 === part);
      for (const name of mine) weight_map[name] = shard;
      await writeSafetensors(join(dir, shard), new Map(mine.map((name) => [name, tensors.get(name)!])));
    }
    const index = (map: object) =>
      writeFileSync(join(dir, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
    const specs = names.map((name) => ({ name, shape: tensors.get(name)!.shape }));
    index(weight_map);
    assert.equal((await load(specs)).digest, whole.digest);
    index({ ...weight_map, "transformer.more": "model-00001-of-00002.safetensors" });
    await refuses(
      specs,
      /model-00001-of-00002.safetensors: tensor transformer.more: .* found no such tensor/,
    );
    index({ ...weight_map, "transformer.more": "../elsewhere.safetensors" });
    await refuses(specs, /expected the name of a file in the same folder, found "..\/elsewhere/);
    index({ ...weight_map, "transformer.more": "none.safetensors" });
    await refuses(specs, /none.safetensors: expected a readable file, found no such file/);
    index({});
    await refuses(specs, /weight_map/);
  });

  it("names missing directories, configs and weights", async () => {
    await assert.rejects(
      loadCheckpoint(join(dir, "none"), []),
      /none: expected a model directory, found nothing/,
    );
    await refuses([], /config.json: expected a model's config, found no such file/);
    writeFileSync(join(dir, "config.json"), "{");
    await refuses([], /config.json: expected valid JSON/);
    writeFileSync(join(dir, "config.json"), "[]");
    await refuses([], /config.json: expected a JSON object, found an array/);
    writeFileSync(join(dir, "config.json"), "{}");
    await refuses([], /expected model.safetensors, .* found none of them/);
    mkdirSync(join(dir, "model.safetensors"));
    await refuses([], /model.safetensors: expected a readable file, found something that is no file/);
  });

  it("notices weights that changed since their digest was taken", async () => {
    const metadata = { "rlhf.weights_digest": "0".repeat(64), "rlhf.weight_version": "4" };
    writeFileSync(join(dir, "config.json"), '{"model_type":"gpt2"}');
    const path = join(dir, "model.safetensors");
    await writeSafetensors(path, new Map([["transformer.a", counting([2])]]), metadata);
    await refuses([{ name: "transformer.a", shape: [2] }], /expected weights of digest 0000/);
    await writeSafetensors(path, new Map([["transformer.a", counting([2])]]), { "rlhf.weight_version": "x" });
    await refuses(
      [{ name: "transformer.a", shape: [2] }],
      /rlhf.weight_version to be a whole number, found "x"/,
    );
  });

  it("fails, and nothing else, on a file cut at any place", async () => {
    await model("gpt2", { "transformer.a": counting([8]), "transformer.b": counting([3]) });
    const path = join(dir, "model.safetensors");
    const bytes = readFileSync(path);
    for (let length = 0; length < bytes.length; length += 7) {
      writeFileSync(path, bytes.subarray(0, length));
      await refuses([{ name: "transformer.a", shape: [8] }], /expected/);
    }
  });
});
