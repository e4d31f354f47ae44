/** @file Tests of default deadlines and of deadlines that overflow timers. */
import assert from "node:assert/strict";
import { connect } from "node:http2";
import { clampTimeoutHeader, effectiveDeadline, maxDeadlineMs } from "./deadlines.js";
import type { RunningServer } from "./server.js";
import { echoClient, startEcho } from "./testing/echo.js";

describe("deadlines", () => {
  it("of more than 24 days are clamped in the header, others are left alone", () => {
    for (const header of ["99999999S", "99999999M", "99999999H", "2592000S"]) {
      assert.equal(clampTimeoutHeader(header), "2073600S");
    }
    for (const header of ["1S", "99999999n", "5m", "nonsense", "-1S", ""]) {
      assert.equal(clampTimeoutHeader(header), header);
    }
  });

  it("take the caller's, else the default, else none", () => {
    assert.equal(effectiveDeadline(Number.POSITIVE_INFINITY, 60, 1000), 1060);
    assert.equal(effectiveDeadline(Number.POSITIVE_INFINITY, undefined, 1000), undefined);
    assert.equal(effectiveDeadline(new Date(1500), 60, 1000), 1500);
    assert.equal(effectiveDeadline(1e15, 60, 1000), 1000 + maxDeadlineMs);
  });

  describe("on a server", () => {
    let server: RunningServer;
    beforeEach(async () => {
      server = await startEcho({ limits: { defaultDeadlineMs: 2000, methodDeadlinesMs: { echo: 150 } } });
    });
    afterEach(() => server.drain());

    /** Calls a method with these headers and an empty message. Resolves with the gRPC status and message. */
    function sendRaw(
      headers: Record<string, string>,
      method = "Echo",
    ): Promise<{ code: string; message: string }> {
      const session = connect(`http://${server.address}`);
      return new Promise((resolve, reject) => {
        session.on("error", reject);
        const stream = session.request({
          ":method": "POST",
          ":path": `/rlhf.testing.v1.EchoService/${method}`,
          "content-type": "application/grpc",
          te: "trailers",
          ...headers,
        });
        let trailers: Record<string, unknown> = {};
        stream.on("response", (h) => Object.assign(trailers, h));
        stream.on("trailers", (t) => {
          trailers = { ...trailers, ...t };
        });
        stream.on("error", reject);
        stream.on("data", () => {});
        stream.on("close", () => {
          session.close();
          resolve({ code: String(trailers["grpc-status"]), message: String(trailers["grpc-message"]) });
        });
        stream.end(Buffer.alloc(5)); // one empty message
      });
    }

    it("of 30 days and of 99999999 hours do not fail the call", async () => {
      for (const timeout of ["2592000S", "99999999H", "99999999S"]) {
        assert.equal((await sendRaw({ "grpc-timeout": timeout })).code, "0", timeout);
      }
    });

    it("that are no deadlines are the caller's error", async () => {
      assert.deepEqual((await sendRaw({ "grpc-timeout": "soon" })).code, "3");
    });

    it("come from the server where the caller names none, and the method's own wins", async () => {
      await server.drain();
      const limits = { defaultDeadlineMs: 60_000, methodDeadlinesMs: { echo: 100 } };
      server = await startEcho({ limits, handlers: { echo: () => new Promise(() => {}) } });
      const startedAt = Date.now();
      assert.equal((await sendRaw({})).code, "4");
      assert.ok(Date.now() - startedAt < 2000);
    });

    it("end a stream on the wire too, also in the middle of many messages", async () => {
      await server.drain();
      server = await startEcho({
        handlers: {
          async *echoMany() {
            for (let index = 0; ; index++) {
              if (index % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
              yield { text: "x".repeat(80), index };
            }
          },
        },
      });
      for (let i = 0; i < 5; i++) {
        assert.equal((await sendRaw({ "grpc-timeout": "60m" }, "EchoMany")).code, "4");
      }
    });

    it("of the caller are not shortened by the default", async () => {
      const client = echoClient(server.address, { retry: false });
      const { remainingMs } = await client.echo({}, { deadlineMs: 60_000 });
      client.close();
      assert.ok(remainingMs !== undefined && remainingMs > 50_000);
    });
  });
});
