import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { packageRoot } from "../config/package-root.js";
import { CheckpointError } from "./errors.js";
import { loadCheckpoint } from "./load.js";
import { PickleError, readTensorPickle } from "./pickle.js";
import { TorchFile } from "./pytorch-bin.js";

/**
 * Written by torch.save: the state_dict of a Linear(3, 2) with weight 0..5 and bias ±0.5, then views and
 * types:
 * `transposed` and `rows` of one 3 × 4 storage, half, bfloat16, double, int64, a scalar and an empty tensor.
 */
const fixture = join(packageRoot(), "lib/checkpoint/fixtures/pytorch_model.bin");

async function read(path: string): Promise<Record<string, number[] | string>> {
  const file = await TorchFile.open(path);
  try {
    const out: Record<string, number[] | string> = {};
    for (const [name, { dtype }] of file.shapes)
      out[name] = dtype === "I64" ? dtype : [...(await file.readFloat32(name))];
    return out;
  } finally {
    await file.close();
  }
}

describe("pytorch_model.bin", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "torch-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  it("is read with its views, strides and types", async () => {
    assert.deepEqual(await read(fixture), {
      weight: [0, 1, 2, 3, 4, 5],
      bias: [0.5, -0.5],
      transposed: [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
      rows: [4, 5, 6, 7, 8, 9, 10, 11],
      half: [1.5, -2, 65504, 2 ** -24],
      bfloat: [1.5, -2],
      double: [Math.fround(1 / 3)],
      ids: "I64",
      scalar: [7],
      empty: [],
    });
  });

  it("is loaded from a model directory that has no safetensors", async () => {
    copyFileSync(fixture, join(folder, "pytorch_model.bin"));
    writeFileSync(join(folder, "config.json"), "{}");
    const { tensors } = await loadCheckpoint(folder, [{ name: "transposed", shape: [4, 3] }]);
    assert.equal(tensors.get("transposed")!.length, 12);
    await assert.rejects(
      loadCheckpoint(folder, [{ name: "ids", shape: [4] }]),
      /tensor ids: expected float, .* found I64/,
    );
    writeFileSync(
      join(folder, "pytorch_model.bin.index.json"),
      JSON.stringify({ weight_map: { weight: "part.bin" } }),
    );
    copyFileSync(fixture, join(folder, "part.bin"));
    rmSync(join(folder, "pytorch_model.bin"));
    assert.deepEqual(
      [...(await loadCheckpoint(folder, [{ name: "weight", shape: [2, 3] }])).tensors.get("weight")!],
      [0, 1, 2, 3, 4, 5],
    );
  });

  it("is refused when it would run code", () => {
    const pickle = (text: string) => readTensorPickle(Buffer.from(text, "latin1"));
    // os.system("true"), as a hostile file would spell it
    assert.throws(
      () => pickle("\x80\x02}X\x01\0\0\0acposix\nsystem\nX\x04\0\0\0true\x85Rs."),
      /global posix.system, which is not allowed/,
    );
    assert.throws(() => pickle("\x80\x02cbuiltins\neval\n."), PickleError);
    assert.throws(() => pickle("\x80\x02(cos\nsystem\no."), PickleError);
    assert.throws(() => pickle("\x80\x05}."), /protocol over 4/);
    assert.throws(() => pickle("\x80\x02K\x01."), /expected a dictionary/);
    assert.throws(() => pickle("\x80\x02}q"), /ends too early/);
    assert.throws(() => pickle("\x80\x02h\x01."), /memo slot 1/);
    assert.throws(() => pickle("\x80\x02."), /empty stack/);
    assert.equal(pickle("\x80\x02}X\x01\0\0\0aK\x01s.").size, 0);
  });

  it("is refused with advice when PyTorch before 1.6 wrote it, and when it is missing", async () => {
    const old = join(folder, "old.bin");
    writeFileSync(old, Buffer.from("\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "latin1"));
    await assert.rejects(TorchFile.open(old), /expected a ZIP archive as PyTorch 1.6 .* save it again/);
    await assert.rejects(TorchFile.open(join(folder, "none.bin")), /found no such file/);
  });

  it("meets mutated files with a CheckpointError or tensors, nothing else", async () => {
    const sound = readFileSync(fixture);
    const path = join(folder, "mutated.bin");
    const edits = fc.array(fc.tuple(fc.nat(sound.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(edits, fc.option(fc.nat(sound.length)), async (changes, length) => {
        const bytes = Buffer.from(sound);
        for (const [at, byte] of changes) bytes[at] = byte;
        writeFileSync(path, bytes.subarray(0, length ?? undefined));
        await read(path).catch((error: unknown) =>
          assert.ok(error instanceof CheckpointError, String(error)),
        );
      }),
      { numRuns: 300 },
    );
  });
});
