/** @file Tests of grpc.health.v1. */
import assert from "node:assert/strict";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../api/gen/grpc/health/v1/health_pb.js";
import { type Client, createClient } from "./client.js";
import type { RunningServer } from "./server.js";
import { startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

const service = EchoService.typeName;

describe("health", () => {
  let server: RunningServer;
  let client: Client<typeof Health.method>;
  beforeEach(async () => {
    server = await startEcho({ adminListen: "127.0.0.1:0" });
    client = createClient(Health, server.address, { deadlineMs: 10_000, retry: false });
  });
  afterEach(async () => {
    client.close();
    await server.drain();
  });

  /** Watches a service; `seen` fills as statuses come, `ended` resolves with the status of the end. */
  function watch(key: string) {
    const seen: Serving[] = [];
    const ended = (async () => {
      for await (const { status } of client.watch({ service: key })) seen.push(status);
    })().then(
      () => "OK",
      (error: { status: string; code: string }) => `${error.status} ${error.code}`,
    );
    return { seen, ended };
  }

  it("answers Check for the process and each service, NOT_FOUND for others", async () => {
    assert.equal((await client.check({})).status, Serving.SERVING);
    assert.equal((await client.check({ service })).status, Serving.SERVING);
    await assert.rejects(client.check({ service: "no.such.Service" }), { status: "NOT_FOUND" });
  });

  it("starts as NOT_SERVING where asked to, and follows setServing", async () => {
    const loading = await startEcho({ serving: false });
    const probe = createClient(Health, loading.address, { deadlineMs: 5000 });
    assert.equal((await probe.check({ service })).status, Serving.NOT_SERVING);
    loading.setServing("", true);
    assert.equal((await probe.check({ service })).status, Serving.SERVING);
    loading.setServing(service, false);
    assert.deepEqual([loading.isServing(service), loading.isServing()], [false, true]);
    probe.close();
    await loading.drain();
  });

  it("lists every key", async () => {
    server.setServing(service, false);
    const { statuses } = await client.list({});
    const plain = Object.fromEntries(Object.entries(statuses).map(([key, { status }]) => [key, status]));
    assert.deepEqual(plain, { "": Serving.SERVING, [service]: Serving.NOT_SERVING });
  });

  it("is answered on the admin listener too", async () => {
    const admin = createClient(Health, server.adminAddress ?? "", { deadlineMs: 5000 });
    assert.equal((await admin.check({ service })).status, Serving.SERVING);
    admin.close();
  });

  it("streams every change to watchers, and SERVICE_UNKNOWN without ending for others", async () => {
    const known = watch(service);
    const unknown = watch("no.such.Service");
    await until(() => known.seen.length === 1 && unknown.seen.length === 1);
    server.setServing(service, false);
    await until(() => known.seen.length === 2);
    server.setServing(service, false); // no change, no message
    server.setServing(service, true);
    await until(() => known.seen.length === 3);
    assert.deepEqual(known.seen, [Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING]);
    server.setServing("no.such.Service", true);
    await until(() => unknown.seen.length === 2);
    assert.deepEqual(unknown.seen, [Serving.SERVICE_UNKNOWN, Serving.SERVING]);
  });

  it("tells watchers of a drain and then ends their streams, so that the drain does not wait for them", async () => {
    const { seen, ended } = watch("");
    await until(() => seen.length === 1);
    const startedAt = Date.now();
    await server.drain();
    assert.ok(Date.now() - startedAt < 900, "an open Watch does not hold up the drain");
    assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING]);
    assert.equal(await ended, "UNAVAILABLE DRAINING");
  });

  it("stays NOT_SERVING once a drain began", async () => {
    const drained = server.drain();
    server.setServing("", true);
    assert.equal(server.isServing(), false);
    await drained;
  });
});
