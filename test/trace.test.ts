/**
 * @file One batch is one trace: every span of a batch, in the trainer and in every server, has the batch's trace id and the right
 * parent, over gRPC metadata and over the weights bus; kept in files, and sent to a collector.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { startFakeCollector } from "../lib/telemetry/fake-collector.js";
import { readTraceFile, type SpanRecord } from "../lib/telemetry/index.js";
import { startCluster } from "./support/cluster.js";
import { type TinyModels, tinyModels } from "./support/models.js";
import { awaitRun, ppoRunFile, type TrainerClient } from "./support/runs.js";
import { useSandbox } from "./support/sandbox.js";

const GENERATE = "rlhf.policy.v1.PolicyService/Generate";
const LOGPROBS = "rlhf.policy.v1.PolicyService/LogProbs";
const SCORE = "rlhf.reward.v1.RewardService/Score";
const INTERNAL = 1;
const SERVER = 2;
const CLIENT = 3;
const CONSUMER = 5;
const RUN = "traced";
const BATCHES = 3;
const EPOCHS = 2;

describe("the trace of a batch", () => {
  const sandbox = useSandbox("each");
  let models: TinyModels;
  before("makes the models", async function () {
    this.timeout(90_000);
    models = await tinyModels();
  });

  /** Runs three batches on two policy servers, ends everything in order, and returns the servers' log lines. */
  async function run(
    bus: string,
    env: Record<string, string>,
    change: object = {},
    then = async (_: TrainerClient) => {},
  ): Promise<LogLine[]> {
    const box = sandbox();
    const traces = env.OTEL_EXPORTER_OTLP_ENDPOINT ? {} : { traces: box.path("runs", RUN, "traces") };
    const options = { runId: RUN, bus, policies: 2, logLevel: "debug", env, ...traces };
    const [trainer, cluster] = await Promise.all([
      box.serve("trainer", ["--runs-dir", box.path("runs")], { env }),
      startCluster(box, models, options),
    ]);
    const client = box.client(TrainerService, trainer.address);
    const config = ppoRunFile(models, {
      ...cluster.fields,
      batches: BATCHES,
      ppo: { epochs: EPOCHS, batchSize: 8, minibatchSize: 8 },
      ...change,
    });
    await client.startRun({ config, runId: RUN });
    const ended = await awaitRun(client, RUN);
    assert.equal(ended.state, RunState.FINISHED, ended.reason);
    await then(client);
    await Promise.all([trainer.stop(), cluster.stop()]);
    return [cluster.reference, cluster.reward, ...cluster.policies].flatMap((service) =>
      linesOf(service.stderr()),
    );
  }

  async function keptSpans(): Promise<SpanRecord[]> {
    const folder = sandbox().path("runs", RUN, "traces");
    const files = await Promise.all(readdirSync(folder).map((name) => readTraceFile(join(folder, name))));
    return files.flat();
  }

  it("is kept in the run's directory, whole over files, also where the next batch is generated meanwhile", async function () {
    this.timeout(90_000);
    const log = await run(`file:${sandbox().path("weights")}`, {}, { maxStaleness: 1 });
    const spans = await keptSpans();
    for (const batch of batchesOf(spans)) assertBatch(batch, spans);
    const [first, second] = batchesOf(spans) as [SpanRecord, SpanRecord];
    assert.ok(second.startNs < first.endNs, "the second batch is generated while the first is learned from");
    assertLogs(log, spans);
  });

  it("has a comparison beside it, a trace of its own with a link to the call that asked for it", async function () {
    this.timeout(90_000);
    const caller = { traceId: "5bd66ef5095369c7b0d1f8f4bd33716a", spanId: "c532cb4098ac3dd2" };
    const metadata = { traceparent: `00-${caller.traceId}-${caller.spanId}-01` };
    await run(`file:${sandbox().path("weights")}`, {}, { batches: 1 }, async (client) => {
      await client.evaluate({ runId: RUN, rows: 2 }, { metadata });
    });
    const spans = await keptSpans();
    const compared = spans.filter(({ name }) => name === "rlhf.evaluate");
    assert.equal(compared.length, 1);
    const [{ traceId, parentSpanId, links }] = compared as [SpanRecord];
    assert.equal(parentSpanId, "");
    assert.deepEqual(
      links.map((link) => link.traceId),
      [caller.traceId],
    );
    const below = spans.filter((span) => span.traceId === traceId && span.kind === SERVER);
    assert.ok(below.some(({ name }) => name === GENERATE) && below.some(({ name }) => name === SCORE));
  });

  it("reaches an OTLP collector whole, over NATS too", async function () {
    this.timeout(90_000);
    const box = sandbox();
    const nats = await box.nats();
    const collector = await startFakeCollector();
    box.defer(() => collector.close());
    const bus = nats?.url ?? `file:${box.path("weights")}`;
    await run(bus, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint });
    for (const batch of batchesOf(collector.spans)) assertBatch(batch, collector.spans);
    const services = new Set(collector.points.map(({ service }) => service));
    assert.deepEqual([...services].sort(), ["policy", "reward", "trainer"], "metrics of every service");
  });
});

