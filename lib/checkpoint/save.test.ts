import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import { weightsDigest } from "./digest.js";
import { CheckpointWriteError } from "./errors.js";
import { loadCheckpoint } from "./load.js";
import { replaceDirectory } from "./replace-directory.js";
import { readSafetensors } from "./safetensors.js";
import { saveCheckpoint } from "./save.js";
import { TurnCounter } from "./testing.js";

const gpt2 = join(packageRoot(), "test/golden/gpt2-tiny");

describe("saveCheckpoint", () => {
  let parent: string;
  let dir: string;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), "save-"));
    dir = join(parent, "model");
  });
  afterEach(() => rmSync(parent, { recursive: true }));

  const specs = [
    { name: "transformer.wte.weight", shape: [2, 2] },
    { name: "v_head.summary.bias", shape: [1] },
  ];
  const tensors = (first: number) =>
    new Map([
      ["transformer.wte.weight", { shape: [2, 2], data: Float32Array.of(first, 1, 2, 3) }],
      ["v_head.summary.bias", { shape: [1], data: Float32Array.of(0.5) }],
    ]);
  const save = (first: number, weightVersion: number) =>
    saveCheckpoint(dir, {
      config: { model_type: "gpt2", dtype: "float16" },
      tensors: tensors(first),
      weightVersion,
    });

  it("keeps weights, version, digest, configs and tokenizer", async () => {
    const { digest } = await saveCheckpoint(dir, {
      config: { model_type: "gpt2" },
      generationConfig: { max_new_tokens: 7 },
      tensors: tensors(9),
      weightVersion: 12,
      tokenizerFrom: gpt2,
      files: { "notes.txt": "kept", "extra.json": { a: 1 } },
    });
    assert.equal(digest, await weightsDigest(tensors(9)));
    const checkpoint = await loadCheckpoint(dir, specs);
    assert.deepEqual([...checkpoint.tensors.get("transformer.wte.weight")!], [9, 1, 2, 3]);
    assert.equal(checkpoint.weightVersion, 12);
    assert.equal(checkpoint.digest, digest);
    assert.deepEqual(checkpoint.config, { model_type: "gpt2", torch_dtype: "float32" });
    assert.deepEqual(checkpoint.generationConfig, { max_new_tokens: 7 });
    const files = ["config.json", "extra.json", "generation_config.json", "merges.txt", "model.safetensors"];
    const more = ["notes.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"];
    assert.deepEqual(readdirSync(dir).sort(), [...files, ...more]);
    const { metadata } = await readSafetensors(join(dir, "model.safetensors"));
    assert.deepEqual(
      { ...metadata },
      { format: "pt", "rlhf.weight_version": "12", "rlhf.weights_digest": digest },
    );
  });

  it("replaces what was there, file by file and as a whole", async () => {
    await save(1, 1);
    writeFileSync(join(dir, "left-over"), "");
    await save(2, 2);
    assert.deepEqual(readdirSync(dir).sort(), ["config.json", "model.safetensors"]);
    assert.deepEqual(readdirSync(parent), ["model"]);
    const { weightVersion, config } = await loadCheckpoint(dir, specs);
    assert.equal(weightVersion, 2);
    assert.equal(config.dtype, "float32");
  });

  it("narrows to half types on request", async () => {
    for (const dtype of ["F16", "BF16"] as const) {
      await saveCheckpoint(dir, { config: { model_type: "gpt2" }, tensors: tensors(1.5), dtype });
      const { tensors: raw } = await readSafetensors(join(dir, "model.safetensors"));
      assert.equal(raw.get("transformer.wte.weight")!.dtype, dtype);
      const loaded = await loadCheckpoint(dir, specs);
      assert.deepEqual([...loaded.tensors.get("transformer.wte.weight")!], [1.5, 1, 2, 3]);
    }
  });

  it("leaves the old checkpoint when the disk is full", async () => {
    await save(1, 1);
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), {
      code: "ENOSPC",
      syscall: "write",
    });
    const saving = replaceDirectory(dir, async (folder) => {
      writeFileSync(join(folder, "half"), "written");
      throw full;
    });
    await assert.rejects(saving, (error: unknown) => {
      assert.ok(error instanceof CheckpointWriteError);
      assert.equal(error.code, "CHECKPOINT_WRITE_FAILED");
      assert.equal(error.cause, full);
      assert.match(error.message, /model: could not be written, what was there before is kept: ENOSPC/);
      return true;
    });
    assert.deepEqual(readdirSync(parent), ["model"]);
    assert.equal((await loadCheckpoint(dir, specs)).weightVersion, 1);
  });

  it("says so when there is no place to write, or the tokenizer is missing", async () => {
    writeFileSync(join(parent, "file"), "");
    const content = { config: {}, tensors: tensors(1) };
    await assert.rejects(saveCheckpoint(join(parent, "file", "model"), content), CheckpointWriteError);
    await assert.rejects(
      saveCheckpoint(dir, { ...content, tokenizerFrom: join(parent, "none") }),
      /no tokenizer directory/,
    );
    await assert.rejects(saveCheckpoint(dir, { ...content, weightVersion: -1 }), /weightVersion/);
    await assert.rejects(saveCheckpoint(dir, { ...content, files: { "../x": "" } }), /not a plain file name/);
    const short = new Map([["transformer.a", { shape: [3], data: new Float32Array(2) }]]);
    await assert.rejects(
      saveCheckpoint(dir, { config: {}, tensors: short }),
      /expected 3 elements for \[3\], got 2/,
    );
    assert.deepEqual(readdirSync(parent), ["file"]);
  });

  it("is repaired after a crash between the two renames", async () => {
    await save(1, 1);
    renameSync(dir, join(parent, ".model.previous"));
    assert.equal((await loadCheckpoint(dir, specs)).weightVersion, 1);
    assert.ok(existsSync(dir) && !existsSync(join(parent, ".model.previous")));
  });

  it("clears away what a dead process left, but not what a living one writes", async () => {
    const dead = join(parent, ".model.tmp-999999999-ab");
    const living = join(parent, `.model.tmp-${process.ppid}-ab`);
    mkdirSync(dead);
    mkdirSync(living);
    await save(1, 1);
    assert.ok(!existsSync(dead) && existsSync(living));
  });

  it("lets the event loop turn while it digests, over large tensors and over many small ones", async () => {
    const MB = 1 << 20;
    for (const sizes of [[40], Array(40).fill(1)]) {
      const weights = sizes.map(
        (mb, i) => [`w${i}`, { shape: [mb, MB / 4], data: new Float32Array((mb * MB) / 4) }] as const,
      );
      const loop = new TurnCounter();
      await weightsDigest(new Map(weights));
      loop.stop();
      assert.ok(loop.turns >= 10, `${loop.turns} turns in ${sizes.length} tensors, 40 MB together`);
    }
  });

  it("digests by name and shape, whatever the order of the tensors", async () => {
    const reversed = new Map([...tensors(1)].reverse());
    assert.equal(await weightsDigest(reversed), await weightsDigest(tensors(1)));
    assert.notEqual(await weightsDigest(tensors(2)), await weightsDigest(tensors(1)));
    const flat = new Map([["a", { shape: [4], data: new Float32Array(4) }]]);
    const square = new Map([["a", { shape: [2, 2], data: new Float32Array(4) }]]);
    assert.notEqual(await weightsDigest(flat), await weightsDigest(square));
    // sha256 of the sixteen bytes rlhf-weights-v1\n: a set without tensors
    assert.equal(
      await weightsDigest(new Map()),
      "0837249067c86b1775ee2f7ca9af0e59d60ce72e4e0e5a9e41f395841113bd62",
    );
  });
});
