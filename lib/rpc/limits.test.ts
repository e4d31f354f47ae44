/** @file Tests of limits on messages and metadata, over real sockets. */
import assert from "node:assert/strict";
import { connect } from "node:http2";
import { gzipSync } from "node:zlib";
import { resolveLimits } from "./limits.js";
import { RpcError } from "./rpc-error.js";
import type { RunningServer } from "./server.js";
import { echoClient, startEcho } from "./testing/echo.js";

describe("limits", () => {
  let server: RunningServer;
  let client: ReturnType<typeof echoClient>;
  before(async () => {
    server = await startEcho({ limits: { maxReceiveBytes: 10_000, maxSendBytes: 5000 } });
    client = echoClient(server.address);
  });
  after(async () => {
    client.close();
    await server.drain();
  });

  async function failure(call: Promise<unknown>): Promise<RpcError> {
    const error = await call.catch((e: unknown) => e);
    assert.ok(error instanceof RpcError);
    return error;
  }

  it("refuse a request that is too large, and tell clients not to try again", async () => {
    const startedAt = Date.now();
    const error = await failure(client.echo({ data: new Uint8Array(20_000) }));
    assert.deepEqual(
      [error.status, error.code, error.pushbackMs],
      ["RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", -1],
    );
    assert.ok(Date.now() - startedAt < 1000, "a retry would have waited");
  });

  it("refuse a response that is too large with its own reason", async () => {
    const error = await failure(client.echo({ data: new Uint8Array(8000) }));
    assert.deepEqual([error.status, error.code], ["RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE"]);
    assert.equal(error.pushbackMs, -1);
  });

  it("refuse metadata and authorization that are too large", async () => {
    const long = await failure(
      client.echo({}, { metadata: { authorization: `Bearer ${"x".repeat(9000)}` } }),
    );
    assert.deepEqual([long.status, long.code], ["RESOURCE_EXHAUSTED", "METADATA_TOO_LARGE"]);
    assert.match(long.message, /authorization: has 9007 bytes; accepted: at most 8192/);
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`x-${i}`, "y".repeat(500)]));
    assert.match((await failure(client.echo({}, { metadata: many }))).message, /metadata: has \d+ bytes/);
  });

  it("count what a compressed message becomes, and answer bad compression as the caller's error", async () => {
    const send = (body: Buffer, encoding: string) =>
      new Promise<string>((resolve, reject) => {
        const session = connect(`http://${server.address}`);
        const stream = session.request({
          ":method": "POST",
          ":path": "/rlhf.testing.v1.EchoService/Echo",
          "content-type": "application/grpc",
          "grpc-encoding": encoding,
        });
        let status: unknown;
        stream.on("response", (headers) => {
          status = headers["grpc-status"];
        });
        stream.on("trailers", (headers) => {
          status = headers["grpc-status"];
        });
        stream.on("error", reject);
        stream.on("data", () => {});
        stream.on("close", () => {
          session.close();
          resolve(String(status));
        });
        const frame = Buffer.alloc(5 + body.length);
        frame.writeUInt8(1, 0);
        frame.writeUInt32BE(body.length, 1);
        body.copy(frame, 5);
        stream.end(frame);
      });
    assert.equal(await send(gzipSync(Buffer.alloc(1_000_000)), "gzip"), "8");
    assert.equal(await send(Buffer.from("this is no gzip"), "gzip"), "3");
    assert.equal(await send(Buffer.from("whatever"), "snappy"), "12");
  });

  it("keep a connection's grace at least as long as the longest default deadline", () => {
    assert.equal(resolveLimits().maxConnectionAgeGraceMs, 120_000);
    assert.equal(
      resolveLimits({ methodDeadlinesMs: { generate: 300_000 } }).maxConnectionAgeGraceMs,
      300_000,
    );
    assert.equal(resolveLimits({ maxConnectionAgeGraceMs: 5 }).maxConnectionAgeGraceMs, 5);
    assert.equal(resolveLimits({ maxReceiveBytes: undefined }).maxReceiveBytes, 4 * 1024 * 1024);
  });
});