/** Root spans of the run's batches, in order; asserts that there is one each. */
function batchesOf(spans: readonly SpanRecord[]): SpanRecord[] {
  const roots = spans.filter(({ name }) => name === "rlhf.batch");
  roots.sort((a, b) => Number(a.attributes["rlhf.batch.number"]) - Number(b.attributes["rlhf.batch.number"]));
  assert.deepEqual(
    roots.map(({ attributes }) => [attributes["rlhf.run"], Number(attributes["rlhf.batch.number"])]),
    Array.from({ length: BATCHES }, (_, i) => [RUN, i + 1]),
  );
  assert.equal(new Set(roots.map(({ traceId }) => traceId)).size, BATCHES, "a trace each");
  return roots;
}

/** Asserts that the trace of `root` is one tree with everything that a batch is made of. */
function assertBatch(root: SpanRecord, all: readonly SpanRecord[]): void {
  const spans = all.filter(({ traceId }) => traceId === root.traceId);
  const ids = new Map(spans.map((span) => [span.spanId, span]));
  assert.equal(ids.size, spans.length, "span ids are unique");
  assert.equal(root.parentSpanId, "");
  assert.equal(root.service, "trainer");
  for (const span of spans) {
    assert.notEqual(span.status.code, 2, `${span.name} failed: ${span.status.message}`);
    if (span !== root) assert.ok(ids.has(span.parentSpanId), `${span.name} of ${span.service} has no parent`);
  }
  const below = (parent: SpanRecord, name: string, count = 1, where: Partial<SpanRecord> = {}) => {
    const found = spans.filter((span) => span.parentSpanId === parent.spanId && span.name === name);
    const text = `${name} below ${parent.name} of batch ${root.attributes["rlhf.batch.number"]}`;
    assert.equal(found.length, count, text);
    for (const span of found) {
      for (const [key, value] of Object.entries(where))
        assert.equal(span[key as "name"], value, `${key} of ${text}`);
    }
    return found as [SpanRecord, ...SpanRecord[]];
  };
  /** A call as its client and its server see it; returns the server's span. */
  const call = (parent: SpanRecord, name: string, service: string): SpanRecord => {
    const [client] = below(parent, name, 1, { kind: CLIENT, service: "trainer" });
    const [server] = below(client, name, 1, { kind: SERVER, service });
    assert.notEqual(server.instance, client.instance, "another process");
    return server;
  };

  const [generate] = below(root, "rlhf.generate");
  const shards = below(generate, "rlhf.generate.shard", 2);
  const servers = shards.map((shard) => call(shard, GENERATE, "policy"));
  assert.equal(new Set(servers.map(({ instance }) => instance)).size, 2, "a shard for each policy server");
  for (const server of servers) {
    const completions = spans.filter(({ parentSpanId }) => parentSpanId === server.spanId);
    assert.ok(completions.length > 0);
    for (const completion of completions) {
      assert.match(completion.name, /^text_completion /);
      assert.equal(completion.kind, INTERNAL);
      assert.equal(completion.service, "policy");
    }
  }
  // each shard is scored as it returns
  for (const score of below(root, "rlhf.score", 2)) call(score, SCORE, "reward");
  for (const reference of below(root, "rlhf.reference", 2)) call(reference, LOGPROBS, "policy");

  const [learn] = below(root, "rlhf.learn");
  below(learn, "rlhf.learn.epoch", EPOCHS);
  const [publish] = below(root, "rlhf.publish");
  const [weights] = below(publish, "rlhf.weights.publish");
  const applies = below(weights, "rlhf.weights.apply", 2, { kind: CONSUMER, service: "policy" });
  const appliers = applies.map(({ instance }) => instance).sort();
  assert.deepEqual(
    appliers,
    servers.map(({ instance }) => `${instance}/worker`).sort(),
    "each policy server's apply",
  );
  for (const apply of applies) below(apply, "rlhf.weights.fetch");

  for (const child of [generate, learn, publish]) {
    assert.ok(notAfter(root.startNs, child.startNs), `${child.name} starts within its batch`);
    assert.ok(notAfter(child.endNs, root.endNs), `${child.name} ends within its batch`);
  }
  assert.ok(notAfter(generate.endNs, learn.startNs), "learning follows generation");
  assert.ok(notAfter(learn.endNs, publish.startNs), "publishing follows learning");
}

/** True unless `a` is later than `b` by more than the SDK's clock rounds: a span's start is a whole millisecond. */
function notAfter(a: bigint, b: bigint): boolean {
  return a <= b + 3_000_000n;
}

interface LogLine {
  readonly service?: string;
  readonly trace_id?: string;
  readonly span_id?: string;
  readonly msg?: string;
}

function linesOf(text: string): LogLine[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as LogLine);
}

/** Asserts that the servers' lines about a batch's calls carry its trace and a span of it. */
function assertLogs(log: readonly LogLine[], spans: readonly SpanRecord[]): void {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  for (const batch of batchesOf(spans)) {
    const own = log.filter((line) => line.trace_id === batch.traceId);
    for (const line of own) {
      assert.equal(byId.get(line.span_id ?? "")?.traceId, batch.traceId, `span of ${JSON.stringify(line)}`);
    }
    const names = new Set(own.map((line) => byId.get(line.span_id ?? "")?.name));
    for (const name of [GENERATE, LOGPROBS, SCORE]) assert.ok(names.has(name), `a log line of ${name}`);
  }
}
