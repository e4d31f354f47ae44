/** @file Tests of the orderly end: nothing accepted is lost, nothing new is let in, nothing lasts for ever. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Health } from "../api/gen/grpc/health/v1/health_pb.js";
import { LifecycleService } from "../api/gen/rlhf/weights/v1/weights_pb.js";
import { createClient } from "./client.js";
import type { ReadyMessage } from "./ready.js";
import { wasNotProcessed } from "./retry.js";
import { RpcError } from "./rpc-error.js";
import { echoClient, startEcho } from "./testing/echo.js";
import { Mood } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

describe("a drain", () => {
  it("goes through its steps in order", async () => {
    const steps: string[] = [];
    const log = {
      debug() {},
      info: (_: object, message = "") => void (message.startsWith("drain") && steps.push(message)),
      warn() {},
      error() {},
      child: () => log,
    };
    let closed = false;
    const server = await startEcho({
      log,
      drain: {
        withdrawMs: 150,
        onClosed: () => {
          closed = true;
          steps.push("closed");
        },
      },
    });
    const client = echoClient(server.address, { retry: false });
    const accepted = client.echo({ text: "accepted before", delayMs: 400 });
    await until(() => server.inFlight === 1);
    const drained = server.drain();
    assert.equal(server.isServing(), false);
    assert.equal((await client.echo({ text: "in the grace" })).text, "in the grace");
    await until(() => steps.includes("draining: new calls are refused"));
    const error = await client.echo({}).catch((e: unknown) => e);
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.status, error.code], ["UNAVAILABLE", "DRAINING"]);
    const health = createClient(Health, server.address, { deadlineMs: 1000, retry: false });
    assert.equal((await health.check({})).status, 2, "health still answers");
    assert.equal((await accepted).text, "accepted before");
    await drained;
    assert.ok(closed);
    assert.deepEqual(steps, [
      "draining: not serving",
      "draining: new calls are refused",
      "closed",
      "drained",
    ]);
    await assert.rejects(client.echo({}), { status: "UNAVAILABLE" });
    client.close();
    health.close();
  });

  it("finishes streams that run, and loses no accepted call under load", async () => {
    const server = await startEcho();
    const client = echoClient(server.address, { retry: false });
    const indices: number[] = [];
    const streamed = (async () => {
      for await (const { index } of client.echoMany({ count: 20, delayMs: 10 })) indices.push(index);
    })();
    const calls = Array.from({ length: 50 }, () => client.echo({ text: "x", delayMs: 100 }));
    await until(() => server.inFlight === 51);
    await Promise.all([server.drain(), streamed, ...calls]);
    assert.equal(indices.length, 20);
    client.close();
  });

  it("ends what does not finish shortly before the hard limit, with UNAVAILABLE", async () => {
    const server = await startEcho({ drain: { hardLimitMs: 1300 } });
    const client = echoClient(server.address, { retry: false });
    const stuck = client.echo({ mood: Mood.STUCK }).catch((e: unknown) => e);
    await until(() => server.inFlight === 1);
    const startedAt = Date.now();
    await server.drain();
    const took = Date.now() - startedAt;
    assert.ok(took >= 250 && took < 1400, `${took} ms`);
    const error = await stuck;
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.status, error.code], ["UNAVAILABLE", "DRAINING"]);
    client.close();
  });

  it("keeps the hard limit when the last step hangs, and survives one that throws", async () => {
    const hanging = await startEcho({ drain: { hardLimitMs: 300, onClosed: () => new Promise(() => {}) } });
    const startedAt = Date.now();
    await hanging.drain();
    assert.ok(Date.now() - startedAt < 900);
    const throwing = await startEcho({ drain: { onClosed: () => Promise.reject(new Error("no")) } });
    await throwing.drain();
  });
});

describe("signals", () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
  });

  /** A process that serves echo and drains on signals. */
  async function start(): Promise<{
    child: ChildProcess;
    address: string;
    adminAddress: string | undefined;
  }> {
    const script = fileURLToPath(new URL("./testing/echo-process.js", import.meta.url));
    const child = fork(script, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
    children.push(child);
    const [message] = (await once(child, "message")) as [ReadyMessage];
    assert.deepEqual([message.event, message.service, message.pid], ["ready", "echo", child.pid]);
    return { child, address: message.address, adminAddress: message.adminAddress };
  }

  const exited = async (child: ChildProcess) => (await once(child, "exit")) as [number | null, string | null];

  it("SIGTERM drains under load with a Watch open: no accepted call is lost, the exit code is 0", async () => {
    const { child, address } = await start();
    const client = echoClient(address, { retry: false });
    const health = createClient(Health, address, { deadlineMs: 20_000, retry: false });
    let watching = 0;
    const watched = (async () => {
      for await (const _ of health.watch({})) watching++;
    })().catch(() => {});
    await until(() => watching === 1);
    // calls begin all the time; each must either succeed or be refused as draining or unreachable
    const outcomes: string[] = [];
    let stop = false;
    const caller = async () => {
      while (!stop) {
        const outcome = await client.echo({ delayMs: 30 }).then(
          () => "OK",
          (error: RpcError) => (wasNotProcessed(error) ? "refused" : error.message),
        );
        outcomes.push(outcome);
        if (outcome !== "OK") await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const callers = Array.from({ length: 20 }, caller);
    await until(() => outcomes.length > 60);
    const startedAt = Date.now();
    const exit = exited(child);
    child.kill("SIGTERM");
    assert.deepEqual(await exit, [0, null]);
    assert.ok(Date.now() - startedAt < 5000);
    stop = true;
    await Promise.all(callers);
    await watched;
    assert.equal(watching, 2, "the watcher heard NOT_SERVING");
    assert.deepEqual([...new Set(outcomes)].sort(), ["OK", "refused"]);
    client.close();
    health.close();
  });

  it("a second signal exits at once", async () => {
    const { child, address } = await start();
    const client = echoClient(address, { retry: false });
    const stuck = client.echo({ mood: Mood.STUCK }).catch(() => {});
    await until(async () => (await client.echo({}).catch(() => undefined)) !== undefined);
    const exit = exited(child);
    child.kill("SIGTERM");
    const health = createClient(Health, address, { deadlineMs: 1000, retry: false });
    await until(async () => (await health.check({})).status === 2);
    child.kill("SIGTERM");
    assert.deepEqual(await exit, [128 + 15, null]);
    await stuck;
    client.close();
    health.close();
  });

  it("SIGINT, and a parent that goes away, drain as well", async () => {
    const one = await start();
    const interrupted = exited(one.child);
    one.child.kill("SIGINT");
    assert.deepEqual(await interrupted, [0, null]);
    const two = await start();
    const orphaned = exited(two.child);
    two.child.disconnect();
    assert.deepEqual(await orphaned, [0, null]);
  });

  it("a rejection that nobody handles, or an exception, drains and exits with 1", async () => {
    for (const what of ["reject", "throw"]) {
      const { child, address } = await start();
      const client = echoClient(address, { retry: false });
      const accepted = client.echo({ text: "accepted", delayMs: 200 });
      await until(async () => (await client.echo({}).catch(() => undefined)) !== undefined);
      const exit = exited(child);
      child.send(what);
      assert.equal((await accepted).text, "accepted");
      assert.deepEqual(await exit, [1, null]);
      client.close();
    }
  });

  it("are not the only way: the admin listener's Drain finishes what runs and exits with 0", async () => {
    const { child, address, adminAddress = "" } = await start();
    const client = echoClient(address, { retry: false });
    const lifecycle = createClient(LifecycleService, adminAddress, { deadlineMs: 5000, retry: false });
    const accepted = client.echo({ text: "accepted", delayMs: 300 });
    await until(async () => (await client.echo({}).catch(() => undefined)) !== undefined);
    const exit = exited(child);
    assert.equal((await lifecycle.drain({})).inFlight, 1);
    assert.equal((await accepted).text, "accepted");
    assert.deepEqual(await exit, [0, null]);
    client.close();
    lifecycle.close();
  });
});
