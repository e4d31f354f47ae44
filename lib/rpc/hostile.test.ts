/** @file Tests with input that no client of ours would send: raw HTTP/2, garbage on the socket, random and mutated messages. */
import assert from "node:assert/strict";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectSocket } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { encodeMessage } from "../api/index.js";
import type { RunningServer } from "./server.js";
import { echoClient, startEcho } from "./testing/echo.js";
import { EchoRequestSchema, Mood } from "./testing/gen/rlhf/testing/v1/echo_pb.js";

const path = "/rlhf.testing.v1.EchoService/Echo";
const grpcHeaders = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };

describe("a server under hostile input", () => {
  let server: RunningServer;
  let client: ReturnType<typeof echoClient>;
  before(async () => {
    server = await startEcho({ limits: { maxReceiveBytes: 100_000 } });
    client = echoClient(server.address);
  });
  after(async () => {
    client.close();
    await server.drain();
  });
  afterEach(async () => {
    assert.equal((await client.echo({ text: "still here" })).text, "still here");
    assert.equal(server.inFlight, 0);
  });

  /** Sends headers and body over a session of its own; the gRPC status, or how the stream ended. */
  function send(headers: Record<string, string>, body: Buffer, end = true): Promise<string> {
    const session: ClientHttp2Session = connectHttp2(`http://${server.address}`);
    return new Promise((resolve) => {
      const done = (outcome: string) => {
        session.destroy();
        resolve(outcome);
      };
      session.on("error", () => done("session error"));
      const stream = session.request(headers);
      let status: string | undefined;
      const note = (h: Record<string, unknown>) => {
        if (h["grpc-status"] !== undefined) status = String(h["grpc-status"]);
        else if (status === undefined && h[":status"] !== 200) status = `HTTP ${h[":status"]}`;
      };
      stream.on("response", note);
      stream.on("trailers", note);
      stream.on("data", () => {});
      stream.on("error", () => {});
      stream.on("close", () => done(status ?? "no status"));
      stream.write(body);
      if (end) stream.end();
      else setTimeout(() => stream.close(), 50);
    });
  }

  const frame = (body: Buffer, length = body.length, flag = 0) => {
    const head = Buffer.alloc(5);
    head.writeUInt8(flag, 0);
    head.writeUInt32BE(length, 1);
    return Buffer.concat([head, body]);
  };

  it("answers malformed calls with documented codes", async () => {
    const good = frame(encodeMessage(EchoRequestSchema, { text: "a" }));
    const expected: [string, Record<string, string>, Buffer, string][] = [
      ["a good call", grpcHeaders, good, "0"],
      ["another content type", { ...grpcHeaders, "content-type": "text/plain" }, good, "HTTP 415"],
      [
        "a method that is not there",
        { ...grpcHeaders, ":path": "/rlhf.testing.v1.EchoService/Nothing" },
        good,
        "12",
      ],
      ["a path that is none", { ...grpcHeaders, ":path": "/" }, good, "12"],
      ["no message", grpcHeaders, Buffer.alloc(0), "12"],
      ["two messages", grpcHeaders, Buffer.concat([good, good]), "12"],
      ["a length of 4 GiB", grpcHeaders, frame(Buffer.from("x"), 0xffffffff), "8"],
      [
        "an unknown compression",
        { ...grpcHeaders, "grpc-encoding": "zstd" },
        frame(Buffer.from("x"), 1, 1),
        "12",
      ],
      ["bytes that are no message", grpcHeaders, frame(Buffer.from([0xff, 0xff])), "3"],
      ["a deadline in the past", { ...grpcHeaders, "grpc-timeout": "0n" }, good, "4"],
    ];
    for (const [what, headers, body, status] of expected)
      assert.equal(await send(headers, body), status, what);
  });

  it("forgets calls that break off in the middle of a message", async () => {
    await send(grpcHeaders, frame(Buffer.alloc(10), 5000), false);
    await send(grpcHeaders, Buffer.from([0, 0]), false);
  });

  it("survives bytes that are not HTTP/2, and broken HTTP/2 frames", async () => {
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    const attacks = [
      Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
      Buffer.alloc(100_000, 0xff),
      Buffer.concat([preface, Buffer.alloc(9, 0xff)]), // a frame of 16 MiB of an unknown type
      Buffer.concat([preface, settings, Buffer.from([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0])]), // WINDOW_UPDATE of 0
      Buffer.concat([preface, settings, Buffer.from([0, 0, 5, 1, 4, 0, 0, 0, 2, 1, 2, 3, 4, 5])]), // even stream id
      Buffer.concat([preface, settings, Buffer.from([0, 0, 3, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff])]), // bad HPACK
      Buffer.concat([preface, settings, Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 9, 0])]), // DATA on an idle stream
    ];
    const { hostname, port } = new URL(`http://${server.address}`);
    for (const bytes of attacks) {
      await new Promise<void>((resolve) => {
        const socket = connectSocket(Number(port), hostname, () => socket.write(bytes));
        socket.on("error", () => {});
        socket.on("close", () => resolve());
        socket.on("data", () => {});
        setTimeout(() => socket.destroy(), 60);
      });
    }
  });

  it("answers random and mutated messages with OK or INVALID_ARGUMENT, and nothing else", async () => {
    const raw = new Client(server.address, credentials.createInsecure());
    const same = (bytes: Buffer) => bytes;
    const call = (wire: Buffer) =>
      new Promise<number>((resolve) => {
        raw.makeUnaryRequest(path, same, same, wire, new Metadata(), {}, (error) =>
          resolve(error?.code ?? 0),
        );
      });
    const item = fc.record({ mood: fc.integer({ min: -3, max: 5 }), moods: fc.array(fc.integer()) });
    // fields that make the handler wait or fail stay out: they are not what is tested here
    const message = fc
      .record({ text: fc.string({ unit: "binary" }), data: fc.uint8Array(), items: fc.array(item) })
      .map((init) => encodeMessage(EchoRequestSchema, { ...init, text: init.text.toString() } as never));
    const harmless = (wire: Uint8Array) => {
      try {
        const { mood, fail, delayMs } = fromBinary(EchoRequestSchema, wire);
        return mood !== Mood.STUCK && fail === "" && delayMs === 0;
      } catch {
        return true;
      }
    };
    const mutated = fc.tuple(message, fc.nat(), fc.nat(255), fc.nat(30)).map(([wire, at, byte, cut]) => {
      const copy = Buffer.from(wire);
      if (copy.length > 0) copy[at % copy.length] = byte;
      return copy.subarray(0, Math.max(0, copy.length - (cut < 10 ? cut : 0)));
    });
    const garbage = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(fc.oneof(message, mutated, garbage).filter(harmless), async (wire) => {
        const code = await call(wire);
        assert.ok(code === 0 || code === 3, `status ${code} for ${wire.toString("hex")}`);
      }),
      { numRuns: 500 },
    );
    raw.close();
  });
});
