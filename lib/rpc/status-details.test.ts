/** @file Tests of the limits of the details trailer. */
import assert from "node:assert/strict";
import { InvalidFieldError } from "./errors.js";
import { implement } from "./implement.js";
import { RpcError } from "./rpc-error.js";
import { decodeDetails, encodeDetails, shorten } from "./status-details.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";

describe("status details", () => {
  const base = { code: 3, message: "m", reason: "INVALID_FIELD" };

  it("hold at most 20 violations", () => {
    const violations = Array.from({ length: 100 }, (_, i) => ({ field: `f[${i}]`, description: "x" }));
    const decoded = decodeDetails(encodeDetails({ ...base, violations }));
    assert.deepEqual(decoded.violations, violations.slice(0, 20));
  });

  it("stay below 4 KiB by leaving out the last violations, and cut long texts", () => {
    const violations = Array.from({ length: 20 }, (_, i) => ({
      field: `f[${i}]`,
      description: "é".repeat(1000),
    }));
    const bytes = encodeDetails({ ...base, message: "m".repeat(1024), violations, requestId: "id" });
    assert.ok(bytes.byteLength <= 4096, `${bytes.byteLength} bytes`);
    const decoded = decodeDetails(bytes);
    assert.ok(decoded.violations.length >= 3);
    assert.equal(decoded.violations[0]?.description, `${"é".repeat(255)}…`);
    assert.equal(decoded.requestId, "id");
  });

  it("carry delays to the millisecond", () => {
    assert.equal(decodeDetails(encodeDetails({ ...base, retryAfterMs: 1234 })).retryDelayMs, 1234);
    assert.equal(decodeDetails(encodeDetails({ ...base, retryAfterMs: 0 })).retryDelayMs, 0);
  });

  it("read as none where a server sends garbage", () => {
    assert.deepEqual(decodeDetails(Buffer.from([0xff, 0xff, 0x01])).violations, []);
    assert.deepEqual(decodeDetails(undefined).all, []);
  });

  it("replace halves of surrogate pairs, which cannot be sent, and keep whole ones", () => {
    assert.equal(shorten("a\ud800b😀", 10), "a\ufffdb😀");
    assert.equal(shorten("😀😀", 2), "\ufffd…");
  });

  it("arrive whole and within the limits of real headers, whatever the text", async () => {
    const text = "\ud800 100% \r\n\0 ünïcödé 😀 ".repeat(200);
    const handlers = echoHandlers("echo", {
      LONG: () =>
        new InvalidFieldError(Array.from({ length: 30 }, () => ({ field: text, description: text }))),
    });
    const server = await startEcho({ services: [implement(EchoService, handlers)] });
    const client = echoClient(server.address, { retry: false });
    try {
      const error = await client.echo({ fail: "LONG" }).catch((e: unknown) => e);
      assert.ok(error instanceof RpcError);
      assert.equal(error.status, "INVALID_ARGUMENT");
      assert.match(error.message, /100%.*ünïcödé 😀/s);
      assert.ok(error.violations.length > 0);
    } finally {
      client.close();
      await server.drain();
    }
  });
});
