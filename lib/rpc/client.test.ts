/** @file Tests of the client: turns, health, retries, hedging, deadlines, names. */
import assert from "node:assert/strict";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { AddressError } from "./addresses.js";
import { NotReadyError, QueueFullError, WorkerCrashedError } from "./errors.js";
import { implement } from "./implement.js";
import { backoffMs, defaultRetry, Retrier } from "./retry.js";
import { RpcError } from "./rpc-error.js";
import type { RunningServer } from "./server.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService, Mood } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

const quick = { initialMs: 1, maxMs: 5 };

describe("a client", () => {
  const open: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  async function serve(options: Parameters<typeof startEcho>[0] = {}): Promise<RunningServer> {
    const server = await startEcho(options);
    open.push(() => server.drain());
    return server;
  }

  function connect(addresses: string | string[], options: Parameters<typeof echoClient>[1] = {}) {
    const client = echoClient(addresses, options);
    open.push(() => client.close());
    return client;
  }

  /** A server that fails its first calls with these errors. */
  async function failing(...errors: unknown[]) {
    const calls = { count: 0 };
    const server = await serve({
      handlers: {
        echo: async () => {
          calls.count++;
          const error = errors.shift();
          if (error) throw error;
          return { text: "done" };
        },
      },
    });
    return { server, calls };
  }

  describe("with several servers", () => {
    it("gives each its turn", async () => {
      const servers = await Promise.all(["a", "b", "c"].map((name) => serve({ name })));
      const client = connect(servers.map(({ address }) => address));
      await until(() => client.backends().every(({ healthy }) => healthy === true));
      const turns: string[] = [];
      for (let i = 0; i < 9; i++) turns.push((await client.echo({})).server);
      assert.deepEqual(turns.slice(0, 3).sort(), ["a", "b", "c"]);
      assert.deepEqual(turns.slice(3, 6), turns.slice(0, 3));
      assert.deepEqual(turns.slice(6), turns.slice(0, 3));
    });

    it("passes over one that says it does not serve, until it does", async () => {
      const [a, b] = [await serve({ name: "a" }), await serve({ name: "b" })];
      const client = connect([a.address, b.address]);
      const ask = async () => {
        const answers = await Promise.all(Array.from({ length: 6 }, () => client.echo({})));
        return [...new Set(answers.map(({ server }) => server))].sort().join();
      };
      const health = (address: string) => client.backends().find((x) => x.address === address)?.healthy;
      await until(() => health(a.address) === true && health(b.address) === true);
      a.setServing("", false);
      await until(() => health(a.address) === false);
      assert.equal(await ask(), "b");
      a.setServing("", true);
      await until(() => health(a.address) === true);
      assert.equal(await ask(), "a,b");
      a.setServing("", false);
      b.setServing("", false);
      await until(() => health(a.address) === false && health(b.address) === false);
      assert.equal(await ask(), "a,b", "with none healthy any is better than none");
    });

    it("loses no call when one drains or is gone, even those that may not be repeated", async () => {
      const [a, b] = [await serve({ name: "a" }), await serve({ name: "b" })];
      const client = connect([a.address, b.address]);
      const results: string[] = [];
      const load = async () => {
        for (let i = 0; i < 40; i++)
          results.push((await client.echo({ delayMs: 2 }, { idempotent: false })).server);
      };
      const loads = Promise.all([load(), load(), load()]);
      await until(() => results.length > 10);
      await a.drain();
      await loads;
      assert.equal(results.length, 120);
      assert.ok(results.slice(-20).every((server) => server === "b"));
    });
  });

  describe("that retries", () => {
    it("repeats a method without side effects until it succeeds", async () => {
      const { server, calls } = await failing(
        new WorkerCrashedError("x", { retryAfterMs: 1 }),
        new NotReadyError("x", { retryAfterMs: 1 }),
      );
      const client = connect(server.address, { retry: quick });
      assert.equal((await client.echo({})).text, "done");
      assert.equal(calls.count, 3);
    });

    it("repeats another method only where the server did nothing for it", async () => {
      const refused = await failing(new QueueFullError("x", 1));
      const client = connect(refused.server.address, { retry: quick });
      assert.equal((await client.echo({}, { idempotent: false })).text, "done");
      const crashed = await failing(new WorkerCrashedError("x", { retryAfterMs: 1 }));
      const other = connect(crashed.server.address, { retry: quick });
      await assert.rejects(other.echo({}, { idempotent: false }), { code: "WORKER_CRASHED" });
      assert.equal(crashed.calls.count, 1);
    });

    it("gives up after maxAttempts, and does not repeat what cannot get better", async () => {
      const busy = await failing(...Array.from({ length: 9 }, () => new QueueFullError("x", 1)));
      await assert.rejects(connect(busy.server.address, { retry: { ...quick, maxAttempts: 3 } }).echo({}), {
        code: "QUEUE_FULL",
      });
      assert.equal(busy.calls.count, 3);
      const wrong = await failing(Object.assign(new Error("x"), { code: "INVALID_FIELD" }));
      await assert.rejects(connect(wrong.server.address).echo({}), { code: "INVALID_FIELD" });
      assert.equal(wrong.calls.count, 1);
      const off = await failing(new QueueFullError("x", 1));
      await assert.rejects(connect(off.server.address, { retry: false }).echo({}), { code: "QUEUE_FULL" });
    });

    it("waits as long as the server asks, but never past the deadline", async () => {
      const { server } = await failing(new QueueFullError("x", 120));
      const startedAt = Date.now();
      await connect(server.address, { retry: quick }).echo({});
      assert.ok(Date.now() - startedAt >= 115);
      const slow = await failing(new QueueFullError("x", 5000));
      const before = Date.now();
      await assert.rejects(connect(slow.server.address, { deadlineMs: 300 }).echo({}), {
        code: "QUEUE_FULL",
      });
      assert.ok(Date.now() - before < 300);
    });

    it("stops waiting when the caller cancels", async () => {
      const { server } = await failing(new QueueFullError("x", 5000));
      const abort = new AbortController();
      const answer = connect(server.address).echo({}, { signal: abort.signal });
      setTimeout(() => abort.abort(), 50);
      const startedAt = Date.now();
      await assert.rejects(answer, { status: "CANCELLED" });
      assert.ok(Date.now() - startedAt < 1000);
    });

    it("starts a stream again only while the caller has seen nothing of it", async () => {
      let calls = 0;
      const server = await serve({
        handlers: {
          async *echoMany({ count }) {
            calls++;
            if (calls === 1) throw new NotReadyError("x", { retryAfterMs: 1 });
            yield { index: 0 };
            if (count > 1) throw new NotReadyError("x", { retryAfterMs: 1 });
          },
        },
      });
      const client = connect(server.address, { retry: quick });
      const seen: number[] = [];
      for await (const { index } of client.echoMany({ count: 1 })) seen.push(index);
      assert.deepEqual([seen, calls], [[0], 2]);
      await assert.rejects(
        (async () => {
          for await (const { index } of client.echoMany({ count: 2 })) seen.push(index);
        })(),
        { code: "NOT_READY" },
      );
      assert.deepEqual([seen, calls], [[0, 0], 3]);
    });

    it("comes back to a server that was restarted on its address", async () => {
      const first = await startEcho();
      const client = connect(first.address, { retry: { initialMs: 50, maxAttempts: 20, throttle: false } });
      await client.echo({});
      await first.drain();
      const answer = client.echo({ text: "again" });
      await serve({ listen: first.address });
      assert.equal((await answer).text, "again");
    });

    it("has delays that grow, and stops while most calls fail", () => {
      const policy = { initialMs: 100, maxMs: 1000 };
      assert.deepEqual(
        [1, 2, 3, 4, 5, 50].map((n) => backoffMs(n, policy, () => 1)),
        [100, 200, 400, 800, 1000, 1000],
      );
      assert.equal(
        backoffMs(1, policy, () => 0),
        50,
      );
      const retrier = new Retrier(defaultRetry);
      const error = new RpcError(
        Object.assign(new Error("x"), { code: 14, details: "x", metadata: new Metadata() }) as ServiceError,
        "/a.B/C",
        "h:1",
      );
      const allowed = Array.from({ length: 8 }, () => retrier.delayAfter(error, 1, true) !== undefined);
      assert.deepEqual(allowed, [true, true, true, true, false, false, false, false]);
      for (let i = 0; i < 100; i++) retrier.succeeded();
      assert.notEqual(retrier.delayAfter(error, 1, true), undefined);
    });
  });

  describe("that hedges", () => {
    it("asks a second server when the first is slow, and cancels the loser", async () => {
      let slowEnded = false;
      const slow = await serve({
        name: "slow",
        handlers: {
          echo: (_request, { signal }) =>
            new Promise((_, reject) => {
              signal.addEventListener("abort", () => {
                slowEnded = true;
                reject(signal.reason);
              });
            }),
        },
      });
      const fast = await serve({ name: "fast" });
      const client = connect([slow.address, fast.address], { hedging: { delayMs: 30 }, deadlineMs: 5000 });
      for (let i = 0; i < 4; i++) assert.equal((await client.echo({})).server, "fast");
      await until(() => slowEnded);
    });

    it("does not hedge what has side effects, nor with one server", async () => {
      let calls = 0;
      const server = await serve({
        handlers: {
          echo: async () => {
            calls++;
            await new Promise((resolve) => setTimeout(resolve, 60));
            return {};
          },
        },
      });
      await connect(server.address, { hedging: { delayMs: 5 } }).echo({});
      const other = await serve();
      const both = connect([server.address, other.address], { hedging: { delayMs: 5 } });
      await both.echo({}, { idempotent: false });
      await both.echo({}, { idempotent: false });
      assert.equal(calls, 2);
    });

    it("succeeds if either does, and fails with an error of the table if both fail", async () => {
      const broken = await serve({
        name: "broken",
        handlers: {
          echo: async () => {
            await new Promise((resolve) => setTimeout(resolve, 40));
            throw Object.assign(new Error("x"), { code: "UNKNOWN_MODEL" });
          },
        },
      });
      const good = await serve({ name: "good" });
      const client = connect([broken.address, good.address], { hedging: { delayMs: 10 } });
      for (let i = 0; i < 4; i++) assert.equal((await client.echo({ delayMs: 60 })).server, "good");
      const both = connect(broken.address, { hedging: { delayMs: 10 } });
      await assert.rejects(both.echo({}), { status: "NOT_FOUND" });
    });
  });

  describe("and time", () => {
    it("always sends a deadline, at most 24 hours", async () => {
      const client = connect((await serve()).address, { deadlineMs: 7000 });
      const remaining = async (options = {}) => (await client.echo({}, options)).remainingMs ?? Number.NaN;
      const about = (actual: number, expected: number) =>
        assert.ok(actual > expected - 2000 && actual <= expected, `${actual}`);
      about(await remaining(), 7000);
      about(await remaining({ deadlineMs: 9000 }), 9000);
      about(await remaining({ deadline: Date.now() + 5000 }), 5000);
      about(await remaining({ deadlineMs: 1e15 }), 24 * 3600 * 1000);
      const bound = connect((await serve()).address, { deadlineMs: 60_000, deadline: Date.now() + 4000 });
      about((await bound.echo({})).remainingMs ?? Number.NaN, 4000);
      about((await bound.echo({}, { deadlineMs: 2500 })).remainingMs ?? Number.NaN, 2500);
    });

    it("passes on the deadline and the cancellation of the call it serves", async () => {
      const inner = connect((await serve()).address, { deadlineMs: 60_000 });
      const front = await serve({
        handlers: { echo: (request, ctx) => inner.echo({ ...request, delayMs: 0 }, { parent: ctx }) },
      });
      const client = connect(front.address);
      const { remainingMs } = await client.echo({}, { deadlineMs: 3000 });
      assert.ok(remainingMs !== undefined && remainingMs <= 3000);
      const abort = new AbortController();
      const answer = client.echo({ mood: Mood.STUCK }, { signal: abort.signal });
      setTimeout(() => abort.abort(), 50);
      await assert.rejects(answer, { status: "CANCELLED" });
    });

    it("ends with UNAVAILABLE, not with silence, where nobody listens", async () => {
      const { address } = await startEcho().then(async (server) => {
        await server.drain();
        return server;
      });
      const startedAt = Date.now();
      await assert.rejects(connect(address, { retry: quick }).echo({}), {
        status: "UNAVAILABLE",
        code: "UNAVAILABLE",
      });
      assert.ok(Date.now() - startedAt < 3000);
      await assert.rejects(
        connect(address).waitForReady(200),
        /no server is ready after 200 ms: .*TRANSIENT_FAILURE|CONNECTING/,
      );
    });

    it("is ready once a server is connected and serves", async () => {
      const server = await serve({ serving: false });
      const client = connect(server.address, { healthCheck: true });
      await assert.rejects(client.waitForReady(150), /NOT_SERVING/);
      server.setServing("", true);
      await client.waitForReady(5000);
    });
  });

  describe("and names", () => {
    it("looks a name up, calls every address behind it, and follows changes", async () => {
      const a = await serve({ name: "a" });
      const port = a.address.split(":")[1];
      await serve({ name: "c", listen: `127.0.0.2:${port}` });
      let ips = ["127.0.0.1"];
      const client = connect(`reward.test:${port}`, { resolve: async () => ips, retry: quick });
      assert.equal((await client.echo({})).server, "a");
      ips = ["127.0.0.2"];
      await a.drain();
      // a failed call has the name looked up, at most once a second
      await until(async () => (await client.echo({}).catch(() => undefined))?.server === "c");
      assert.deepEqual(
        client.backends().map(({ address }) => address),
        [`ipv4:127.0.0.2:${port}`],
      );
    });

    it("says why there is no server", async () => {
      const client = connect("no-such-host.invalid:1", {
        resolve: () => Promise.reject(new Error("getaddrinfo ENOTFOUND no-such-host.invalid")),
        retry: quick,
      });
      await assert.rejects(client.echo({}), {
        status: "UNAVAILABLE",
        message: /ENOTFOUND no-such-host\.invalid/,
      });
    });

    it("that are no addresses are refused at once", () => {
      for (const wrong of ["reward", "http://reward:1", "reward:0", "reward:99999", "", "a b:1"]) {
        assert.throws(() => echoClient(wrong), AddressError, wrong);
      }
      assert.throws(() => echoClient([]), RangeError);
    });
  });

  it("carries the headers it is given", async () => {
    const seen: unknown[] = [];
    const echo = echoHandlers("x");
    const handlers = {
      ...echo,
      echo: ((request, ctx) => {
        seen.push(...ctx.metadata.get("x-tenant"));
        return echo.echo(request, ctx);
      }) satisfies typeof echo.echo,
    };
    const server = await serve({ services: [implement(EchoService, handlers)] });
    await connect(server.address).echo({}, { metadata: { "x-tenant": "t1" } });
    assert.deepEqual(seen, ["t1"]);
  });
});
