/** @file Tests of calls from end to end over real sockets: the four kinds, cancellation, deadlines, handlers that misbehave. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { CancelledError, DeadlineError } from "./errors.js";
import type { CallContext } from "./implement.js";
import { implement } from "./implement.js";
import { RpcError } from "./rpc-error.js";
import type { RunningServer } from "./server.js";
import { type EchoHandlers, echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService, Mood } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

const path = "/rlhf.testing.v1.EchoService/Echo";

describe("a call", () => {
  const open: (() => unknown)[] = [];
  const seen: CallContext[] = [];
  const logged: { facts: object; message?: string }[] = [];

  async function start(handlers: Partial<EchoHandlers> = {}): Promise<RunningServer> {
    const log = {
      debug() {},
      info() {},
      warn() {},
      error: (facts: object, message?: string) => logged.push({ facts, message }),
      child: () => log,
    };
    const services = [implement(EchoService, { ...echoHandlers("echo", {}, seen), ...handlers })];
    const server = await startEcho({ services, log, drain: { hardLimitMs: 500 } });
    open.push(() => server.drain());
    return server;
  }

  function connect(server: RunningServer, options = {}) {
    const client = echoClient(server.address, { retry: false, ...options });
    open.push(() => client.close());
    return client;
  }

  /** Sends bytes as they are. */
  function sendRaw(server: RunningServer, wire: Buffer): Promise<RpcError | undefined> {
    const client = new Client(server.address, credentials.createInsecure());
    open.push(() => client.close());
    const same = (bytes: Buffer) => bytes;
    return new Promise((resolve) => {
      client.makeUnaryRequest(path, same, same, wire, new Metadata(), {}, (error) => {
        resolve(error ? new RpcError(error, path, server.address) : undefined);
      });
    });
  }

  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
    seen.length = 0;
    logged.length = 0;
  });

  it("takes one message and gives one back", async () => {
    const response = await connect(await start()).echo({
      text: "héllo",
      data: new Uint8Array([0, 255]),
      mood: 1,
    });
    assert.deepEqual([response.text, [...response.data], response.mood], ["héllo", [0, 255], Mood.PROMPT]);
  });

  it("streams from the server, in order, more than fits the windows", async () => {
    const indices: number[] = [];
    for await (const { index } of connect(await start()).echoMany({ text: "x".repeat(1000), count: 500 })) {
      indices.push(index);
    }
    assert.deepEqual(
      indices,
      Array.from({ length: 500 }, (_, i) => i),
    );
  });

  it("streams to the server", async () => {
    const texts = Array.from({ length: 100 }, (_, i) => ({ text: String(i) }));
    const { text } = await connect(await start()).echoJoin(texts);
    assert.equal(text, texts.map((t) => t.text).join(","));
  });

  it("streams both ways at once", async () => {
    const client = connect(await start());
    const answers: string[] = [];
    let next = (_: string) => {};
    async function* ask() {
      // each question is asked after the answer to the one before
      for (const text of ["a", "b", "c"]) {
        const answered = new Promise<string>((resolve) => {
          next = resolve;
        });
        yield { text };
        await answered;
      }
    }
    for await (const { text } of client.echoEach(ask())) {
      answers.push(text);
      next(text);
    }
    assert.deepEqual(answers, ["a", "b", "c"]);
  });

  it("accepts an empty message and an empty stream", async () => {
    const client = connect(await start());
    assert.equal((await client.echo({})).text, "");
    assert.equal((await client.echoJoin([])).text, "");
    const none: unknown[] = [];
    for await (const message of client.echoMany({ count: 0 })) none.push(message);
    assert.equal(none.length, 0);
  });

  it("answers bytes that are no message with INVALID_ARGUMENT and never reaches the handler", async () => {
    const server = await start();
    for (const wire of [
      Buffer.from([0x0a, 0x7f, 0x61]),
      Buffer.from([0x0a, 0x02, 0xc3, 0x28]),
      Buffer.from([0xff]),
    ]) {
      const error = await sendRaw(server, wire);
      assert.deepEqual([error?.status, error?.code], ["INVALID_ARGUMENT", "UNDECODABLE"]);
    }
    assert.equal(seen.length, 0);
  });

  it("answers an unknown enum number with INVALID_ARGUMENT and the path of the field", async () => {
    const client = connect(await start());
    const error = await client.echo({ items: [{}, { mood: 42 as Mood }] }).catch((e: unknown) => e);
    assert.ok(error instanceof RpcError);
    assert.equal(error.status, "INVALID_ARGUMENT");
    assert.deepEqual(error.violations, [
      {
        field: "items[1].mood",
        description: "has no value 42; accepted: MOOD_UNSPECIFIED, MOOD_PROMPT, MOOD_STUCK",
      },
    ]);
  });

  it("tells the handler when the caller cancels, and counts as finished", async () => {
    const server = await start();
    const abort = new AbortController();
    const answer = connect(server).echo({ mood: Mood.STUCK }, { signal: abort.signal });
    await until(() => seen.length === 1);
    assert.equal(server.inFlight, 1);
    abort.abort();
    await assert.rejects(answer, { status: "CANCELLED", code: "CANCELLED" });
    await until(() => seen[0]?.signal.aborted === true);
    assert.ok(seen[0]?.signal.reason instanceof CancelledError);
    await until(() => server.inFlight === 0);
  });

  it("does not tell the handler of a cancellation after success", async () => {
    const abort = new AbortController();
    const server = await start();
    await connect(server).echo({ text: "done" }, { signal: abort.signal });
    abort.abort();
    await sleep(50); // grpc-js says `cancelled` 1 to 2 ms after success
    assert.equal(seen[0]?.signal.aborted, false);
  });

  it("is not sent at all if it was cancelled before", async () => {
    const server = await start();
    await assert.rejects(connect(server).echo({}, { signal: AbortSignal.abort() }), { status: "CANCELLED" });
    assert.equal(seen.length, 0);
  });

  it("ends at its deadline even if the handler does not listen", async () => {
    const server = await start({ echo: () => new Promise(() => {}) });
    const startedAt = Date.now();
    await assert.rejects(connect(server).echo({}, { deadlineMs: 100 }), {
      status: "DEADLINE_EXCEEDED",
      code: "DEADLINE",
    });
    assert.ok(Date.now() - startedAt < 1000);
    await until(() => server.inFlight === 0);
  });

  it("tells the handler of the deadline, and that it passed", async () => {
    const client = connect(await start());
    const { remainingMs } = await client.echo({}, { deadlineMs: 5000 });
    assert.ok(remainingMs !== undefined && remainingMs > 3000 && remainingMs <= 5000);
    await assert.rejects(client.echo({ mood: Mood.STUCK }, { deadlineMs: 80 }), {
      status: "DEADLINE_EXCEEDED",
    });
    await until(() => seen[1]?.signal.aborted === true);
    assert.ok(seen[1]?.signal.reason instanceof DeadlineError);
  });

  it("survives a handler that rejects, throws at once, throws no Error, or rejects after the end", async () => {
    const failures: (() => Promise<never>)[] = [
      async () => Promise.reject(new Error("secret: disk /dev/sda is full")),
      () => {
        throw new TypeError("secret: x is not a function");
      },
      () => {
        throw "secret string";
      },
      async () => {
        await sleep(120);
        throw new Error("too late to matter");
      },
    ];
    let next = 0;
    const server = await start({ echo: () => failures[next++]?.() as Promise<never> });
    const client = connect(server);
    for (let i = 0; i < 3; i++) {
      const error = await client.echo({}).catch((e: unknown) => e);
      assert.ok(error instanceof RpcError);
      assert.equal(error.status, "INTERNAL");
      assert.doesNotMatch(error.message, /secret/);
      assert.doesNotMatch(JSON.stringify(error.details.map(String)), /secret/);
    }
    assert.match(String((logged[0]?.facts as { err: Error } | undefined)?.err.message), /disk/); // the log has the cause
    await assert.rejects(client.echo({}, { deadlineMs: 50 }), { status: "DEADLINE_EXCEEDED" });
    await sleep(150);
    assert.equal(logged.length, 3); // what came too late was expected to be lost
    next = 0;
    await assert.rejects(client.echo({}), { status: "INTERNAL" }); // still alive
  });

  it("sends an error after the messages of a stream", async () => {
    const client = connect(await start());
    const indices: number[] = [];
    const error = await (async () => {
      for await (const { index } of client.echoMany({ text: "a", count: 3, fail: "QUEUE_FULL" }))
        indices.push(index);
    })().catch((e: unknown) => e);
    assert.deepEqual(indices, [0, 1, 2]);
    assert.ok(error instanceof RpcError);
    assert.deepEqual(
      [error.status, error.code, error.retryDelayMs],
      ["RESOURCE_EXHAUSTED", "QUEUE_FULL", 1000],
    );
  });

  it("survives streams whose handlers throw at once, or answer before they have read everything", async () => {
    const server = await start({
      echoMany: () => {
        throw new Error("at once");
      },
      echoJoin: async (requests) => {
        for await (const { text } of requests) return { text: `only ${text}` };
        return {};
      },
      // biome-ignore lint/correctness/useYield: fails before it yields
      async *echoEach() {
        throw new Error("at once");
      },
    });
    const client = connect(server);
    await assert.rejects(client.echoMany({ count: 1 })[Symbol.asyncIterator]().next(), {
      status: "INTERNAL",
    });
    await assert.rejects(
      client
        .echoEach([{ text: "a" }])
        [Symbol.asyncIterator]()
        .next(),
      { status: "INTERNAL" },
    );
    assert.equal((await client.echoJoin([{ text: "a" }, { text: "b" }])).text, "only a");
  });

  it("ends a generator whose reader leaves, running its finally blocks", async () => {
    let cleaned = false;
    const server = await start({
      async *echoMany() {
        try {
          for (let index = 0; ; index++) {
            yield { index };
            await sleep(5);
          }
        } finally {
          cleaned = true;
        }
      },
    });
    for await (const { index } of connect(server).echoMany({})) if (index === 2) break;
    await until(() => cleaned);
    await until(() => server.inFlight === 0);
  });

  it("does not run ahead of a reader that is slow", async () => {
    let made = 0;
    const server = await start({
      async *echoMany() {
        for (; made < 2000; made++) yield { text: "x".repeat(20_000), index: made };
      },
    });
    const iterator = connect(server).echoMany({})[Symbol.asyncIterator]();
    await iterator.next();
    await sleep(200);
    assert.ok(made < 500, `${made} messages of 20 kB were made for a reader that took one`);
    await iterator.return?.();
  });

  it("gives each handler an id, which the caller may choose", async () => {
    const client = connect(await start());
    await client.echo({}, { metadata: { "x-request-id": "run-7.batch-3" } });
    await client.echo({}, { metadata: { "x-request-id": "not <safe> to log" } });
    assert.equal(seen[0]?.requestId, "run-7.batch-3");
    assert.match(seen[1]?.requestId ?? "", /^[0-9a-f-]{36}$/);
  });

  it("sends what the handler puts into the trailer", async () => {
    const server = await start({
      echo: (_request, ctx) => {
        ctx.trailer.set("x-cost", "7");
        return {};
      },
    });
    const client = new Client(server.address, credentials.createInsecure());
    open.push(() => client.close());
    const same = (bytes: Buffer) => bytes;
    const trailer = await new Promise<Metadata | undefined>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        path,
        same,
        same,
        Buffer.alloc(0),
        (error: ServiceError | null) => {
          if (error) reject(error);
        },
      );
      call.on("status", ({ code, metadata }) => resolve(code === status.OK ? metadata : undefined));
    });
    assert.deepEqual(trailer?.get("x-cost"), ["7"]);
  });
});
