/**
 * @file The path that accelerators take (device allocator, IoBinding, copies in and out), over host memory in the
 * device's place: everything of it but the provider itself.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeviceUnavailableError, type Engine, type EngineError } from "../index.js";
import { onnxModel } from "../onnx-model.js";
import { descentGraph, productGraph } from "../test-graphs.js";
import { createOrtEngine } from "./engine.js";
import { checkProviderFiles } from "./providers.js";

describe("tensors in device memory", () => {
  let engine: Engine;
  before(async () => {
    engine = await createOrtEngine({ intraOpThreads: 1, deviceMemory: { name: "Cpu", deviceId: 0 } });
  });
  after(() => engine.close());

  it("are written and read by copying, and have no host view", async () => {
    const data = Float32Array.of(1, 2, 3, 4);
    const tensor = engine.tensor("float32", [2, 2], data);
    data[0] = 9; // was copied
    assert.deepEqual(await tensor.read(), Float32Array.of(1, 2, 3, 4));
    await tensor.write(Float32Array.of(5, 6, 7, 8));
    const row = tensor.view([2], 2);
    await row.write(Float32Array.of(0, -1));
    assert.deepEqual(await tensor.read(), Float32Array.of(5, 6, 0, -1));
    assert.throws(
      () => tensor.data,
      (error: EngineError) => /use read\(\)/.test(error.message),
    );
    const zeros = engine.tensor("int64", [3]);
    assert.deepEqual(await zeros.read(), new BigInt64Array(3));
    for (const one of [tensor, row, zeros]) one.release();
  });

  it("are bound to inputs and outputs, also in place", async () => {
    const program = await engine.compile(descentGraph());
    const weight = engine.tensor("float32", [2], Float32Array.of(1, 2));
    const gradient = engine.tensor("float32", [2], Float32Array.of(1, 1));
    const rate = engine.tensor("float32", [], Float32Array.of(0.5));
    for (let step = 0; step < 4; step++) await program.run({ weight, gradient, rate }, { weight });
    assert.deepEqual(await weight.read(), Float32Array.of(-1, 0));
    for (const one of [program, weight, gradient, rate]) one.release();
  });

  it("come back on the device when nobody gave them memory, whatever decides their shape", async () => {
    const product = await engine.compile(productGraph());
    const a = engine.tensor("float32", [1, 2], Float32Array.of(2, 3));
    const b = engine.tensor("float32", [2, 1], Float32Array.of(10, 1));
    const { c } = await product.run({ a, b });
    assert.deepEqual(await c.read(), Float32Array.of(23));
    const nonZero = await engine.compile(
      onnxModel(
        "where",
        [{ name: "x", onnxType: 1, dims: ["n"] }],
        [
          { name: "found", onnxType: 7, dims: [1, "found"] },
          { name: "same", onnxType: 1, dims: ["n"] },
        ],
        [
          { op: "NonZero", inputs: ["x"], outputs: ["found"] },
          { op: "Abs", inputs: ["x"], outputs: ["same"] },
        ],
      ),
    );
    const x = engine.tensor("float32", [4], Float32Array.of(0, -1, 0, 5));
    const out = await nonZero.run({ x });
    assert.deepEqual(out.found.dims, [1, 2]);
    assert.deepEqual(await out.found.read(), BigInt64Array.of(1n, 3n));
    assert.deepEqual(await out.same.read(), Float32Array.of(0, 1, 0, 5));
    for (const one of [product, nonZero, a, b, c, x, out.found, out.same]) one.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
});

describe("a missing CUDA provider", () => {
  it("is named, with the way to install it", () => {
    const folder = mkdtempSync(join(tmpdir(), "ort-"));
    try {
      assert.throws(
        () => checkProviderFiles("cuda", join(folder, "libonnxruntime.so.1")),
        (error: unknown) => {
          assert.ok(error instanceof DeviceUnavailableError);
          assert.equal(error.code, "DEVICE_UNAVAILABLE");
          assert.match(error.missing, /onnxruntime_providers_shared/);
          assert.match(error.missing, /ONNXRUNTIME_NODE_INSTALL=cuda12/);
          return true;
        },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
