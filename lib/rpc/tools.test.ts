/** @file Tests with a client that is not ours, `buf curl`: it knows nothing but the address, and asks reflection. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../config/package-root.js";
import type { RunningServer } from "./server.js";
import { startEcho } from "./testing/echo.js";

describe("buf curl", () => {
  let server: RunningServer;
  before(async () => {
    server = await startEcho({ adminListen: "127.0.0.1:0" });
  });
  after(() => server.drain());

  /** Runs buf curl against a path of an address. */
  function curl(address: string | undefined, path: string, ...args: string[]) {
    const bin = join(packageRoot(), "node_modules/.bin/buf");
    const all = [
      "curl",
      "--protocol",
      "grpc",
      "--http2-prior-knowledge",
      ...args,
      `http://${address}/${path}`,
    ];
    return new Promise<{ exit: unknown; out: string; err: string }>((resolve) => {
      execFile(bin, all, (error, out, err) => resolve({ exit: error?.code ?? 0, out, err }));
    });
  }

  it("lists services and methods", async () => {
    const { out } = await curl(server.address, "", "--list-methods");
    for (const method of ["rlhf.testing.v1.EchoService/Echo", "grpc.health.v1.Health/Watch"]) {
      assert.ok(out.split("\n").includes(method), out);
    }
  });

  it("calls a method, probes health, and reads channelz on the admin listener", async () => {
    const echo = await curl(server.address, "rlhf.testing.v1.EchoService/Echo", "-d", '{"text":"hi"}');
    assert.equal((JSON.parse(echo.out) as { text: string }).text, "hi");
    const health = await curl(server.address, "grpc.health.v1.Health/Check", "-d", "{}");
    assert.deepEqual(JSON.parse(health.out), { status: "SERVING" });
    const channelz = await curl(server.adminAddress, "grpc.channelz.v1.Channelz/GetServers", "-d", "{}");
    assert.ok((JSON.parse(channelz.out) as { server: unknown[] }).server.length >= 2);
  });

  it("shows code, message and details of a bad request", async () => {
    const body = '{"items":[{"moods":[9]}]}';
    const { exit, err } = await curl(server.address, "rlhf.testing.v1.EchoService/Echo", "-d", body);
    assert.equal(exit, 3 << 3);
    const error = JSON.parse(err) as { code: string; message: string; details: { type: string }[] };
    assert.equal(error.code, "invalid_argument");
    assert.equal(
      error.message,
      "items[0].moods[0]: has no value 9; accepted: MOOD_UNSPECIFIED, MOOD_PROMPT, MOOD_STUCK",
    );
    const types = error.details.map(({ type }) => type);
    assert.deepEqual(types, ["google.rpc.BadRequest", "google.rpc.ErrorInfo", "google.rpc.RequestInfo"]);
  });
}).timeout(30_000);
