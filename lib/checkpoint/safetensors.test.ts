import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { packageRoot } from "../config/package-root.js";
import { DTYPE_BITS, type SafetensorsDtype } from "./dtypes.js";
import { CheckpointError, CheckpointWriteError } from "./errors.js";
import { decodeSafetensors, type HostTensor, readSafetensors, writeSafetensors } from "./safetensors.js";
import { encodeHeader } from "./safetensors-header.js";

const GOLDEN = ["gpt2-tiny", "bert-tiny-classifier", "roberta-tiny", "distilbert-tiny-classifier"];

describe("safetensors", () => {
  let folder: string;
  let path: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "safetensors-"));
    path = join(folder, "file.safetensors");
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const name of GOLDEN) {
    it(`writes ${name} byte for byte as Hugging Face wrote it`, async () => {
      const golden = join(packageRoot(), "test/golden", name, "model.safetensors");
      const { tensors, metadata } = await readSafetensors(golden);
      assert.deepEqual(metadata, { format: "pt" });
      await writeSafetensors(path, tensors);
      assert.ok(readFileSync(path).equals(readFileSync(golden)));
    });
  }

  it("gives every tensor an ArrayBuffer of its own", async () => {
    const { tensors } = await readSafetensors(join(packageRoot(), "test/golden/gpt2-tiny/model.safetensors"));
    for (const { data } of tensors.values()) assert.equal(data.buffer.byteLength, data.byteLength);
  });

  it("brings back whatever was written", async () => {
    const dtypes = (Object.keys(DTYPE_BITS) as SafetensorsDtype[]).filter(
      (dtype) => DTYPE_BITS[dtype] % 8 === 0,
    );
    const tensor = fc
      .record({
        dtype: fc.constantFrom(...dtypes),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
        fill: fc.nat(255),
      })
      .map(({ dtype, shape, fill }): HostTensor => {
        const bytes = (shape.reduce((a, b) => a * b, 1) * DTYPE_BITS[dtype]) / 8;
        return { dtype, shape, data: new Uint8Array(bytes).map((_, i) => fill + i) };
      });
    const file = fc.dictionary(
      fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__"),
      tensor,
      { maxKeys: 6, noNullPrototype: true },
    );
    await fc.assert(
      fc.asyncProperty(
        file,
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
        async (given, metadata) => {
          await writeSafetensors(path, new Map(Object.entries(given)), metadata);
          const back = await readSafetensors(path);
          assert.deepEqual({ ...back.metadata }, { format: "pt", ...metadata });
          assert.deepEqual(Object.fromEntries(back.tensors), { ...given });
          assert.equal(readFileSync(path).readBigUInt64LE(0) % 8n, 0n);
          assert.equal(decodeSafetensors(readFileSync(path)).tensors.size, back.tensors.size);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("orders wide types first, then by name, so that every tensor is aligned", () => {
    const outline = (dtype: SafetensorsDtype) => ({ dtype, shape: [3] });
    const { tensors } = encodeHeader(
      new Map([
        ["b", outline("U8")],
        ["10", outline("F32")],
        ["9", outline("F32")],
        ["z", outline("I64")],
      ]),
      {},
    );
    assert.deepEqual(
      tensors.map(({ name, begin }) => [name, begin]),
      [
        ["z", 0],
        ["10", 24],
        ["9", 36],
        ["b", 48],
      ],
    );
  });

  describe("names the damage of", () => {
    const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]) => ({
      dtype: "F32",
      shape,
      data_offsets: [begin, end],
    });
    const file = (header: unknown, data = 8): Buffer => {
      const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(json.length));
      return Buffer.concat([length, json, Buffer.alloc(data)]);
    };
    const withLength = (length: bigint) => {
      const bytes = file({ a: f32(0, 8) });
      bytes.writeBigUInt64LE(length);
      return bytes;
    };
    const cases: [string, Buffer, RegExp][] = [
      ["an empty file", Buffer.alloc(0), /expected at least 8 bytes, found 0 bytes/],
      ["a header longer than the file", withLength(5000n), /a header of 5000 bytes within the file/],
      [
        "an absurd header length",
        withLength(2n ** 63n),
        /at most 100000000 bytes, found 9223372036854775808/,
      ],
      ["bad JSON", file('{"a":'), /expected a header of valid JSON/],
      ["bytes that are not UTF-8", file("\xff").fill(0xff, 8, 9), /not UTF-8/],
      ["a header that is no object", file("[1]"), /expected a header object, found an array/],
      [
        "a name given twice",
        file(`{"a":${JSON.stringify(f32(0, 8))},"\\u0061":1}`),
        /tensor a: expected each name once/,
      ],
      [
        "a field given twice",
        file('{"a":{"dtype":"F32","dtype":"F32"}}'),
        /tensor a \(dtype\): expected each name once/,
      ],
      [
        "metadata that is no string",
        file({ __metadata__: { x: 1 } }, 0),
        /map strings to strings, found a number at "x"/,
      ],
      ["a tensor that is no object", file({ a: 3 }), /tensor a: expected an object .* found a number/],
      ["an unknown field", file({ a: { ...f32(0, 8), more: 1 } }), /tensor a: expected only dtype/],
      [
        "an unknown type",
        file({ a: { ...f32(0, 8), dtype: "F31" } }),
        /tensor a: expected a dtype of .* found "F31"/,
      ],
      [
        "a negative size",
        file({ a: f32(0, 8, [-2]) }),
        /tensor a: expected a shape of whole numbers, found \[-2\]/,
      ],
      ["a fractional size", file({ a: f32(0, 8, [1.5]) }), /tensor a: expected a shape of whole numbers/],
      ["a missing shape", file({ a: { dtype: "F32", data_offsets: [0, 8] } }), /tensor a: .* found nothing/],
      ["backward offsets", file({ a: f32(8, 0, [2]) }), /tensor a: expected data_offsets with end >= begin/],
      [
        "three offsets",
        file({ a: { dtype: "F32", shape: [2], data_offsets: [0, 4, 8] } }),
        /data_offsets \[begin, end\]/,
      ],
      [
        "a wrong size",
        file({ a: f32(0, 8, [3]) }),
        /tensor a: expected 12 bytes for F32 \[3\], found 8 bytes/,
      ],
      [
        "a size that overflows",
        file({ a: f32(0, 8, [2 ** 40, 2 ** 40]) }),
        /a size that is a number of bytes/,
      ],
      [
        "half a byte",
        file({ a: { dtype: "F4", shape: [1], data_offsets: [0, 1] } }),
        /a size that is a number of bytes/,
      ],
      ["overlapping tensors", file({ a: f32(0, 8), b: f32(4, 8) }), /tensor b: .* offset 4, which overlaps/],
      [
        "a gap",
        file({ a: f32(0, 4), b: f32(8, 12) }, 12),
        /tensor b: expected data at offset 4, .* leaves a gap/,
      ],
      ["a gap at the start", file({ a: f32(4, 8) }), /tensor a: expected data at offset 0/],
      ["offsets beyond the end", file({ a: f32(0, 4000) }), /tensor a: expected a file of .* \(truncated\)/],
      ["trailing bytes", file({ a: f32(0, 8) }, 9), /\(trailing bytes\)/],
    ];
    for (const [what, bytes, message] of cases) {
      it(what, async () => {
        writeFileSync(path, bytes);
        await assert.rejects(readSafetensors(path), (error: unknown) => {
          assert.ok(error instanceof CheckpointError, String(error));
          assert.equal(error.code, "CHECKPOINT_CORRUPT");
          assert.match(error.message, message);
          assert.ok(error.message.startsWith(path));
          return true;
        });
      });
    }

    it("a file that is missing", async () => {
      await assert.rejects(
        readSafetensors(join(folder, "none")),
        /none: expected a readable file, found no such file/,
      );
    });
  });

  it("tolerates whitespace around the header, and an empty file of tensors", () => {
    const json = Buffer.from(' {"__metadata__":{"format":"pt"}} ');
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    assert.equal(decodeSafetensors(Buffer.concat([length, json])).tensors.size, 0);
  });

  it("meets mutated files with a CheckpointError or sound tensors, nothing else", () => {
    const tensors = new Map([
      ["a", { dtype: "F32" as const, shape: [2, 2] }],
      ["b", { dtype: "F16" as const, shape: [3] }],
    ]);
    const { bytes } = encodeHeader(tensors, { format: "pt" });
    const sound = Buffer.concat([bytes, Buffer.alloc(22, 1)]);
    const edit = fc.oneof(
      fc.record({ at: fc.nat(sound.length), byte: fc.nat(255) }),
      fc.record({ at: fc.nat(sound.length), cut: fc.nat(40) }),
      fc.record({
        at: fc.nat(sound.length),
        text: fc.constantFrom('"a"', "{", "]", "9", "-1", "1e9", '"F32"', "\0"),
      }),
    );
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let mutated: Buffer = Buffer.from(sound);
        for (const change of edits) {
          const { at } = change;
          if ("byte" in change) mutated[Math.min(at, mutated.length - 1)] = change.byte;
          else if ("cut" in change)
            mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(at + change.cut)]);
          else
            mutated = Buffer.concat([
              mutated.subarray(0, at),
              Buffer.from(change.text),
              mutated.subarray(at),
            ]);
          if (mutated.length === 0) break;
        }
        try {
          for (const { dtype, shape, data } of decodeSafetensors(mutated).tensors.values()) {
            assert.equal(data.length * 8, shape.reduce((a, b) => a * b, 1) * DTYPE_BITS[dtype]);
          }
        } catch (error) {
          assert.ok(error instanceof CheckpointError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("refuses data that does not fit its shape, and leaves nothing behind when it cannot write", async () => {
    const short = new Map<string, HostTensor>([
      ["a", { dtype: "F32", shape: [3], data: new Float32Array(2) }],
    ]);
    await assert.rejects(writeSafetensors(path, short), /tensor a: expected 12 bytes for its shape, got 8/);
    const fits = new Map<string, HostTensor>([
      ["a", { dtype: "F32", shape: [2], data: new Float32Array(2) }],
    ]);
    writeFileSync(join(folder, "a-file"), "");
    await assert.rejects(writeSafetensors(join(folder, "a-file", "x"), fits), CheckpointWriteError);
    rmSync(join(folder, "a-file"));
    rmSync(path, { force: true });
    assert.deepEqual(readdirSync(folder), []);
  });
});
