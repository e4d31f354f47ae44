/** @file Tests of a batching server under many callers: cancellation at random, overload, connections that age. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Health } from "../api/gen/grpc/health/v1/health_pb.js";
import { Batcher } from "./admission.js";
import { createClient } from "./client.js";
import { implement } from "./implement.js";
import type { RpcError } from "./rpc-error.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

const open: (() => unknown)[] = [];

/** A server whose model takes `runMs` for a batch of up to `maxItems` texts. */
async function startBatching({ maxItems, runMs, queue }: { maxItems: number; runMs: number; queue: number }) {
  const model = { started: 0, finished: 0, stopped: 0 };
  const batcher = new Batcher<string, string>({
    name: "load",
    ...{ maxItems, maxTokens: 1e6, delayMs: 1, maxQueueItems: queue, maxQueueTokens: 1e6, cost: () => 1 },
    run: async (texts, { signal }) => {
      model.started++;
      try {
        await sleep(runMs, undefined, { signal });
        model.finished++;
      } catch (error) {
        model.stopped++;
        throw error;
      }
      return texts.map((text) => text.toUpperCase());
    },
  });
  const server = await startEcho({
    services: [
      implement(EchoService, {
        ...echoHandlers("load"),
        echo: async ({ text }, { signal, deadline }) => ({
          text: (await batcher.submit(text, { signal, deadline })).result,
        }),
      }),
    ],
  });
  open.push(() => server.drain());
  return { server, batcher, model };
}

describe("a batching server", () => {
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  it("is left with nothing after a thousand calls of which many are cancelled at random", async () => {
    const { server, batcher, model } = await startBatching({ maxItems: 8, runMs: 3, queue: 2000 });
    // so long a deadline that no queue is too long for it, on however busy a machine
    const client = echoClient(server.address, { retry: false, deadlineMs: 600_000 });
    open.push(() => client.close());
    let seed = 7;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed / 2 ** 31;
    };
    const outcomes = await Promise.all(
      Array.from({ length: 1000 }, async (_, i) => {
        await sleep(random() * 200);
        const abort = new AbortController();
        const call = client.echo({ text: `t${i}` }, { signal: abort.signal }).then(
          ({ text }) => {
            assert.equal(text, `T${i}`);
            return "OK";
          },
          (error: RpcError) => error.status,
        );
        if (random() < 0.6) {
          await sleep(random() * 60);
          abort.abort();
        }
        return call;
      }),
    );
    assert.deepEqual([...new Set(outcomes)].sort(), ["CANCELLED", "OK"]);
    await until(() => server.inFlight === 0 && batcher.load.running === 0);
    assert.deepEqual(batcher.load, { items: 0, tokens: 0, running: 0 });
    assert.equal(model.started, model.finished + model.stopped);
  }).timeout(30_000);

  it("in overload goes on at full speed, refuses the rest at once, and still answers probes", async () => {
    const runMs = 80;
    const maxItems = 4;
    const capacity = (maxItems * 1000) / runMs; // 50 a second: little work for a busy test machine
    const { server, batcher } = await startBatching({ maxItems, runMs, queue: 16 });
    const client = echoClient(server.address, { retry: false });
    open.push(() => client.close());
    const health = createClient(Health, server.address, { deadlineMs: 2000, retry: false });
    open.push(() => health.close());
    const outcomes = new Map<string, number>();
    const refusalMs: number[] = [];
    const probeMs: number[] = [];
    const seconds = 2;
    const calls: Promise<unknown>[] = [];
    const startedAt = performance.now();
    // open loop at three times the capacity: arrivals do not wait for answers
    for (let sent = 0; performance.now() - startedAt < seconds * 1000; ) {
      const due = ((performance.now() - startedAt) / 1000) * capacity * 3;
      for (; sent < due; sent++) {
        const at = performance.now();
        const call = client.echo({ text: "x" }).then(
          () => "OK",
          (error: RpcError) => {
            if (error.code === "QUEUE_FULL") refusalMs.push(performance.now() - at);
            return error.code;
          },
        );
        calls.push(call.then((outcome) => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)));
      }
      const at = performance.now();
      if (sent % 5 === 0) calls.push(health.check({}).then(() => probeMs.push(performance.now() - at)));
      await sleep(4);
    }
    await Promise.all(calls);
    const p99 = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
    assert.deepEqual([...outcomes.keys()].sort(), ["OK", "QUEUE_FULL"]);
    const rate = (outcomes.get("OK") ?? 0) / seconds;
    assert.ok(rate > capacity * 0.7, `${rate} of ${capacity} a second`);
    assert.ok(p99(refusalMs) < 300, `refusals p99 ${p99(refusalMs)} ms`);
    assert.ok(p99(probeMs) < 300, `probes p99 ${p99(probeMs)} ms`);
    assert.equal(batcher.load.items, 0);
  }).timeout(30_000);

  it("loses no call when connections are asked to reconnect for their age", async () => {
    const server = await startEcho({ limits: { maxConnectionAgeMs: 150, maxConnectionAgeGraceMs: 2000 } });
    open.push(() => server.drain());
    const client = echoClient(server.address, { retry: false });
    open.push(() => client.close());
    const end = Date.now() + 900;
    let done = 0;
    const callers = Array.from({ length: 5 }, async () => {
      while (Date.now() < end) {
        await client.echo({ delayMs: 5 }, { idempotent: false });
        done++;
      }
    });
    await Promise.all(callers);
    assert.ok(done > 50);
  });
});
