import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace";
import { TurnCounter } from "../checkpoint/testing.js";
import { packageRoot } from "../config/package-root.js";
import { silentLog, startTelemetry, withSpan } from "../telemetry/index.js";
import {
  BusUnavailableError,
  findNatsServer,
  type NatsServer,
  NatsServerError,
  openWeightsBus,
  startNatsServer,
  type WeightsBus,
  WeightsDeadlineError,
  WeightsFollower,
} from "./index.js";
import { NatsTransport } from "./nats-transport.js";
import { eventually, natsMissing, someTensors, startProxy, type TcpProxy } from "./testing.js";

const MB = 1 << 20;

describe("weights over a NATS server that has trouble", () => {
  let server: NatsServer;
  let proxy: TcpProxy;
  const closing: (() => Promise<unknown>)[] = [];
  before(async function () {
    const missing = await natsMissing();
    if (!missing) return;
    console.log(missing);
    this.skip();
  });
  beforeEach(async () => {
    server = await startNatsServer();
    proxy = await startProxy(server.port);
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
    await proxy?.close();
    await server?.stop();
  });
  const open = async (options: object = {}, url = server.url): Promise<WeightsBus> => {
    const bus = await openWeightsBus(url, {
      run: "r",
      model: "m",
      pollMs: 200,
      stallMs: 1000,
      requestTimeoutMs: 1000,
      pruneGraceMs: 0,
      ...options,
    });
    closing.push(() => bus.close());
    return bus;
  };

  it("names a download that stalls, saying how far it came, and the next one works", async () => {
    const manifest = await (await open()).publish(someTensors(1, 6 * MB), { version: 1 });
    const bus = await open({ stallMs: 500 }, proxy.url);
    proxy.hold("down", 9 * MB);
    await assert.rejects(bus.fetch(manifest), (error) => {
      assert.ok(error instanceof WeightsDeadlineError, String(error));
      const [, read, all] =
        /nothing arrived for 500 ms, (\d+) of (\d+) bytes were read/.exec(error.message) ?? [];
      assert.ok(Number(read) > 4 * MB && Number(read) < Number(all), error.message);
      return true;
    });
    proxy.release();
    await bus.fetch(manifest);
  });

  it("killed in the middle of a download: a named error, then recovery without a new connection by hand", async () => {
    const manifest = await (await open()).publish(someTensors(1, 6 * MB), { version: 1 });
    const bus = await open({}, proxy.url);
    proxy.hold("down", 9 * MB);
    const fetching = bus.fetch(manifest);
    fetching.catch(() => {});
    await proxy.held();
    await server.kill();
    proxy.release();
    await assert.rejects(fetching, (error) => {
      assert.ok(error instanceof WeightsDeadlineError || error instanceof BusUnavailableError, String(error));
      return true;
    });
    await server.restart();
    await eventually(
      async () => (await bus.head().catch(() => undefined))?.version === 1,
      "the head is back",
    );
    await bus.fetch(manifest);
  });

  it("killed while a server loads: it serves the old version, says that it failed, and takes the new one when the bus is back", async () => {
    const publisher = await open();
    const bus = await open({}, proxy.url);
    const states: string[] = [];
    const follower = new WeightsFollower({
      bus,
      instance: "p",
      retryMs: 100,
      apply: () => {},
      onStatus: ({ state, version, servingVersion }) =>
        states.push(`${state} ${version} (${servingVersion})`),
    });
    closing.push(() => follower.stop());
    follower.start();
    await publisher.publish(someTensors(1), { version: 1 });
    await follower.whenServing(1, { deadlineMs: 5000 });
    proxy.hold("down", 9 * MB);
    await publisher.publish(someTensors(2, 6 * MB), { version: 2 });
    await proxy.held();
    await server.kill();
    proxy.release();
    await eventually(() => states.at(-1) === "failed 2 (1)", "the failure is reported");
    assert.equal(follower.serving?.version, 1);
    await server.restart();
    await follower.whenServing(2, { deadlineMs: 20_000 });
    assert.deepEqual(states.slice(0, 4), [
      "loading 1 (undefined)",
      "serving 1 (1)",
      "loading 2 (1)",
      "failed 2 (1)",
    ]);
    await publisher.waitForServing(2, 1, { deadlineMs: 10_000 });
  });

  it("killed in the middle of a publish: a named error, nothing half visible, and publishing works again", async () => {
    const bus = await open({}, proxy.url);
    await bus.publish(someTensors(1), { version: 1 });
    proxy.hold("up", 9 * MB);
    const publishing = bus.publish(someTensors(2, 6 * MB), { version: 2 });
    publishing.catch(() => {});
    await proxy.held();
    await server.kill();
    proxy.release();
    await assert.rejects(publishing, (error) => {
      assert.ok(error instanceof BusUnavailableError, String(error));
      return true;
    });
    await server.restart();
    await eventually(
      async () => (await bus.head().catch(() => undefined))?.version === 1,
      "the old head is back",
    );
    const again = await bus.publish(someTensors(2, 6 * MB), { version: 2 });
    await bus.fetch(again);
    assert.equal((await bus.head())?.version, 2);
  });

  it("left by a publisher that died: its chunks are pruned, those of a publish in progress are not", async () => {
    const bus = await open({ leftoverMs: 0 });
    const careful = await open();
    const manifest = await bus.publish(someTensors(1), { version: 1 });
    const dying = await open({ requestTimeoutMs: 300 }, proxy.url);
    proxy.hold("up", 5 * MB);
    const publishing = dying.publish(someTensors(2, 6 * MB), { version: 2 });
    publishing.catch(() => {});
    await proxy.held();
    await proxy.close();
    await assert.rejects(publishing, BusUnavailableError);
    const connection = await connect({ servers: server.url });
    closing.push(() => connection.close());
    const streams = (await jetstreamManager(connection)).streams;
    const subjects = async () => (await streams.info("OBJ_rlhf-weights-r")).state.num_subjects;
    assert.equal(await subjects(), 3); // two of the first object, the second's chunks
    await careful.prune(1);
    assert.equal(await subjects(), 3);
    await bus.prune(1);
    assert.equal(await subjects(), 2);
    await bus.fetch(manifest);
  });

  it("restarted with an empty store: buckets are made again, and followers take what is published next", async () => {
    const bus = await open();
    const follower = new WeightsFollower({ bus: await open(), instance: "p", apply: () => {} });
    closing.push(() => follower.stop());
    follower.start();
    await bus.publish(someTensors(1), { version: 41 });
    await follower.whenServing(41, { deadlineMs: 5000 });
    await server.kill();
    await rm(join(server.storeDir, "jetstream"), { recursive: true });
    await server.restart();
    await eventually(async () => (await bus.head().catch(() => "down")) === undefined, "the head is gone");
    await bus.publish(someTensors(2), { version: 42 });
    await follower.whenServing(42, { deadlineMs: 15_000 });
  });

  it("lets the event loop turn for every MB that it sends", async () => {
    const transport = await NatsTransport.open(server.url, { run: "r", model: "m" }, silentLog());
    closing.push(() => transport.close());
    const piece = new Uint8Array(MB / 4);
    const sent: number[] = []; // bytes by turn of the event loop
    const loop = new TurnCounter();
    function* pieces() {
      for (let i = 0; i < 128; i++) {
        sent[loop.turns] = (sent[loop.turns] ?? 0) + piece.length;
        yield piece;
      }
    }
    const bytes = 128 * piece.length;
    const manifest = { run: "r", model: "m", version: 1, digest: "0".repeat(64), bytes, object: "r/1-0" };
    const more = { dtype: "F32" as const, parameters: bytes / 4, createdAt: "", publisher: "p" };
    await transport.put({ ...manifest, ...more }, pieces);
    loop.stop();
    const most = Math.max(...Object.values(sent));
    assert.ok(most <= 1.5 * MB, `${most} bytes in one turn`);
  });

  it("never has more than 16 MB in flight to a slow reader", async () => {
    const manifest = await (await open()).publish(someTensors(1, 12 * MB), { version: 1 });
    const transport = await NatsTransport.open(proxy.url, { run: "r", model: "m" }, silentLog());
    closing.push(() => transport.close());
    const before = proxy.downBytes;
    let consumed = 0;
    let mostInFlight = 0;
    for await (const chunk of transport.read(manifest, new AbortController().signal)) {
      mostInFlight = Math.max(mostInFlight, proxy.downBytes - before - consumed);
      consumed += chunk.length;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert.equal(consumed, manifest.bytes);
    assert.ok(mostInFlight <= 16 * MB, `${mostInFlight} bytes in flight`);
    assert.ok(mostInFlight >= MB, `${mostInFlight}: the reader was not slow`);
  });

  it("forgets servers that fell silent", async () => {
    const bus = await open({ statusTtlMs: 1000 });
    await bus.report({ instance: "p", version: 1, state: "serving", tookMs: 1 });
    assert.equal((await bus.statuses()).length, 1);
    await eventually(async () => (await bus.statuses()).length === 0, "it is forgotten");
  });

  it("carries the publisher's trace to the server that applies, over KV value and object metadata", async () => {
    const exporter = new InMemorySpanExporter();
    const telemetry = startTelemetry({
      service: "test",
      otlpEndpoint: "",
      logLevel: "silent",
      spanProcessors: [new SimpleSpanProcessor({ exporter })],
    });
    try {
      const bus = await open();
      const follower = new WeightsFollower({ bus: await open(), instance: "p", apply: () => {} });
      closing.push(() => follower.stop());
      follower.start();
      const manifest = await withSpan("rlhf.batch", {}, () => bus.publish(someTensors(1), { version: 1 }));
      await follower.whenServing(1, { deadlineMs: 5000 });
      await eventually(
        () => exporter.getFinishedSpans().some(({ name }) => name === "rlhf.weights.apply"),
        "it ends",
      );
      const spans = new Map(exporter.getFinishedSpans().map((span) => [span.name, span]));
      const [batch, publish, apply, fetch] = [
        "batch",
        "weights.publish",
        "weights.apply",
        "weights.fetch",
      ].map((name) => {
        const span = spans.get(`rlhf.${name}`);
        assert.ok(span, name);
        return span;
      });
      assert.equal(publish.parentSpanContext?.spanId, batch.spanContext().spanId);
      assert.equal(apply.parentSpanContext?.spanId, publish.spanContext().spanId);
      assert.equal(fetch.parentSpanContext?.spanId, apply.spanContext().spanId);
      assert.equal(apply.spanContext().traceId, batch.spanContext().traceId);
      assert.equal(apply.links[0].context.spanId, publish.spanContext().spanId);
      assert.equal(publish.attributes["messaging.system"], "nats");
      assert.equal(
        manifest.traceparent,
        `00-${batch.spanContext().traceId}-${publish.spanContext().spanId}-01`,
      );
    } finally {
      await telemetry.shutdown();
    }
  });

  it("asks for user and password, and a wrong one is a named error that does not show it", async () => {
    const guarded = await startNatsServer({ args: ["--user", "rlhf", "--pass", "s3cret"] });
    try {
      const address = `nats://rlhf:s3cret@127.0.0.1:${guarded.port}`;
      const bus = await openWeightsBus(address, { run: "r", model: "m" });
      assert.equal(bus.address, `nats://127.0.0.1:${guarded.port}`);
      await bus.publish(someTensors(1), { version: 1 });
      await bus.close();
      await assert.rejects(
        openWeightsBus(address.replace("s3cret", "gu3ss"), { run: "r", model: "m" }),
        (error) => {
          assert.ok(error instanceof BusUnavailableError);
          assert.match(error.message, /connect: .*[Aa]uthorization/);
          assert.ok(!error.message.includes("gu3ss"));
          return true;
        },
      );
    } finally {
      await guarded.stop();
    }
  });

  it("that is not there, or has no JetStream, is a named error in time", async () => {
    const nobody = openWeightsBus("nats://127.0.0.1:9", { run: "r", model: "m", connectTimeoutMs: 600 });
    await assert.rejects(
      nobody,
      (error) => error instanceof BusUnavailableError && /127\.0\.0\.1:9: connect/.test(error.message),
    );
    const executable = await findNatsServer();
    const plain = spawn(executable!, ["-a", "127.0.0.1", "-p", "-1"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    try {
      const port = await new Promise<string>((resolve) => {
        plain.stderr.on("data", (text: Buffer) => {
          const found = /client connections on 127\.0\.0\.1:(\d+)/.exec(text.toString())?.[1];
          if (found) resolve(found);
        });
      });
      await assert.rejects(
        openWeightsBus(`nats://127.0.0.1:${port}`, { run: "r", model: "m" }),
        /is JetStream enabled\?/,
      );
    } finally {
      plain.kill("SIGKILL");
    }
  });
});

describe("a nats-server of our own", () => {
  before(async function () {
    if (await natsMissing()) this.skip();
  });
  const alive = (pid: number) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };

  it("starts on a free port of loopback and leaves neither process nor folder", async () => {
    const [one, two] = await Promise.all([startNatsServer(), startNatsServer()]);
    assert.notEqual(one.port, two.port);
    assert.ok(alive(one.pid) && existsSync(one.storeDir));
    for (const server of [one, two]) {
      await server.stop();
      await server.stop();
      assert.ok(!alive(server.pid) && !existsSync(server.storeDir));
    }
  });

  it("ends when the process that started it is killed", async () => {
    const module = join(packageRoot(), "dist", "lib", "weights", "nats-server.js");
    const script = `
      const { startNatsServer } = await import(${JSON.stringify(module)});
      const { pid, storeDir } = await startNatsServer();
      console.log(JSON.stringify({ pid, storeDir }));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve) =>
      child.stdout.once("data", (data: Buffer) => resolve(String(data))),
    );
    const { pid, storeDir } = JSON.parse(line) as { pid: number; storeDir: string };
    assert.ok(alive(pid));
    child.kill("SIGKILL");
    await eventually(() => !alive(pid) && !existsSync(storeDir), "it ends");
  });

  it("keeps no process alive by itself", async () => {
    const module = join(packageRoot(), "dist", "lib", "weights", "nats-server.js");
    const script = `console.log((await (await import(${JSON.stringify(module)})).startNatsServer()).pid);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let pid = 0;
    child.stdout.on("data", (data: Buffer) => {
      pid = Number(String(data));
    });
    const code = await new Promise((resolve) => child.once("exit", resolve));
    assert.equal(code, 0);
    await eventually(() => pid > 0 && !alive(pid), "it ends");
  });

  it("that cannot start says why", async () => {
    const server = await startNatsServer();
    try {
      await assert.rejects(startNatsServer({ port: server.port }), (error) => {
        assert.ok(error instanceof NatsServerError);
        assert.match(error.message, /address already in use/);
        return true;
      });
      await assert.rejects(startNatsServer({ executable: "/nowhere/nats-server" }), NatsServerError);
      assert.equal(await findNatsServer("/nowhere"), undefined);
    } finally {
      await server.stop();
    }
  });
});
