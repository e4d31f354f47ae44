/** @file Tests of connections: how many there are, who gets the calls, and what becomes of those that die without a word. */
import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { CallContext } from "./implement.js";
import { implement } from "./implement.js";
import type { RunningServer } from "./server.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService, Mood } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

/** Passes bytes on until it is told to keep them, with both ends left open, as a firewall does that forgot a connection. */
async function startForgetfulProxy(
  target: string,
): Promise<{ address: string; forget(): void; stop(): void }> {
  const sockets: [Socket, Socket][] = [];
  const [host = "", port = ""] = target.split(":");
  const server = createServer((near) => {
    const far = connect(Number(port), host);
    for (const socket of [near, far]) socket.on("error", () => {});
    near.pipe(far);
    far.pipe(near);
    sockets.push([near, far]);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    forget: () => {
      for (const [near, far] of sockets) {
        near.unpipe(far);
        far.unpipe(near);
        for (const socket of [near, far]) socket.resume(); // what comes is read, and lost
      }
    },
    stop: () => {
      for (const socket of sockets.flat()) socket.destroy();
      server.close();
    },
  };
}

describe("connections", () => {
  const open: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  async function serve(options: Parameters<typeof startEcho>[0] = {}): Promise<RunningServer> {
    const server = await startEcho(options);
    open.push(() => server.drain());
    return server;
  }

  function client(addresses: string | string[], options: Parameters<typeof echoClient>[1] = {}) {
    const made = echoClient(addresses, { retry: false, ...options });
    open.push(() => made.close());
    return made;
  }

  it("go to every address behind a name in turn", async () => {
    const a = await serve({ name: "a" });
    const port = a.address.split(":")[1];
    await serve({ name: "b", listen: `127.0.0.2:${port}` });
    const one = client(`reward.test:${port}`, { resolve: async () => ["127.0.0.1", "127.0.0.2"] });
    await until(() => one.backends().filter(({ healthy }) => healthy).length === 2);
    const turns: string[] = [];
    for (let i = 0; i < 6; i++) turns.push((await one.echo({})).server);
    assert.deepEqual(turns.slice(0, 2).sort(), ["a", "b"]);
    assert.deepEqual(turns.slice(2), [...turns.slice(0, 2), ...turns.slice(0, 2)]);
  });

  it("are one for an address, however many calls run, and however often the address is given", async () => {
    const seen: CallContext[] = [];
    const server = await serve({ services: [implement(EchoService, echoHandlers("echo", {}, seen))] });
    const one = client([server.address, server.address]);
    assert.equal(one.backends().length, 1);
    await Promise.all(Array.from({ length: 50 }, () => one.echo({ delayMs: 20 })));
    assert.equal(new Set(seen.map(({ peer }) => peer)).size, 1);
  });

  it("that fell silent are noticed by pings: the call ends, the next one connects again", async () => {
    const server = await serve();
    const proxy = await startForgetfulProxy(server.address);
    open.push(() => proxy.stop());
    const one = client(proxy.address, { keepaliveMs: 50, keepaliveTimeoutMs: 100, deadlineMs: 30_000 });
    assert.equal((await one.echo({ text: "a" })).text, "a");
    const began = Date.now();
    const stuck = one.echo({ mood: Mood.STUCK });
    await until(() => server.inFlight === 1);
    proxy.forget();
    await assert.rejects(stuck, { status: "UNAVAILABLE" });
    assert.ok(Date.now() - began < 15_000, "long before the deadline");
    assert.equal((await one.echo({ text: "b" })).text, "b");
  });

  it("that fell silent are noticed by the server too, which lets go of their calls", async () => {
    const server = await serve({ limits: { keepaliveMs: 50, keepaliveTimeoutMs: 100 } });
    const proxy = await startForgetfulProxy(server.address);
    open.push(() => proxy.stop());
    const one = client(proxy.address, { deadlineMs: 60_000 });
    const stuck = one.echo({ mood: Mood.STUCK }).catch(() => {});
    await until(() => server.inFlight === 1);
    proxy.forget();
    await until(() => server.inFlight === 0, 15_000);
    proxy.stop();
    await stuck;
  });
});
