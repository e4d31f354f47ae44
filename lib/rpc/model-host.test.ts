/** @file Tests of the model host with real processes: calls, streams, crashes, hangs, restarts and the end. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { context, ROOT_CONTEXT, TraceFlags, trace } from "@opentelemetry/api";
import { CancelledError, DeadlineError, DrainingError, NotReadyError, WorkerCrashedError } from "./errors.js";
import { implement } from "./implement.js";
import { silentLog } from "./log.js";
import { ModelHost, type ModelHostOptions } from "./model-host.js";
import { RpcError } from "./rpc-error.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { recordTelemetry } from "./testing/telemetry.js";
import type { TestWorkerConfig, TestWorkerMethods } from "./testing/test-worker.js";
import { until } from "./testing/until.js";

const script = new URL("./testing/test-worker.js", import.meta.url);

describe("the model host", () => {
  const hosts: ModelHost<TestWorkerMethods>[] = [];
  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((host) => host.close()));
  });

  function make(config: TestWorkerConfig = {}, options: Partial<ModelHostOptions> = {}) {
    const host = new ModelHost<TestWorkerMethods>({ script, config, log: silentLog, ...options });
    hosts.push(host);
    return host;
  }

  async function start(config: TestWorkerConfig = {}, options: Partial<ModelHostOptions> = {}) {
    const host = make(config, options);
    await host.start();
    return host;
  }

  function isAlive(pid: number | undefined): boolean {
    try {
      process.kill(pid ?? 0, 0);
      return pid !== undefined;
    } catch {
      return false;
    }
  }

  it("loads, says what it loaded, and answers with typed arrays and maps as they are", async () => {
    const events: unknown[] = [];
    const host = make();
    host.on("event", (name, value) => events.push([name, value]));
    const info = await host.start();
    assert.deepEqual(info, { name: "test", pid: host.pid });
    assert.deepEqual(host.info, info);
    assert.deepEqual(events, [["loaded", { pid: host.pid }]]);
    const value = {
      ids: new Int32Array([1, 2]),
      big: 2n ** 60n,
      map: new Map([["a", new Float32Array([0.5])]]),
    };
    assert.deepEqual(await host.call("echo", value), value);
    assert.notEqual(await host.call("pid", undefined as never), process.pid);
  });

  it("hands its configuration over", async () => {
    assert.deepEqual(await (await start({ loadMs: 1 })).call("config", undefined as never), { loadMs: 1 });
  });

  it("keeps codes and facts of errors, and leaves codes off where there were none", async () => {
    const host = await start();
    const facts = {
      code: "INVALID_FIELD",
      violations: [{ field: "texts[0]", description: "is empty" }],
      reason: "X",
    };
    await assert.rejects(host.call("fail", facts), { message: "as asked", ...facts });
    const error = await host.call("fail", {}).catch((e: unknown) => e);
    assert.ok(error instanceof Error && !("code" in error));
    await assert.rejects(host.call("no-such-method" as "echo", 1), /no method/);
    await assert.rejects(host.call("uncloneable", undefined as never), /could not be cloned/);
    await assert.rejects(
      host.call("echo", () => {}),
      /could not be cloned/,
    );
    assert.equal(host.inFlight, 0);
    assert.equal(await host.call("echo", 1), 1);
  });

  it("cancels a call in the worker, and rejects at once", async () => {
    const host = await start();
    const abort = new AbortController();
    const call = host.call("wait", { ms: 60_000 }, { signal: abort.signal });
    await until(async () => (await host.call("seen", undefined as never)).started === 1);
    abort.abort(new CancelledError("gone"));
    await assert.rejects(call, { code: "CANCELLED", message: "gone" });
    await until(async () => (await host.call("seen", undefined as never)).aborted === 1);
    await assert.rejects(host.call("echo", 1, { signal: AbortSignal.abort() }), CancelledError);
    assert.equal(host.inFlight, 0);
  });

  it("ends a call at its deadline, here and in the worker, which knows it", async () => {
    const host = await start();
    const deadline = Date.now() + 80;
    assert.equal(await host.call("deadline", null, { deadline }), deadline);
    await assert.rejects(host.call("wait", { ms: 60_000 }, { deadline }), DeadlineError);
    await until(async () => (await host.call("seen", undefined as never)).aborted === 1);
    await assert.rejects(host.call("echo", 1, { deadline: Date.now() - 1 }), DeadlineError);
  });

  it("streams what a method emits, then its result; leaving early cancels it", async () => {
    const host = await start();
    const stream = host.stream<"count", number>("count", { to: 100 });
    const numbers: number[] = [];
    for (;;) {
      const { done, value } = await stream.next();
      if (done) {
        assert.equal(value, "counted");
        break;
      }
      numbers.push(value);
    }
    assert.deepEqual(
      numbers,
      Array.from({ length: 100 }, (_, i) => i),
    );
    for await (const n of host.stream<"count", number>("count", { to: 1e9, ms: 2 })) if (n === 3) break;
    await until(async () => (await host.call("seen", undefined as never)).aborted === 1);
    const abort = new AbortController();
    const cancelled = host.stream("count", { to: 1e9, ms: 2 }, { signal: abort.signal });
    await cancelled.next();
    abort.abort();
    await assert.rejects(async () => {
      for await (const _ of cancelled);
    }, CancelledError);
  });

  it("carries the trace of the call", async () => {
    const telemetry = recordTelemetry();
    try {
      const host = await start();
      const traceId = "0af7651916cd43dd8448eb211c80319c";
      const spanContext = { traceId, spanId: "b7ad6b7169203331", traceFlags: TraceFlags.SAMPLED };
      const within = trace.setSpanContext(ROOT_CONTEXT, spanContext);
      const traceparent = await context.with(within, () => host.call("trace", null));
      assert.equal(traceparent, `00-${traceId}-b7ad6b7169203331-01`);
    } finally {
      await telemetry.stop();
    }
  });

  it("fails only its calls when a worker is killed, and answers again within five seconds", async () => {
    const [one, two] = [await start(), await start()];
    const states: string[] = [];
    one.on("state", (state) => states.push(state));
    const lost = one.call("wait", { ms: 60_000 }).catch((e: unknown) => e);
    const lostStream = one.stream("count", { to: 1e9, ms: 5 });
    await lostStream.next();
    const kept = two.call("wait", { ms: 300 });
    const pid = one.pid ?? 0;
    process.kill(pid, "SIGKILL");
    const killedAt = Date.now();
    const error = await lost;
    assert.ok(error instanceof WorkerCrashedError);
    assert.ok(Date.now() - killedAt < 1000);
    await assert.rejects(async () => {
      for await (const _ of lostStream);
    }, WorkerCrashedError);
    await assert.rejects(one.call("echo", 1), NotReadyError);
    await until(() => one.state === "ready");
    assert.ok(Date.now() - killedAt < 5000, `${Date.now() - killedAt} ms`);
    assert.equal(await one.call("echo", 1), 1);
    assert.notEqual(one.pid, pid);
    assert.deepEqual(states, ["restarting", "ready"]);
    assert.equal(await kept, "waited");
  });

  it("comes back again and again", async () => {
    const host = await start({}, { maxRestartDelayMs: 100 });
    for (let i = 0; i < 3; i++) {
      const pid = host.pid ?? 0;
      process.kill(pid, "SIGKILL");
      await until(() => host.state === "restarting");
      await until(() => host.state === "ready");
      assert.equal(await host.call("echo", i), i);
    }
  });

  it("replaces a worker that exits, whose promise nobody handles, or that hangs", async () => {
    const host = await start({}, { heartbeatMs: 20, stallMs: 400, maxRestartDelayMs: 50 });
    await assert.rejects(host.call("exit", 7), WorkerCrashedError);
    await until(() => host.state === "ready");
    await host.call("rejectLater", undefined as never);
    await until(() => host.state === "restarting");
    await until(() => host.state === "ready");
    const { pid } = host;
    const startedAt = Date.now();
    await assert.rejects(host.call("hang", undefined as never), WorkerCrashedError);
    assert.ok(Date.now() - startedAt >= 350);
    await until(() => host.state === "ready");
    assert.ok(!isAlive(pid));
  });

  it("tells why the first worker could not start, and does not try again", async () => {
    const broken = make({ failInit: "CHECKPOINT_CORRUPT" });
    await assert.rejects(broken.start(), { code: "CHECKPOINT_CORRUPT", message: /header length 0/ });
    assert.equal(broken.pid, undefined);
    await assert.rejects(broken.call("echo", 1), NotReadyError);
    await assert.rejects(make({ exitWhileLoading: true }).start(), /ended \(code 3\)/);
    const slow = make({ loadMs: 60_000 }, { startTimeoutMs: 300 });
    await assert.rejects(slow.start(), /not ready after 300 ms/);
    const missing = new ModelHost({
      script: new URL("./no-such.js", import.meta.url),
      config: {},
      log: silentLog,
    });
    await assert.rejects(missing.start(), WorkerCrashedError);
  });

  it("answers NOT_READY while it loads", async () => {
    const host = make({ loadMs: 200 });
    const started = host.start();
    await assert.rejects(host.call("echo", 1), { code: "NOT_READY", message: "the model is loading" });
    await started;
    assert.equal(await host.call("echo", 1), 1);
  });

  it("ends its worker when it closes, lets it close, fails what waits, and leaves no process", async () => {
    const closeFile = join(tmpdir(), `rlhf-closed-${process.pid}`);
    const host = await start({ closeFile });
    const { pid } = host;
    const waiting = host.call("wait", { ms: 60_000 }).catch((e: unknown) => e);
    await host.close();
    assert.equal(readFileSync(closeFile, "utf8"), "closed");
    rmSync(closeFile);
    assert.ok((await waiting) instanceof DrainingError);
    await assert.rejects(host.call("echo", 1), DrainingError);
    assert.ok(!isAlive(pid));
    assert.equal(host.state, "closed");
  });

  it("has a worker that ignores the terminal's signals and ends with its parent, even one that is killed", async () => {
    const parent: ChildProcess = fork(fileURLToPath(new URL("./testing/host-process.js", import.meta.url)));
    const [{ worker }] = (await once(parent, "message")) as [{ worker: number }];
    process.kill(worker, "SIGINT");
    process.kill(worker, "SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.ok(isAlive(worker));
    parent.kill("SIGKILL");
    await until(() => !isAlive(worker));
  });

  it("behind a server turns a killed worker into UNAVAILABLE for its calls only", async () => {
    const host = await start();
    const echo = echoHandlers("front");
    const server = await startEcho({
      services: [
        implement(EchoService, {
          ...echo,
          echo: async ({ text, delayMs }, { signal, deadline }) => {
            if (text === "model") await host.call("wait", { ms: delayMs }, { signal, deadline });
            return { text };
          },
        }),
      ],
    });
    const client = echoClient(server.address, { retry: false });
    const patient = echoClient(server.address, {
      retry: { maxAttempts: 20, initialMs: 50, throttle: false },
    });
    const lost = client.echo({ text: "model", delayMs: 60_000 }).catch((e: unknown) => e);
    await until(() => host.inFlight === 1);
    process.kill(host.pid ?? 0, "SIGKILL");
    const error = await lost;
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.status, error.code], ["UNAVAILABLE", "WORKER_CRASHED"]);
    assert.equal((await client.echo({ text: "no model" })).text, "no model");
    assert.equal((await patient.echo({ text: "model", delayMs: 1 })).text, "model");
    client.close();
    patient.close();
    await server.drain();
  });
});
