/** @file Tests of spans, metrics and log lines of calls, on both sides. */
import assert from "node:assert/strict";
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { Health } from "../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../api/gen/grpc/reflection/v1/reflection_pb.js";
import { withSpan } from "../telemetry/tracing.js";
import { createClient } from "./client.js";
import type { CallContext } from "./implement.js";
import { implement } from "./implement.js";
import type { Logger } from "./log.js";
import type { RunningServer } from "./server.js";
import { echoClient, echoHandlers, startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { type RecordedTelemetry, recordTelemetry } from "./testing/telemetry.js";
import { until } from "./testing/until.js";

const name = "rlhf.testing.v1.EchoService/Echo";

describe("telemetry of calls", () => {
  let telemetry: RecordedTelemetry;
  let server: RunningServer;
  let client: ReturnType<typeof echoClient>;
  const lines: { level: string; facts: Record<string, unknown>; message?: string }[] = [];
  const seen: CallContext[] = [];

  beforeEach(async () => {
    telemetry = recordTelemetry();
    lines.length = 0;
    seen.length = 0;
    const logger = (bound: object): Logger => {
      const at = (level: string) => (facts: object, message?: string) =>
        void lines.push({ level, facts: { ...bound, ...facts, ...active() }, message });
      return {
        debug: at("debug"),
        info: at("info"),
        warn: at("warn"),
        error: at("error"),
        child: (facts) => logger({ ...bound, ...facts }),
      };
    };
    const active = () => ({ trace: trace.getSpanContext(context.active())?.traceId });
    server = await startEcho({
      log: logger({}),
      services: [implement(EchoService, echoHandlers("echo", {}, seen))],
    });
    client = echoClient(server.address, { retry: false });
  });
  afterEach(async () => {
    client.close();
    await server.drain();
    await telemetry.stop();
  });

  const spansNamed = (kind: SpanKind) =>
    telemetry.spans().filter((span) => span.name === name && span.kind === kind);

  it("joins caller, client, server and handler in one trace", async () => {
    let traceId = "";
    await withSpan("rlhf.score", {}, async (span) => {
      traceId = span.spanContext().traceId;
      const response = await client.echo({ text: "a" });
      assert.equal(response.traceId, traceId);
    });
    await until(() => spansNamed(SpanKind.SERVER).length === 1);
    const [clientSpan] = spansNamed(SpanKind.CLIENT);
    const [serverSpan] = spansNamed(SpanKind.SERVER);
    const outer = telemetry.spans().find((span) => span.name === "rlhf.score");
    assert.equal(clientSpan?.parentSpanContext?.spanId, outer?.spanContext().spanId);
    assert.equal(serverSpan?.parentSpanContext?.spanId, clientSpan?.spanContext().spanId);
    assert.equal(serverSpan?.spanContext().traceId, traceId);
    const { port } = new URL(`http://${server.address}`);
    assert.deepEqual(clientSpan?.attributes, {
      "rpc.system.name": "grpc",
      "rpc.method": name,
      "rpc.status_code": "OK",
      "server.address": "127.0.0.1",
      "server.port": Number(port),
    });
    assert.deepEqual(serverSpan?.attributes, {
      "rpc.system.name": "grpc",
      "rpc.method": name,
      "rpc.status_code": "OK",
    });
  });

  it("calls the caller's mistakes no error of the server, and its own faults one", async () => {
    await assert.rejects(client.echo({ fail: "INVALID_FIELD" }));
    await assert.rejects(client.echo({ fail: "a bug" }));
    await until(() => spansNamed(SpanKind.SERVER).length === 2);
    const [mistake, fault] = spansNamed(SpanKind.SERVER);
    assert.equal(mistake?.attributes["rpc.status_code"], "INVALID_ARGUMENT");
    assert.equal(mistake?.status.code, SpanStatusCode.UNSET);
    assert.equal(fault?.attributes["error.type"], "INTERNAL");
    assert.equal(fault?.status.code, SpanStatusCode.ERROR);
    assert.ok(spansNamed(SpanKind.CLIENT).every((span) => span.status.code === SpanStatusCode.ERROR));
  });

  it("passes the trace on through a handler that calls further", async () => {
    const front = await startEcho({
      handlers: { echo: async (request, ctx) => client.echo({ text: request.text }, { parent: ctx }) },
    });
    const outer = echoClient(front.address);
    const { traceId } = await outer.echo({ text: "through" });
    await until(() => spansNamed(SpanKind.SERVER).length === 2);
    const traces = new Set(telemetry.spans().map((span) => span.spanContext().traceId));
    assert.deepEqual([...traces], [traceId]);
    outer.close();
    await front.drain();
  });

  it("records durations by method and status, also of calls that never reached a handler", async () => {
    await client.echo({});
    await assert.rejects(client.echo({ data: new Uint8Array(5_000_000) }), { code: "MESSAGE_TOO_LARGE" });
    await until(() => spansNamed(SpanKind.SERVER).length === 2);
    const points = await telemetry.points("rpc.server.call.duration");
    const statuses = points.map(({ attributes }) => attributes["rpc.status_code"]).sort();
    assert.deepEqual(statuses, ["OK", "RESOURCE_EXHAUSTED"]);
    const clientPoints = await telemetry.points("rpc.client.call.duration");
    assert.deepEqual(clientPoints.map(({ attributes }) => attributes["error.type"]).sort(), [
      "RESOURCE_EXHAUSTED",
      undefined,
    ]);
    const active = await telemetry.points("rlhf.requests.active");
    assert.deepEqual(
      active.map(({ value }) => value),
      [0],
    );
  });

  it("counts a call whose caller went away as CANCELLED or DEADLINE_EXCEEDED, once", async () => {
    const abort = new AbortController();
    const cancelled = client.echo({ mood: 2 }, { signal: abort.signal });
    await until(() => seen.length === 1);
    abort.abort();
    await assert.rejects(cancelled);
    await assert.rejects(client.echo({ mood: 2 }, { deadlineMs: 150 }));
    await until(() => spansNamed(SpanKind.SERVER).length === 2);
    const statuses = spansNamed(SpanKind.SERVER).map((span) => span.attributes["rpc.status_code"]);
    assert.deepEqual(statuses, ["CANCELLED", "DEADLINE_EXCEEDED"]);
  });

  it("logs calls with method, id and trace; the cause of a fault only there", async () => {
    await client.echo({}, { metadata: { "x-request-id": "one" } });
    await assert.rejects(client.echo({ fail: "a bug" }, { metadata: { "x-request-id": "two" } }));
    await until(() => lines.filter(({ message }) => message === "call").length === 2);
    const [ok] = lines.filter(({ facts }) => facts.request_id === "one");
    assert.deepEqual([ok?.level, ok?.facts.method, ok?.facts.status], ["debug", name, "OK"]);
    const fault = lines.find(({ level }) => level === "error");
    assert.equal((fault?.facts.err as Error | undefined)?.message, "asked to fail with a bug");
    assert.equal(fault?.facts.request_id, "two");
    assert.match(String(fault?.facts.trace), /^[0-9a-f]{32}$/);
  });

  it("does not trace or log probes and reflection", async () => {
    const health = createClient(Health, server.address, { deadlineMs: 1000 });
    await health.check({});
    const reflection = createClient(ServerReflection, server.address, { deadlineMs: 1000 });
    const ask = [{ messageRequest: { case: "listServices" as const, value: "" } }];
    for await (const _ of reflection.serverReflectionInfo(ask));
    await until(async () => (await telemetry.points("rpc.server.call.duration")).length === 2);
    assert.deepEqual(
      telemetry.spans().filter((span) => span.kind === SpanKind.SERVER),
      [],
    );
    assert.deepEqual(
      lines.filter(({ message }) => message === "call"),
      [],
    );
    health.close();
    reflection.close();
  });
});
