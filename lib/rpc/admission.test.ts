/** @file Tests of the batcher: budgets, order, refusals, deadlines, cancellation; and properties under random load. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { withSpan } from "../telemetry/index.js";
import { type BatchContext, Batcher, type BatcherOptions, holding } from "./admission.js";
import { CancelledError, DeadlineError, DrainingError, QueueFullError } from "./errors.js";
import { recordTelemetry } from "./testing/telemetry.js";
import { until } from "./testing/until.js";

/** A batch that waits until the test lets it go. */
interface HeldBatch {
  items: number[];
  context: BatchContext;
  release: (results?: (number | Error)[]) => void;
  fail: (error: Error) => void;
}

describe("the batcher", () => {
  const batchers: { close(): void }[] = [];
  afterEach(() => {
    for (const batcher of batchers.splice(0)) batcher.close();
  });

  /** A batcher whose item n costs n tokens and results in 10 n. */
  function make(options: Partial<BatcherOptions<number, number>> = {}) {
    const batches: HeldBatch[] = [];
    const batcher = new Batcher<number, number>({
      name: "test",
      maxItems: 4,
      maxTokens: 100,
      delayMs: 0,
      maxQueueItems: 10,
      maxQueueTokens: 1000,
      cost: (n) => n,
      run: (items, context) =>
        new Promise((resolve, fail) => {
          const release = (results?: (number | Error)[]) => resolve(results ?? items.map((n) => n * 10));
          batches.push({ items, context, release, fail });
        }),
      ...options,
    });
    batchers.push(batcher);
    return { batcher, batches };
  }

  it("runs what waits together, and gives each its own result", async () => {
    const { batcher, batches } = make({ delayMs: 5 });
    const calls = [1, 2, 3].map((n) => batcher.submit(n));
    await until(() => batches.length === 1);
    assert.deepEqual(batches[0]?.items, [1, 2, 3]);
    batches[0]?.release();
    assert.deepEqual(
      (await Promise.all(calls)).map(({ result }) => result),
      [10, 20, 30],
    );
  });

  it("keeps the order of a call's items over several batches", async () => {
    const { batcher, batches } = make({ maxItems: 2 });
    const call = batcher.submitAll([5, 1, 4, 2, 3]);
    for (let done = 0; done < 3; done++) {
      await until(() => batches.length === done + 1);
      batches[done]?.release();
    }
    assert.deepEqual((await call).results, [50, 10, 40, 20, 30]);
  });

  it("counts padding: longest times count stays within the budget, and short items fill what long ones leave", async () => {
    const { batcher, batches } = make({ maxItems: 100, maxTokens: 100, delayMs: 5 });
    const call = batcher.submitAll([40, 10, 60, 40, 10]);
    await until(() => batches.length === 1);
    assert.deepEqual(batches[0]?.items, [40, 10]); // 40 × 2; with 60 it would be 180, with a second 40 120
    assert.equal(batches[0]?.context.tokens, 80);
    batches[0]?.release();
    await until(() => batches.length === 2);
    assert.deepEqual(batches[1]?.items, [60]);
    batches[1]?.release();
    await until(() => batches.length === 3);
    assert.deepEqual(batches[2]?.items, [40, 10]);
    batches[2]?.release();
    assert.deepEqual((await call).results, [400, 100, 600, 400, 100]);
    const { batcher: packed, batches: sums } = make({
      maxItems: 100,
      maxTokens: 100,
      padded: false,
      delayMs: 5,
    });
    void packed.submitAll([40, 10, 50]);
    await until(() => sums.length === 1);
    assert.deepEqual(sums[0]?.items, [40, 10, 50]);
    sums[0]?.release();
  });

  it("runs an item that is larger than the budget alone", async () => {
    const { batcher, batches } = make();
    const call = batcher.submitAll([500, 1]);
    await until(() => batches.length === 1);
    assert.deepEqual(batches[0]?.items, [500]);
    batches[0]?.release();
    await until(() => batches.length === 2);
    batches[1]?.release();
    await call;
  });

  it("does not wait for company once the batch is full", async () => {
    const { batcher, batches } = make({ delayMs: 60_000 });
    const call = batcher.submitAll([1, 1, 1, 1]);
    await until(() => batches.length === 1);
    batches[0]?.release();
    await call;
  });

  it("runs several batches at once where asked to", async () => {
    const { batcher, batches } = make({ maxItems: 1, concurrency: 2 });
    const call = batcher.submitAll([1, 2, 3]);
    await until(() => batches.length === 2);
    assert.deepEqual(batcher.load, { items: 1, tokens: 3, running: 2 });
    for (const i of [0, 1]) batches[i]?.release();
    await until(() => batches.length === 3);
    batches[2]?.release();
    assert.deepEqual((await call).results, [10, 20, 30]);
  });

  it("admits a call whole or refuses it at once, in items and in tokens, and says when to come back", async () => {
    const { batcher, batches } = make({ maxItems: 1, maxQueueItems: 3, maxQueueTokens: 50 });
    const running = batcher.submit(1);
    await until(() => batches.length === 1);
    const waiting = batcher.submitAll([10, 10]);
    await assert.rejects(batcher.submitAll([1, 1]), QueueFullError);
    await assert.rejects(batcher.submit(31), (error) => {
      assert.ok(error instanceof QueueFullError);
      assert.ok((error.retryAfterMs ?? 0) >= 37 && (error.retryAfterMs ?? 0) <= 6250);
      return true;
    });
    assert.throws(() => batcher.reserve(2), QueueFullError);
    batcher.reserve(1).release();
    assert.deepEqual(batcher.load, { items: 2, tokens: 20, running: 1 });
    const third = batcher.submit(5);
    for (let i = 0; i < 4; i++) {
      await until(() => batches.length === i + 1);
      batches[i]?.release();
    }
    await Promise.all([running, waiting, third]);
  });

  it("refuses at once what would wait for more than half of the time until its deadline, once it knows its speed", async () => {
    const { batcher, batches } = make({ maxItems: 1, maxQueueItems: 100 });
    const calls = [10, 10, 10, 10].map((n) => batcher.submit(n, { deadline: Date.now() + 60_000 }));
    await until(() => batches.length === 1);
    batches[0]?.release();
    await until(() => batches.length === 2);
    batcher.reserve(1, Date.now() + 600).release(); // the first one left nobody waiting: nothing is known yet
    await new Promise((resolve) => setTimeout(resolve, 200)); // at least 20 ms a token
    batches[1]?.release();
    await until(() => batches.length === 3);
    // 20 tokens run or wait: at least 400 ms
    const soon = batcher.submit(1, { deadline: Date.now() + 600 });
    await assert.rejects(soon, /queue is too long for the deadline/);
    await assert.rejects(soon, QueueFullError);
    assert.throws(() => batcher.reserve(1, Date.now() + 600), QueueFullError);
    batcher.reserve(1, Date.now() + 60_000).release();
    batcher.reserve(1).release();
    const later = batcher.submit(1, { deadline: Date.now() + 60_000 });
    for (let i = 2; i < 5; i++) {
      await until(() => batches.length === i + 1);
      batches[i]?.release();
    }
    await Promise.all([...calls, later]);
  });

  it("keeps the places of calls that are still being prepared, until they come or give up", async () => {
    const { batcher, batches } = make({ maxItems: 1, maxQueueItems: 4, maxQueueTokens: 50 });
    const running = batcher.submit(1);
    await until(() => batches.length === 1);
    const [coming, leaving] = [batcher.reserve(2), batcher.reserve(2)];
    assert.throws(() => batcher.reserve(1), QueueFullError);
    await assert.rejects(batcher.submit(1), QueueFullError);
    const prepared = batcher.submitAll([10, 10], { place: coming });
    coming.release(); // holds nothing any more
    assert.throws(() => batcher.reserve(1), QueueFullError);
    leaving.release();
    leaving.release();
    batcher.reserve(2).release();
    await assert.rejects(batcher.submitAll([1, 1, 1], { place: batcher.reserve(2) }), QueueFullError);
    const failed = holding(batcher.reserve(2), () => Promise.reject(new Error("not prepared")));
    await assert.rejects(failed, /not prepared/);
    batcher.reserve(2).release();
    for (let i = 0; i < 3; i++) {
      await until(() => batches.length === i + 1);
      batches[i]?.release();
    }
    await Promise.all([running, prepared]);
  });

  it("admits any one call to an empty queue", async () => {
    const { batcher, batches } = make({ maxQueueItems: 2, maxItems: 10 });
    const call = batcher.submitAll([1, 2, 3, 4]);
    await until(() => batches.length === 1);
    batches[0]?.release();
    assert.equal((await call).results.length, 4);
  });

  it("never runs what was cancelled while it waited", async () => {
    const { batcher, batches } = make({ maxItems: 1 });
    const first = batcher.submit(1);
    await until(() => batches.length === 1);
    const abort = new AbortController();
    const cancelled = batcher.submitAll([2, 3], { signal: abort.signal });
    const last = batcher.submit(4);
    abort.abort();
    await assert.rejects(cancelled, CancelledError);
    assert.deepEqual(batcher.load, { items: 1, tokens: 4, running: 1 });
    batches[0]?.release();
    await until(() => batches.length === 2);
    assert.deepEqual(batches[1]?.items, [4]);
    batches[1]?.release();
    await Promise.all([first, last]);
    await assert.rejects(batcher.submit(1, { signal: AbortSignal.abort() }), CancelledError);
  });

  it("stops a batch that nobody waits for any more, and only then", async () => {
    const { batcher, batches } = make({ delayMs: 5 });
    const [one, two] = [new AbortController(), new AbortController()];
    const calls = [batcher.submit(1, { signal: one.signal }), batcher.submit(2, { signal: two.signal })];
    await until(() => batches.length === 1);
    one.abort();
    await assert.rejects(calls[0] as Promise<unknown>, CancelledError);
    assert.equal(batches[0]?.context.signal.aborted, false);
    two.abort();
    await assert.rejects(calls[1] as Promise<unknown>, CancelledError);
    assert.equal(batches[0]?.context.signal.aborted, true);
    batches[0]?.release();
  });

  it("drops what is too late when its turn comes, or certainly would be", async () => {
    const { batcher, batches } = make({ maxItems: 1 });
    const first = batcher.submit(10);
    await until(() => batches.length === 1);
    const late = batcher.submit(1, { deadline: Date.now() + 20 });
    const dropped = assert.rejects(late, DeadlineError);
    await new Promise((resolve) => setTimeout(resolve, 40)); // 10 tokens take 40 ms: 4 ms a token
    batches[0]?.release();
    await Promise.all([first, dropped]);
    await assert.rejects(batcher.submit(100, { deadline: Date.now() + 100 }), DeadlineError); // would take 400 ms
    assert.equal(batches.length, 1);
    const inTime = batcher.submit(2, { deadline: Date.now() + 1000 });
    await until(() => batches.length === 2);
    assert.ok((batches[1]?.context.deadline ?? 0) > Date.now());
    batches[1]?.release();
    await inTime;
  });

  it("does not make a batch so large that the most urgent in it would be late", async () => {
    const { batcher, batches } = make({ maxItems: 10 });
    const first = batcher.submit(10);
    await until(() => batches.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 100)); // at least 10 ms a token
    const urgent = batcher.submit(5, { deadline: Date.now() + 10_000 });
    const calls = [5, 5, 5].map((n) => batcher.submit(n, { deadline: Date.now() + 60_000 }));
    const now = Date.now;
    Date.now = () => now() + 9800; // 200 ms are left: for the urgent one and perhaps the next, not for all
    batches[0]?.release();
    await until(() => batches.length === 2).finally(() => {
      Date.now = now;
    });
    assert.ok((batches[1]?.items.length ?? 9) < 4, `${batches[1]?.items}`);
    batches[1]?.release();
    await until(() => batches.length === 3);
    batches[2]?.release();
    await Promise.all([first, urgent, ...calls]);
  });

  it("fails one item alone where its result is an error, and all where the batch fails", async () => {
    const { batcher, batches } = make({ delayMs: 5 });
    const calls = [batcher.submit(1), batcher.submit(2)];
    await until(() => batches.length === 1);
    batches[0]?.release([new Error("only one"), 20]);
    await assert.rejects(calls[0] as Promise<unknown>, /only one/);
    assert.equal((await calls[1])?.result, 20);
    const both = [batcher.submit(1), batcher.submit(2)].map((call) => assert.rejects(call, /all of it/));
    await until(() => batches.length === 2);
    batches[1]?.fail(new Error("all of it"));
    await Promise.all(both);
    const wrong = assert.rejects(batcher.submit(1), /1 items were run, 0 results came back/);
    await until(() => batches.length === 3);
    batches[2]?.release([]);
    await wrong;
  });

  it("finishes what runs when it closes, and refuses the rest", async () => {
    const { batcher, batches } = make({ maxItems: 1 });
    const running = batcher.submit(1);
    await until(() => batches.length === 1);
    const waiting = batcher.submit(2);
    batcher.close();
    await assert.rejects(waiting, DrainingError);
    await assert.rejects(batcher.submit(3), DrainingError);
    batches[0]?.release();
    assert.equal((await running).result, 10);
  });

  it("says how long a call waited and ran, and traces the batch with a link to every call", async () => {
    const telemetry = recordTelemetry();
    try {
      const { batcher, batches } = make({ delayMs: 5 });
      const traced = (n: number) =>
        withSpan("rlhf.score", { parent: "root" }, async (span) => {
          await batcher.submit(n);
          return span.spanContext().spanId;
        });
      const calls = [traced(1), traced(2)];
      await until(() => batches.length === 1);
      batches[0]?.release();
      const parents = await Promise.all(calls);
      const run = telemetry.spans().find(({ name }) => name === "rlhf.model.run");
      assert.deepEqual(run?.links.map((link) => link.context.spanId).sort(), parents.sort());
      assert.equal(run?.attributes["rlhf.batch.size"], 2);
      const [size] = await telemetry.points("rlhf.batch.size");
      assert.deepEqual(size?.attributes, { "rlhf.queue": "test" });
      const single = batcher.submit(3);
      await until(() => batches.length === 2);
      setTimeout(() => batches[1]?.release(), 30);
      const { queueMs, runMs } = await single;
      assert.ok(queueMs >= 4 && queueMs < 1000 && runMs >= 25 && runMs < 1000, `${queueMs} ${runMs}`);
    } finally {
      await telemetry.stop();
    }
  });

  it("loses, swaps and doubles nothing under any load", async () => {
    const call = fc.record({
      items: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 0, maxLength: 6 }),
      cancelAfter: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
      wait: fc.integer({ min: 0, max: 2 }),
    });
    const load = fc.record({
      calls: fc.array(call, { minLength: 1, maxLength: 25 }),
      maxItems: fc.integer({ min: 1, max: 5 }),
      maxTokens: fc.integer({ min: 10, max: 200 }),
      delayMs: fc.constantFrom(0, 1),
      concurrency: fc.integer({ min: 1, max: 3 }),
      failEvery: fc.integer({ min: 2, max: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(load, async ({ calls, failEvery, ...options }) => {
        const started: string[] = [];
        let batches = 0;
        const batcher = new Batcher<{ id: string; cost: number }, string>({
          name: "property",
          maxQueueItems: 20,
          maxQueueTokens: 600,
          cost: ({ cost }) => cost,
          ...options,
          run: async (items) => {
            const costs = items.map(({ cost }) => cost);
            assert.ok(items.length <= options.maxItems);
            assert.ok(items.length === 1 || Math.max(...costs) * items.length <= options.maxTokens);
            started.push(...items.map(({ id }) => id));
            await new Promise((resolve) => setImmediate(resolve));
            if (++batches % failEvery === 0) throw new Error("batch failed");
            return items.map(({ id }) => `result of ${id}`);
          },
        });
        const outcomes = await Promise.all(
          calls.map(async ({ items, cancelAfter, wait }, c) => {
            for (let i = 0; i < wait; i++) await new Promise((resolve) => setImmediate(resolve));
            const abort = new AbortController();
            const ids = items.map((cost, i) => ({ id: `${c}.${i}`, cost }));
            const done = batcher.submitAll(ids, { signal: abort.signal }).then(
              ({ results }) => {
                assert.deepEqual(
                  results,
                  ids.map(({ id }) => `result of ${id}`),
                );
                return "done";
              },
              (error: Error) => {
                if (error instanceof assert.AssertionError) throw error;
                return error instanceof QueueFullError ? "refused" : error.message;
              },
            );
            if (cancelAfter !== undefined) {
              for (let i = 0; i < cancelAfter; i++) await new Promise((resolve) => setImmediate(resolve));
              abort.abort();
            }
            const outcome = await done;
            if (outcome === "refused")
              assert.ok(!started.some((id) => id.startsWith(`${c}.`)), "a refused call ran");
            if (outcome === "done")
              assert.equal(started.filter((id) => id.startsWith(`${c}.`)).length, ids.length);
            return outcome;
          }),
        );
        assert.equal(outcomes.length, calls.length);
        assert.equal(new Set(started).size, started.length, "nothing ran twice");
        await until(() => batcher.load.running === 0);
        assert.deepEqual(batcher.load, { items: 0, tokens: 0, running: 0 });
        batcher.close();
      }),
      { numRuns: 60 },
    );
  }).timeout(30_000);
});
