/**
 * @file What every binding of ONNX Runtime does alike. Both run the same assertions.
 */
import assert from "node:assert/strict";
import { Graph } from "../graph/index.js";
import { createEngine, type Engine, EngineError, type EngineTensor, type OrtBinding } from "./index.js";
import { onnxModel } from "./onnx-model.js";
import { descentGraph, productGraph, typesGraph } from "./test-graphs.js";

const float32 = (...values: number[]): Float32Array => Float32Array.from(values);
const int64 = (...values: number[]): BigInt64Array => BigInt64Array.from(values, BigInt);

const fails = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EngineError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

for (const binding of ["koffi", "node"] satisfies OrtBinding[]) {
  describe(`ONNX Runtime through ${binding}`, () => {
    let engine: Engine;
    before(async () => {
      engine = await createEngine({ binding, intraOpThreads: 1 });
    });
    after(() => engine.close());

    it("says what it is", () => {
      assert.match(engine.name, new RegExp(`^onnxruntime \\d+\\.\\d+\\.\\d+ \\(${binding}, cpu\\)$`));
      assert.equal(engine.device, "cpu");
      assert.equal(engine.threads, 1);
    });

    it("multiplies two matrices", async () => {
      const program = await engine.compile(productGraph());
      assert.deepEqual(program.inputNames, ["a", "b"]);
      const a = engine.tensor("float32", [2, 3], float32(1, 2, 3, 4, 5, 6));
      const b = engine.tensor("float32", [3, 1], float32(1, 10, 100));
      const { c } = await program.run({ a, b });
      assert.deepEqual(c.dims, [2, 1]);
      assert.equal(c.size, 2);
      assert.deepEqual(await c.read(), float32(321, 654));
      for (const one of [program, a, b, c]) one.release();
    });

    it("carries every element type in and out", async () => {
      const program = await engine.compile(typesGraph());
      const feeds = {
        table: engine.tensor("float32", [4, 3], float32(0, 1, 2, 5, 4, 3, 6, 8, 7, 9, 10, 11)),
        ids: engine.tensor("int64", [2, 2], int64(0, 3, 2, 1)),
        mask: engine.tensor("bool", [2, 2], Uint8Array.of(1, 1, 0, 1)),
        lengths: engine.tensor("int32", [2], Int32Array.of(-7, 3)),
        half: engine.tensor("float16", [2], Uint16Array.of(0x3c00, 0xc000)), // 1 and −2
      };
      const out = await program.run(feeds);
      assert.deepEqual(out.sum.data, float32(9, 11, 13, 5, 4, 3));
      assert.deepEqual(out.best.data, int64(2, 2, 1, 0));
      assert.deepEqual(out.kept.data, Uint8Array.of(0, 0, 1, 0));
      assert.deepEqual(out.double.data, Int32Array.of(-14, 6));
      assert.deepEqual(out.halved.data, Uint16Array.of(0x3800, 0xbc00)); // 0.5 and −1
      assert.deepEqual(out.flat.dims, [12]);
      for (const tensor of [...Object.values(feeds), ...Object.values(out), program]) tensor.release();
    });

    it("updates a weight in place, in the caller's own array", async () => {
      const program = await engine.compile(descentGraph());
      assert.deepEqual(program.outputNames, ["weight"]);
      const mine = float32(1, 2, 3);
      const weight = engine.tensor("float32", [3], mine);
      const feeds = {
        weight,
        gradient: engine.tensor("float32", [3], float32(10, 20, 30)),
        rate: engine.tensor("float32", [], float32(0.5)),
      };
      for (let step = 0; step < 2; step++) {
        const out = await program.run(feeds, { weight });
        assert.equal(out.weight, weight);
      }
      assert.equal(weight.data, mine);
      assert.deepEqual(mine, float32(-9, -18, -27));
      for (const tensor of [...Object.values(feeds), program]) tensor.release();
    });

    it("gives the right result over what it reads, where that cannot be done in place", async () => {
      const product = await engine.compile(productGraph());
      const a = engine.tensor("float32", [2, 2], float32(1, 2, 3, 4));
      const b = engine.tensor("float32", [2, 2], float32(0, 1, 1, 1));
      await product.run({ a, b }, { c: a }); // every element of c needs a row of a
      assert.deepEqual(a.data, float32(2, 3, 4, 7));

      const graph = new Graph("swap");
      const x = graph.input("x", "float32", ["n"]);
      const y = graph.input("y", "float32", ["n"]);
      graph.output("x", y.mul(2));
      graph.output("y", x.mul(2));
      const swap = await engine.compile(graph);
      const buffer = engine.tensor("float32", [5], float32(1, 2, 3, 4, 5));
      const [left, right] = [buffer.view([2], 0), buffer.view([2], 2)];
      await swap.run({ x: left, y: right }, { x: left, y: right });
      assert.deepEqual(buffer.data, float32(6, 8, 2, 4, 5));
      const shifted = buffer.view([2], 1); // overlaps both
      const { y: rest } = await swap.run({ x: left, y: right }, { x: shifted });
      assert.deepEqual(buffer.data, float32(6, 4, 8, 4, 5));
      for (const one of [product, swap, a, b, buffer, left, right, shifted, rest]) one.release();
    });

    it("reads and writes a view of a bigger buffer", async () => {
      const program = await engine.compile(productGraph());
      const cache = engine.tensor("float32", [4, 2]);
      const identity = engine.tensor("float32", [2, 2], float32(1, 0, 0, 1));
      const row = engine.tensor("float32", [1, 2], float32(7, 8));
      const third = cache.view([1, 2], 4);
      const middle = cache.view([2, 2], 2);
      const half = middle.view([1, 2], 2); // the same row, as a view of a view
      await program.run({ a: row, b: identity }, { c: third });
      assert.deepEqual(cache.data, float32(0, 0, 0, 0, 7, 8, 0, 0));
      assert.deepEqual(half.data, float32(7, 8));
      cache.release();
      await third.write(float32(1, 2)); // the view keeps the memory
      assert.deepEqual(await half.read(), float32(1, 2));
      assert.throws(() => third.view([2], 1), fails("INVALID_TENSOR", /view: expected at most 2 elements/));
      assert.throws(() => third.view([1], -1), fails("INVALID_TENSOR", /from element -1/));
      for (const tensor of [third, middle, half, identity, row, program]) tensor.release();
    });

    it("runs on tensors without elements", async () => {
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [0, 3], new Float32Array(0));
      const b = engine.tensor("float32", [3, 2]);
      const { c } = await program.run({ a, b });
      assert.deepEqual(c.dims, [0, 2]);
      assert.equal((await c.read()).length, 0);
      for (const one of [program, a, b, c]) one.release();
    });

    it("returns outputs whose shape only the run decides", async () => {
      const model = onnxModel(
        "where",
        [{ name: "x", onnxType: 1, dims: ["n"] }],
        [{ name: "found", onnxType: 7, dims: [1, "found"] }],
        [{ op: "NonZero", inputs: ["x"], outputs: ["found"] }],
      );
      const program = await engine.compile(model);
      const x = engine.tensor("float32", [5], float32(0, 3, 0, 0, 2));
      const { found } = await program.run({ x });
      assert.deepEqual(found.dims, [1, 2]);
      assert.deepEqual(found.data, int64(1, 4));
      for (const one of [program, x, found]) one.release();
    });

    it("copies on read, not on data", async () => {
      const tensor = engine.tensor("float32", [2]);
      const copy = await tensor.read();
      tensor.data[0] = 5;
      assert.deepEqual(copy, float32(0, 0));
      assert.deepEqual(tensor.data, float32(5, 0));
      tensor.release();
    });

    it("names the feed at fault, what was expected and what came", async () => {
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [2, 3]);
      const b = engine.tensor("float32", [3, 2]);
      const ids = engine.tensor("int64", [3, 2]);
      const flat = b.view([6]);
      const wrong: [Record<string, EngineTensor>, Record<string, EngineTensor>, RegExp][] = [
        [{ a }, {}, /^feed b: missing, expected float32\[k, n\]$/],
        [{ a, b, bias: b }, {}, /^feed bias: unknown name, expected one of a, b$/],
        [{ a, B: b }, {}, /^feed B: unknown name, expected one of a, b$/],
        [{ a, b: ids }, {}, /^feed b: expected float32\[k, n\], got int64\[3, 2\]$/],
        [{ a, b: flat }, {}, /^feed b: expected float32\[k, n\], got float32\[6\]$/],
        [{ a, b: a }, {}, /^feed b: .* got float32\[2, 3\] \(k is 3 in this run\)$/],
        [{ a, b }, { c: b }, /^into c: .* got float32\[3, 2\] \(m is 2 in this run\)$/],
        [{ a, b }, { d: b }, /^into d: unknown name, expected one of c$/],
      ];
      for (const [feeds, into, message] of wrong) {
        await assert.rejects(program.run(feeds, into), fails("INVALID_FEED", message));
      }
      await assert.rejects(program.run({ a }), (error: EngineError) => {
        assert.deepEqual([error.field, error.expected, error.got], ["b", "float32[k, n]", "nothing"]);
        return true;
      });
      for (const one of [program, a, b, ids, flat]) one.release();
    });

    it("refuses a tensor of another engine", async () => {
      const other = await createEngine({ binding, intraOpThreads: 1 });
      const program = await engine.compile(productGraph());
      const [a, b] = [engine.tensor("float32", [1, 1]), other.tensor("float32", [1, 1])];
      await assert.rejects(
        program.run({ a, b }),
        fails("INVALID_FEED", /b: expected a tensor of this engine/),
      );
      program.release();
      a.release();
      await other.close();
    });

    it("refuses data that does not fit its type or shape", async () => {
      assert.throws(
        () => engine.tensor("float32", [2, 2], float32(1, 2, 3)),
        fails("INVALID_TENSOR", /expected Float32Array\(4\), got Float32Array\(3\)/),
      );
      assert.throws(
        () => engine.tensor("int64", [1], Int32Array.of(1)),
        fails("INVALID_TENSOR", /expected BigInt64Array\(1\), got Int32Array\(1\)/),
      );
      assert.throws(() => engine.tensor("float32", [2, -1]), fails("INVALID_TENSOR", /got \[2, -1\]/));
      assert.throws(() => engine.tensor("int8" as never, [1]), fails("INVALID_TENSOR", /dtype: .* got int8/));
      const tensor = engine.tensor("float32", [2]);
      await assert.rejects(tensor.write(float32(1)), fails("INVALID_TENSOR", /expected Float32Array\(2\)/));
      tensor.release();
    });

    it("says why a model does not compile", async () => {
      await assert.rejects(
        engine.compile(Uint8Array.of(1, 2, 3)),
        fails("COMPILE_FAILED", /^compile model: /),
      );
      const unknown = onnxModel(
        "unknown",
        [{ name: "x", onnxType: 1, dims: [1] }],
        [{ name: "y", onnxType: 1, dims: [1] }],
        [{ op: "NoSuchOp", inputs: ["x"], outputs: ["y"] }],
      );
      await assert.rejects(engine.compile(unknown), fails("COMPILE_FAILED", /NoSuchOp/));
    });

    it("wraps what ONNX Runtime says of a run that fails, and goes on working", async () => {
      const model = onnxModel(
        "shapes",
        [
          { name: "x", onnxType: 1, dims: [] },
          { name: "shape", onnxType: 7, dims: ["rank"] },
        ],
        [{ name: "y", onnxType: 1, dims: ["p", "q"] }],
        [{ op: "Expand", inputs: ["x", "shape"], outputs: ["y"] }],
      );
      const program = await engine.compile(model);
      const x = engine.tensor("float32", [], float32(2));
      const shape = engine.tensor("int64", [2], int64(2, 3));
      const y = engine.tensor("float32", [3, 3]);
      await assert.rejects(program.run({ x, shape }, { y }), (error: EngineError) => {
        assert.equal(error.code, "RUN_FAILED");
        assert.ok(error.cause instanceof Error);
        return true;
      });
      const out = await program.run({ x, shape });
      assert.deepEqual(out.y.data, float32(2, 2, 2, 2, 2, 2));
      for (const one of [program, x, shape, y, out.y]) one.release();
    });

    it("keeps what a run uses alive until the run ends", async () => {
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [200, 200], new Float32Array(40_000).fill(1));
      const b = engine.tensor("float32", [200, 200]);
      b.data.fill(2 as never);
      const runs = [program.run({ a, b }), program.run({ a, b })];
      for (const one of [program, a, b]) one.release();
      for (const { c } of await Promise.all(runs)) {
        assert.equal(c.data[39_999], 400);
        c.release();
      }
    });

    it("refuses what was released, and releases twice without harm", async () => {
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [1, 1]);
      const b = engine.tensor("float32", [1, 1]);
      b.release();
      b.release();
      await assert.rejects(program.run({ a, b }), fails("RELEASED", /b: this tensor was released/));
      assert.throws(() => b.data, fails("RELEASED", /data: this tensor was released/));
      await assert.rejects(b.write(float32(1)), fails("RELEASED", /write/));
      assert.throws(() => b.view([1]), fails("RELEASED", /view/));
      await assert.rejects(b.read(), fails("RELEASED", /read/));
      program.release();
      program.release();
      await assert.rejects(program.run({ a, b: a }), fails("RELEASED", /run: this program was released/));
      a.release();
    });

    it("runs several programs at once, each with its own result", async () => {
      const [product, descent] = await Promise.all([
        engine.compile(productGraph()),
        engine.compile(descentGraph()),
      ]);
      const b = engine.tensor("float32", [2, 2], float32(1, 2, 3, 4));
      const gradient = engine.tensor("float32", [2], float32(1, 1));
      const rate = engine.tensor("float32", [], float32(1));
      await Promise.all(
        Array.from({ length: 12 }, async (_, i) => {
          const a = engine.tensor("float32", [1, 2], float32(i, 1));
          const weight = engine.tensor("float32", [2], float32(i, 2 * i));
          const [{ c }, next] = await Promise.all([
            product.run({ a, b }),
            descent.run({ weight, gradient, rate }),
          ]);
          assert.deepEqual(c.data, float32(i + 3, 2 * i + 4));
          assert.deepEqual(next.weight.data, float32(i - 1, 2 * i - 1));
          for (const tensor of [a, weight, c, next.weight]) tensor.release();
        }),
      );
      for (const one of [product, descent, b, gradient, rate]) one.release();
    });

    it("counts what is alive", async () => {
      const before = engine.stats();
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [4, 4]);
      const part = a.view([2, 4]);
      const { c } = await program.run({ a: part, b: a });
      const during = engine.stats();
      assert.equal(during.liveTensors - before.liveTensors, 3);
      assert.equal(during.programs - before.programs, 1);
      assert.equal(during.bytes - before.bytes, 64 + 32); // the view has no memory of its own
      for (const one of [program, a, part, c]) one.release();
      assert.deepEqual(engine.stats(), before);
      assert.deepEqual(
        [before.liveTensors, before.liveValues, before.programs, before.bytes, before.leaked],
        [0, 0, 0, 0, 0],
      );
    });

    it("closes while it releases programs, over and over", async () => {
      // a thread that is stopped inside a native call takes the process along, in about one of ten times
      for (let round = 0; round < 15; round++) {
        const closing = await createEngine({ binding, intraOpThreads: 1 });
        const programs = [await closing.compile(productGraph()), await closing.compile(productGraph())];
        for (const program of programs) program.release();
        await closing.close();
        assert.deepEqual(closing.stats(), {
          liveTensors: 0,
          liveValues: 0,
          programs: 0,
          bytes: 0,
          leaked: 0,
        });
      }
    });

    it("finishes what is running when it closes, and refuses what comes after", async () => {
      const closing = await createEngine({ binding, intraOpThreads: 1 });
      const program = await closing.compile(productGraph());
      const a = closing.tensor("float32", [512, 512]);
      const running = [program.run({ a, b: a }), program.run({ a, b: a })];
      const closed = closing.close();
      assert.equal(closing.close(), closed);
      for (const { c } of await Promise.all(running)) assert.deepEqual(c.dims, [512, 512]);
      await closed;
      assert.throws(() => closing.tensor("float32", [1]), fails("RELEASED", /this engine was closed/));
      await assert.rejects(closing.compile(productGraph()), fails("RELEASED", /this engine was closed/));
      await assert.rejects(program.run({ a, b: a }), fails("RELEASED", /this program was released/));
      assert.deepEqual(closing.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
    });
  });
}

