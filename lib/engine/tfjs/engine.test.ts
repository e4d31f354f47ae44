/**
 * @file The TensorFlow.js engine as an engine: tensors, errors, release, and what is said when it cannot run.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Graph } from "../../graph/index.js";
import { DeviceUnavailableError, type Engine, type EngineError } from "../index.js";
import { descentGraph, productGraph, typesGraph } from "../test-graphs.js";
import { createTfjsEngine } from "./engine.js";
import { loadTfjs, TfjsMissingError } from "./load.js";

describe("the TensorFlow.js engine", () => {
  let engine: Engine;
  before(async () => {
    engine = await createTfjsEngine({ backend: "cpu" });
  });
  after(() => engine.close());

  it("says what it is", () => {
    assert.match(engine.name, /^tfjs \d+\.\d+\.\d+ \(cpu, cpu\)$/);
    assert.equal(engine.device, "cpu");
  });

  it("updates a weight in place, in the caller's array and in its own", async () => {
    const program = await engine.compile(descentGraph());
    const mine = Float32Array.of(1, 2);
    const wrapped = engine.tensor("float32", [2], mine);
    const own = engine.tensor("float32", [3, 2]);
    const row = own.view([2], 2);
    const gradient = engine.tensor("float32", [2], Float32Array.of(1, 10));
    const rate = engine.tensor("float32", [], Float32Array.of(0.5));
    for (const weight of [wrapped, row]) {
      for (let step = 0; step < 2; step++) await program.run({ weight, gradient, rate }, { weight });
    }
    assert.deepEqual(mine, Float32Array.of(0, -8));
    assert.deepEqual(own.data, Float32Array.of(0, 0, -1, -10, 0, 0));
    await own.write(Float32Array.of(5, 5, 5, 5, 5, 5)); // what the worker kept of the row is out of date now
    const { weight } = await program.run({ weight: row, gradient, rate });
    assert.deepEqual(weight.data, Float32Array.of(4.5, 0));
    for (const one of [program, wrapped, own, row, gradient, rate, weight]) one.release();
  });

  it("carries every element type, in the engine's memory and in the caller's", async () => {
    const program = await engine.compile(typesGraph());
    const data = {
      table: ["float32", [4, 3], Float32Array.from({ length: 12 }, (_, i) => i)],
      ids: ["int64", [2, 2], BigInt64Array.of(0n, 3n, 2n, 1n)],
      mask: ["bool", [2, 2], Uint8Array.of(1, 1, 0, 1)],
      lengths: ["int32", [2], Int32Array.of(-7, 3)],
      half: ["float16", [2], Uint16Array.of(0x3c00, 0xc000)],
    } as const;
    const feeds = Object.fromEntries(
      Object.entries(data).map(([name, [dtype, dims, values]]) => [name, engine.tensor(dtype, dims, values)]),
    );
    const kept = engine.tensor("bool", [2, 2]);
    const out = await program.run(feeds, { kept });
    assert.deepEqual(out.sum.data, Float32Array.of(9, 11, 13, 3, 4, 5));
    assert.deepEqual(out.best.data, BigInt64Array.of(2n, 2n, 2n, 2n));
    assert.deepEqual(kept.data, Uint8Array.of(0, 0, 1, 0));
    assert.deepEqual(out.double.data, Int32Array.of(-14, 6));
    assert.deepEqual(out.halved.data, Uint16Array.of(0x3800, 0xbc00));
    for (const tensor of [...Object.values(feeds), ...Object.values(out), program]) tensor.release();
  });

  it("refuses whole numbers that TensorFlow.js cannot hold, and ONNX bytes", async () => {
    const graph = new Graph("double");
    const x = graph.input("x", "int64", [1]);
    graph.output("y", x.add(x));
    const program = await engine.compile(graph);
    const big = engine.tensor("int64", [1], BigInt64Array.of(5_000_000_000n));
    await assert.rejects(program.run({ x: big }), (error: EngineError) => {
      assert.equal(error.code, "RUN_FAILED");
      assert.match(error.message, /int64 5000000000: TensorFlow.js holds whole numbers in 32 bits/);
      return true;
    });
    for (const one of [program, big]) one.release();
    await assert.rejects(engine.compile(new Uint8Array(3)), (error: EngineError) => {
      assert.equal(error.code, "COMPILE_FAILED");
      assert.match(error.message, /takes a Graph, got ONNX bytes/);
      return true;
    });
  });

  it("leaks nothing", async () => {
    const program = await engine.compile(productGraph());
    const a = engine.tensor("float32", [8, 8]);
    const before = engine.stats();
    for (let i = 0; i < 100; i++) {
      const b = engine.tensor("float32", [8, 8]);
      const { c } = await program.run({ a, b });
      b.release();
      c.release();
    }
    assert.deepEqual(engine.stats(), { ...before, liveValues: before.liveValues + 1 }); // a was used: its copy stays
    for (const one of [program, a]) one.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });

  it("names a bad option", async () => {
    await assert.rejects(createTfjsEngine({ backend: "webgl" as never }), (error: EngineError) => {
      assert.equal(error.code, "INVALID_OPTION");
      assert.match(
        error.message,
        /^backend: expected one of tensorflow-gpu, tensorflow, wasm, cpu, got webgl$/,
      );
      return true;
    });
  });

  it("computes on a GPU when asked to, or says what is missing", async () => {
    try {
      const onGpu = await createTfjsEngine({ device: "cuda" }); // a machine that has one
      assert.equal(onGpu.device, "cuda");
      await onGpu.close();
    } catch (error) {
      assert.ok(error instanceof DeviceUnavailableError);
      assert.match(error.message, /device cuda is unavailable: .*(tfjs-node-gpu|computes on cpu)/);
    }
  });
});

describe("loading TensorFlow.js", () => {
  const real = createRequire(import.meta.url);
  const without = (...names: string[]): NodeJS.Require => {
    const load = (name: string) => real(name);
    const resolve = (name: string) => {
      if (names.includes(name)) throw new Error(`Cannot find module '${name}'`);
      return real.resolve(name);
    };
    return Object.assign(load, { resolve }) as unknown as NodeJS.Require;
  };

  it("takes the first backend that is installed", async () => {
    const { backend, device } = await loadTfjs(
      ["tensorflow-gpu", "cpu"],
      without("@tensorflow/tfjs-node-gpu"),
    );
    assert.deepEqual({ backend, device }, { backend: "cpu", device: "cpu" });
  });

  it("names the packages when none is installed", async () => {
    const nothing = without("@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs");
    await assert.rejects(loadTfjs(["tensorflow-gpu", "wasm"], nothing), (error: unknown) => {
      assert.ok(error instanceof TfjsMissingError);
      assert.equal(
        error.message,
        "TensorFlow.js is not installed: install @tensorflow/tfjs-node-gpu, or @tensorflow/tfjs with @tensorflow/tfjs-backend-wasm",
      );
      return true;
    });
  });
});
