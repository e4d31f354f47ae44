/**
 * @file What the copy-free engine promises beyond its interface: no copies, no blocking, no leaks, no crash at the edges.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createEngine, type Engine, type EngineError } from "../index.js";
import { descentGraph, productGraph } from "../test-graphs.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

describe("the copy-free engine", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ binding: "koffi", intraOpThreads: 1 });
  });
  after(() => engine.close());

  it("writes into an array that began on V8's moving heap", async () => {
    const program = await engine.compile(descentGraph());
    const mine = Float32Array.of(1, 2); // small: V8 keeps its elements inside the object until somebody asks for .buffer
    const weight = engine.tensor("float32", [2], mine);
    const gradient = engine.tensor("float32", [2], Float32Array.of(1, 1));
    const rate = engine.tensor("float32", [], Float32Array.of(1));
    for (let step = 0; step < 5; step++) {
      collectGarbage();
      await program.run({ weight, gradient, rate }, { weight });
    }
    assert.deepEqual(mine, Float32Array.of(-4, -3));
    for (const one of [program, weight, gradient, rate]) one.release();
  });

  it("works on memory shared between threads", async () => {
    const program = await engine.compile(descentGraph());
    const shared = new Float32Array(new SharedArrayBuffer(8));
    const weight = engine.tensor("float32", [2], shared);
    const gradient = engine.tensor("float32", [2], Float32Array.of(1, 2));
    const rate = engine.tensor("float32", [], Float32Array.of(2));
    await program.run({ weight, gradient, rate }, { weight });
    assert.deepEqual([...shared], [-2, -4]);
    for (const one of [program, weight, gradient, rate]) one.release();
  });

  it("refuses memory that was transferred away, instead of reading what is there now", async () => {
    const program = await engine.compile(productGraph());
    const gone = new Float32Array(4);
    const a = engine.tensor("float32", [2, 2], gone);
    const b = engine.tensor("float32", [2, 2]);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    await assert.rejects(program.run({ a, b }), (error: EngineError) => {
      assert.equal(error.code, "INVALID_TENSOR");
      assert.match(error.message, /its ArrayBuffer was transferred away/);
      return true;
    });
    for (const one of [program, a, b]) one.release();
  });

  it("keeps the event loop free while a long run executes", async () => {
    const program = await engine.compile(productGraph());
    const a = engine.tensor("float32", [4096, 1024]);
    const b = engine.tensor("float32", [1024, 1024]);
    const c = engine.tensor("float32", [4096, 1024]);
    await program.run({ a, b }, { c });
    // A blocked loop is late by a whole run. Other processes make any loop late now and then (on a quiet machine the
    // longest delay was 2 to 15 ms), so nine of ten turns must be in time, and none late by half a run.
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const runs = 3;
    const start = performance.now();
    await Promise.all(Array.from({ length: runs }, () => program.run({ a, b }, { c })));
    const runMs = (performance.now() - start) / runs;
    delay.disable();
    const [usualMs, longestMs] = [delay.percentile(90) / 1e6, delay.max / 1e6];
    assert.ok(runMs > 50, `a run must be long to prove anything, took ${runMs} ms`);
    assert.ok(usualMs < 20, `nine of ten turns of the event loop are late by up to ${usualMs} ms`);
    assert.ok(
      longestMs < runMs / 2,
      `a turn of the event loop was ${longestMs} ms late in runs of ${runMs} ms`,
    );
    for (const one of [program, a, b, c]) one.release();
  });

  it("keeps the event loop free while a large tensor is read and written, and the memory until then", async () => {
    const size = 64 << 20; // 256 MB
    const tensor = engine.tensor("float32", [size]);
    const source = new Float32Array(size).fill(3);
    source[size - 1] = 4;
    let turns = 0;
    let done = false;
    const count = () => {
      turns += 1;
      if (!done) setImmediate(count);
    };
    const view = tensor.view([size]);
    setImmediate(count);
    const writing = tensor.write(source);
    tensor.release(); // a copy in flight keeps what it uses
    await writing;
    const written = turns;
    const copy = (await view.read()) as Float32Array;
    done = true;
    assert.ok(written > 10, `${written} turns of the event loop during a write`);
    assert.ok(turns - written > 10, `${turns - written} turns of the event loop during a read`);
    assert.equal(Buffer.compare(Buffer.from(copy.buffer), Buffer.from(source.buffer)), 0);
    view.release();
  });

  it("leaves libuv threads for files while more runs wait than libuv has threads", async () => {
    const program = await engine.compile(productGraph());
    const a = engine.tensor("float32", [1024, 1024]);
    let done = false;
    const runs = Promise.all(Array.from({ length: 8 }, () => program.run({ a, b: a }))).then((outputs) => {
      done = true;
      for (const { c } of outputs) c.release();
    });
    const start = performance.now();
    await readFile(fileURLToPath(import.meta.url));
    assert.ok(!done, `a file took as long as eight runs: ${performance.now() - start} ms`);
    await runs;
    program.release();
    a.release();
  });

  it("leaks nothing over 2000 runs", async () => {
    const program = await engine.compile(productGraph());
    const a = engine.tensor("float32", [128, 32], new Float32Array(4096).fill(1));
    const runs = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const fresh = engine.tensor("float32", [32, 64]);
        const { c } = await program.run({ a, b: fresh });
        c.release();
        fresh.release();
      }
    };
    await runs(300); // arenas and the JavaScript heap grow to their size
    const before = engine.stats();
    const grownMb: number[] = [];
    for (let window = 0; window < 4; window++) {
      collectGarbage();
      const rss = process.memoryUsage.rss();
      await runs(500);
      collectGarbage();
      grownMb.push((process.memoryUsage.rss() - rss) / 1e6);
    }
    assert.deepEqual(engine.stats(), before);
    // a 32 KiB output kept per run would add 16 MB in every window; the allocator's own jumps come now and then
    assert.ok(Math.min(...grownMb) < 4, `resident memory grew in each 500 runs: ${grownMb} MB`);
    program.release();
    a.release();
  });

  it("frees what a caller forgot, and counts it", async () => {
    const forgetful = await createEngine({ binding: "koffi", intraOpThreads: 1 });
    (() => forgetful.tensor("float32", [1024]))();
    for (let turn = 0; turn < 50 && forgetful.stats().leaked === 0; turn++) {
      collectGarbage();
      await nextTurn();
    }
    const { leaked, liveTensors, bytes } = forgetful.stats();
    assert.deepEqual({ leaked, liveTensors, bytes }, { leaked: 1, liveTensors: 0, bytes: 0 });
    await forgetful.close();
  });

  it("keeps the library loaded when its first handle is collected", async () => {
    const other = await createEngine({ binding: "koffi", intraOpThreads: 1 });
    collectGarbage();
    await nextTurn();
    collectGarbage();
    const program = await other.compile(productGraph());
    const a = other.tensor("float32", [1, 1], Float32Array.of(3));
    const { c } = await program.run({ a, b: a });
    assert.equal(c.data[0], 9);
    await other.close();
  });

  it("lets the process exit in the middle of a run", () => {
    const script = `
      import { createEngine } from ${JSON.stringify(new URL("../index.js", import.meta.url).href)};
      import { productGraph } from ${JSON.stringify(new URL("../test-graphs.js", import.meta.url).href)};
      const engine = await createEngine({ binding: "koffi" });
      const program = await engine.compile(productGraph());
      const a = engine.tensor("float32", [3000, 3000]);
      void program.run({ a, b: a });
      setTimeout(() => process.exit(7), 30);`;
    const { status, signal, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
    assert.deepEqual({ status, signal, stderr: String(stderr) }, { status: 7, signal: null, stderr: "" });
  });
});