describe("createEngine", () => {
  it("names a bad option and what is accepted", async () => {
    const bad: [object, RegExp][] = [
      [{ device: "tpu" }, /^device: expected one of cpu, cuda, webgpu, got tpu$/],
      [{ binding: "ffi" }, /^binding: expected one of koffi, node, got ffi$/],
      [{ intraOpThreads: 0 }, /^intraOpThreads: expected a whole number ≥ 1, got 0$/],
    ];
    for (const [options, message] of bad) {
      await assert.rejects(createEngine(options), fails("INVALID_OPTION", message));
    }
  });

  it("reads the binding from RLHF_ORT_BINDING", async () => {
    const before = process.env.RLHF_ORT_BINDING;
    process.env.RLHF_ORT_BINDING = "node";
    try {
      const engine = await createEngine({ intraOpThreads: 1 });
      assert.match(engine.name, /\(node, cpu\)$/);
      await engine.close();
    } finally {
      if (before === undefined) delete process.env.RLHF_ORT_BINDING;
      else process.env.RLHF_ORT_BINDING = before;
    }
  });

  it("never computes elsewhere than on the device that was asked for", async () => {
    for (const device of ["cuda", "webgpu"] as const) {
      for (const binding of ["koffi", "node"] as const) {
        try {
          const engine = await createEngine({ device, binding }); // a machine that has it
          assert.equal(engine.device, device);
          await engine.close();
        } catch (error) {
          assert.equal((error as { code?: string }).code, "DEVICE_UNAVAILABLE");
          assert.match((error as Error).message, new RegExp(`^device ${device} is unavailable: .{20}`));
        }
      }
    }
  });
});
