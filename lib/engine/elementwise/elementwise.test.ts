/** Fused kernels against the engine's own operators: the same graph, the same numbers to the bit. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Graph, type Tensor } from "../../graph/index.js";
import {
  createEngine,
  ElementwiseProgram,
  type Engine,
  EngineError,
  type EngineTensor,
  longestTogether,
  VectorMemory,
} from "../index.js";
import { BLOCK, kernelCall } from "./kernel.js";
import { ThreadPool } from "./threads.js";

const THREADS = 2;
const LONG = 6 * BLOCK + 7; // more than one thread's share, and a rest that is no multiple of four

const refused = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EngineError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

describe("an elementwise program", () => {
  let engine: Engine;
  const made: { release(): void }[] = [];
  const keep = <T extends { release(): void }>(one: T): T => {
    made.push(one);
    return one;
  };
  before(async () => {
    engine = await createEngine({ intraOpThreads: THREADS });
  });
  afterEach(() => {
    for (const one of made.splice(0)) one.release();
    assert.deepEqual(engine.stats(), { liveTensors: 0, liveValues: 0, programs: 0, bytes: 0, leaked: 0 });
  });
  after(() => engine.close());

  /** Vectors that lie together, or apart. */
  function vectors(contents: readonly Float32Array[], together: boolean): EngineTensor[] {
    const memory = new VectorMemory(engine, { size: contents[0].length, count: contents.length });
    return contents.map((content) => {
      if (!together) return keep(engine.tensor("float32", [content.length], Float32Array.from(content)));
      const vector = keep(memory.take());
      (vector.data as Float32Array).set(content);
      return vector;
    });
  }

  const numbers = (size: number, seed: number) =>
    new Float32Array(size).map((_, i) => Math.sin(seed + i * (1 + seed)) * 10 ** ((i % 7) - 3));

  /** √|a·s| − b/2 in place of a, and Σ(a·b). */
  function example(): Graph {
    const graph = new Graph("example");
    const a = graph.input("a", "float32", ["n"]);
    const b = graph.input("b", "float32", ["n"]);
    const scale = graph.input("scale", "float32", []);
    graph.output("next", a.mul(scale).abs().sqrt().sub(b.div(2)));
    graph.output("product", a.mul(b).reduceSum([0], { keepDims: true }));
    return graph;
  }

  async function run(graph: Graph, contents: readonly Float32Array[], together: boolean) {
    const program = keep(new ElementwiseProgram(engine, graph));
    const [a, b] = vectors(contents, together);
    const sums = await program.run({ a, b }, { scale: 3 }, { next: a });
    return { next: (await a.read()) as Float32Array, b: (await b.read()) as Float32Array, sums };
  }

  for (const size of [1, 3, 4, 5, BLOCK - 1, BLOCK + 2, LONG]) {
    it(`gives the bits of the operators for ${size} elements, in place, and leaves the others alone`, async () => {
      const contents = [numbers(size, 1), numbers(size, 2)];
      const fused = await run(example(), contents, true);
      const apart = await run(example(), contents, false);
      assert.deepEqual(fused.next, apart.next);
      assert.deepEqual(fused.b, contents[1]);
      let sum = 0;
      for (const [i, a] of contents[0].entries()) sum += Math.fround(a * contents[1][i]);
      assert.ok(Math.abs(fused.sums.product - sum) <= 1e-12 * size * 1e6, "added in float64");
      assert.ok(Math.abs(apart.sums.product - sum) <= 1e-6 * size * 1e6);
    });
  }

  it("gives the bits of the operators for whatever graph of its ops", async () => {
    const op = fc.tuple(fc.constantFrom("add", "sub", "mul", "div"), fc.nat(), fc.nat());
    const single = fc.tuple(fc.constantFrom("neg", "abs", "sqrt"), fc.nat());
    const constant = fc.tuple(fc.constant("constant"), fc.float({ noNaN: true }));
    const graphs = fc.array(fc.oneof(op, single, constant), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(graphs, async (recipe) => {
        const graph = new Graph("random");
        const values: Tensor[] = [
          graph.input("a", "float32", ["n"]),
          graph.input("b", "float32", ["n"]),
          graph.input("scale", "float32", []),
        ];
        const pick = (i: number) => values[i % values.length];
        for (const [name, one, two] of recipe) {
          if (name === "constant") values.push(graph.constant(one));
          else if (two === undefined) values.push(pick(one)[name as "neg"]());
          else values.push(pick(one)[name as "add"](pick(two)));
        }
        graph.output(
          "next",
          values.slice(3).reduce((sum, value) => sum.add(value), values[0]),
        );
        const contents = [numbers(11, 3), numbers(11, 5)];
        const fused = await run(graph, contents, true);
        const apart = await run(graph, contents, false);
        // NaN is NaN, whichever of its bit patterns
        assert.deepEqual([...fused.next], [...apart.next]);
      }),
      { numRuns: 60 },
    );
  });

  it("gives the same bits with any number of threads", async () => {
    const other = await createEngine({ intraOpThreads: 3 });
    const results: unknown[] = [];
    for (const each of [engine, other]) {
      const program = new ElementwiseProgram(each, example());
      const memory = new VectorMemory(each, { size: LONG, count: 2 });
      const [a, b] = [memory.take(), memory.take()];
      await a.write(numbers(LONG, 1));
      await b.write(numbers(LONG, 2));
      const sums = await program.run({ a, b }, { scale: 3 }, { next: a });
      results.push([await a.read(), sums]);
      program.release();
      for (const vector of [a, b]) vector.release();
    }
    await other.close();
    assert.deepEqual(results[0], results[1]);
  });

  it("works on a part of vectors that lie together", async () => {
    const [a, b] = vectors([numbers(40, 1), numbers(40, 2)], true);
    const program = keep(new ElementwiseProgram(engine, example()));
    const [partA, partB] = [keep(a.view([9], 16)), keep(b.view([9], 3))];
    await program.run({ a: partA, b: partB }, { scale: 1 }, { next: partA });
    const after = (await a.read()) as Float32Array;
    assert.deepEqual(after.subarray(0, 16), numbers(40, 1).subarray(0, 16));
    assert.deepEqual(after.subarray(25), numbers(40, 1).subarray(25));
    const expected = Math.fround(
      Math.fround(Math.sqrt(Math.abs(numbers(40, 1)[24]))) - numbers(40, 2)[11] / 2,
    );
    assert.equal(after[24], expected);
  });

  it("lets another program of the engine read the same memory", async () => {
    const graph = new Graph("sum");
    graph.output("sum", graph.input("x", "float32", ["n"]).reduceSum([0]));
    const program = keep(await engine.compile(graph));
    const [x] = vectors([Float32Array.of(1, 2, 3.5)], true);
    const { sum } = await program.run({ x });
    assert.deepEqual([...((await keep(sum).read()) as Float32Array)], [6.5]);
  });

  it("does not hold up the event loop while threads work", async () => {
    const size = 4_000_000;
    const [a, b] = vectors([new Float32Array(size).fill(2), new Float32Array(size).fill(1)], true);
    const program = keep(new ElementwiseProgram(engine, example()));
    let turns = 0;
    let running = true;
    const turn = () => {
      turns += 1;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    for (let i = 0; i < 5; i++) await program.run({ a, b }, { scale: 1 }, { next: a });
    running = false;
    assert.ok(turns > 20, `${turns} turns of the event loop`);
  });

  it("ends its threads with the last program that might use them", async () => {
    const pool = ThreadPool.acquire(THREADS);
    const [a, b] = vectors([numbers(LONG, 1), numbers(LONG, 2)], true);
    const programs = [1, 2].map(() => new ElementwiseProgram(engine, example()));
    for (const program of programs) await program.run({ a, b }, { scale: 1 }, { next: a });
    assert.equal(pool.running, THREADS);
    for (const program of programs) {
      program.release();
      program.release(); // again is nothing
    }
    pool.release();
    assert.equal(pool.running, 0);
  });

  it("fails the run, and no more, when a thread fails", async () => {
    const pool = ThreadPool.acquire(THREADS);
    const program = keep(new ElementwiseProgram(engine, example()));
    const [a, b] = vectors([numbers(LONG, 1), numbers(LONG, 2)], true);
    await program.run({ a, b }, { scale: 1 }, { next: a });
    const nothing = kernelCall([], [], 1, 0);
    await assert.rejects(pool.work(999, nothing), refused("RUN_FAILED", /kernel 999 is not loaded/));
    await program.run({ a, b }, { scale: 1 }, { next: a });
    pool.release();
  });

  it("refuses what is missing, of another length or released, by name", async () => {
    const program = keep(new ElementwiseProgram(engine, example()));
    const [a, b] = vectors([numbers(8, 1), numbers(8, 2)], true);
    const short = keep(b.view([7]));
    const bad = (message: RegExp) => refused("INVALID_FEED", message);
    await assert.rejects(program.run({ a }, { scale: 1 }, { next: a }), bad(/^b: expected a value/));
    await assert.rejects(program.run({ a, b }, {}, { next: a }), bad(/^scale: expected a value/));
    await assert.rejects(program.run({ a, b }, { scale: 1 }), bad(/^next: expected a value/));
    await assert.rejects(
      program.run({ a, b: short }, { scale: 1 }, { next: a }),
      bad(/^b: expected float32 \[8\], got float32 \[7\]/),
    );
    program.release();
    await assert.rejects(program.run({ a, b }, { scale: 1 }, { next: a }), refused("RELEASED", /example/));
    assert.deepEqual(await a.read(), numbers(8, 1), "nothing was written");
  });

  it("refuses graphs that are not elementwise, and says why", () => {
    const graphOf = (write: (graph: Graph, x: Tensor) => void) => {
      const graph = new Graph("bad");
      write(graph, graph.input("x", "float32", ["n"]));
      return graph;
    };
    const cases: [Graph, RegExp][] = [
      [graphOf((graph, x) => graph.output("y", x.exp())), /bad is not elementwise: it has Exp; accepted:/],
      [graphOf((graph, x) => graph.output("y", x.sub(x.reduceSum([0], { keepDims: true })))), /ReduceSum/],
      [graphOf((graph) => graph.output("y", graph.constant([1, 2]))), /constant has 2 elements/],
      [
        graphOf((graph, x) => graph.output("y", x.mul(graph.input("m", "float32", ["k", "n"])))),
        /input m has 2 dimensions/,
      ],
      [graphOf((graph) => graph.output("y", graph.input("i", "int64", ["n"]))), /gives int64/],
    ];
    for (const [graph, message] of cases) {
      assert.throws(() => new ElementwiseProgram(engine, graph), refused("COMPILE_FAILED", message));
    }
  });
});

describe("memory for vectors", () => {
  it("hands out as many as it has room for, zeros", async () => {
    const engine = await createEngine({ intraOpThreads: 1 });
    const memory = new VectorMemory(engine, { size: 5, count: 2 });
    const [one, two] = [memory.take(), memory.take()];
    await one.write(Float32Array.of(1, 2, 3, 4, 5));
    assert.deepEqual([...((await two.read()) as Float32Array)], [0, 0, 0, 0, 0]);
    assert.throws(() => memory.take(), { name: "RangeError", message: "all 2 vectors are taken" });
    for (const vector of [one, two]) vector.release();
    await engine.close();
  });

  it("is 4 GiB at most: five vectors of 214 million elements", () => {
    const longest = longestTogether(5);
    assert.equal(longest, 214_748_352);
    assert.ok(5 * 4 * longest <= 2 ** 32);
    assert.equal(longest % 16, 0);
  });
});
