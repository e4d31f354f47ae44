/** @file Tests of what GetInfo says about a server, and of the admin listener's channelz. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { ServerInfoSchema } from "../api/gen/rlhf/types/v1/types_pb.js";
import { startTelemetry } from "../telemetry/index.js";
import { resolveLimits } from "./limits.js";
import type { Logger } from "./log.js";
import { serverInfo } from "./server-info.js";
import { echoClient, startEcho } from "./testing/echo.js";

describe("server info", () => {
  it("tells build, limits and defaults", () => {
    const limits = resolveLimits({ methodDeadlinesMs: { generate: 300_000 } });
    const facts = { device: "cpu", engine: "onnxruntime", limits, serviceLimits: { max_items: 256 } };
    const info = create(ServerInfoSchema, serverInfo(facts));
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    assert.equal(info.buildVersion, version);
    assert.equal(info.defaultDeadlineMs, 60_000n);
    assert.equal(info.limits.max_items, 256n);
    assert.equal(info.limits.max_receive_bytes, 4_194_304n);
    assert.equal(info.limits["default_deadline_ms.generate"], 300_000n);
    assert.ok(info.instance.endsWith(`:${process.pid}`));
  });
});

describe("the admin listener", () => {
  it("serves channelz, and the public one does not", async () => {
    const server = await startEcho({ adminListen: "127.0.0.1:0" });
    const ask = (address: string) => {
      const client = new Client(address, credentials.createInsecure());
      const same = (bytes: Buffer) => bytes;
      return new Promise<number>((resolve) => {
        const path = "/grpc.channelz.v1.Channelz/GetServers";
        client.makeUnaryRequest(path, same, same, Buffer.alloc(0), new Metadata(), {}, (error) => {
          client.close();
          resolve(error?.code ?? 0);
        });
      });
    };
    assert.equal(await ask(server.adminAddress ?? ""), 0);
    assert.equal(await ask(server.address), 12);
    await server.drain();
  });
});

describe("the kit's logger", () => {
  it("is one that telemetry makes", async () => {
    const telemetry = startTelemetry({ service: "test", otlpEndpoint: "", logLevel: "silent" });
    const log: Logger = telemetry.log;
    const server = await startEcho({ log });
    const client = echoClient(server.address);
    await client.echo({});
    client.close();
    await server.drain();
    await telemetry.shutdown();
  });
});
