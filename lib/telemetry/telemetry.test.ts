import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace";
import { packageRoot } from "../config/package-root.js";
import { runReadmeExample } from "../config/readme-example.js";
import { startFakeCollector } from "./fake-collector.js";
import {
  activeTraceIds,
  context,
  contextFromTraceparent,
  counter,
  createLog,
  extractHeaders,
  gauge,
  histogram,
  injectHeaders,
  injectTraceparent,
  isSpanName,
  linkFromTraceparent,
  METRICS,
  type MetricName,
  type MetricNameOf,
  observe,
  readTraceFile,
  SPANS,
  SpanKind,
  startTelemetry,
  type Telemetry,
  type TelemetryOptions,
  UnknownInstrumentError,
  withSpan,
} from "./index.js";

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

describe("telemetry", () => {
  let folder: string;
  let telemetry: Telemetry | undefined;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "telemetry-"));
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    await telemetry?.shutdown();
    telemetry = undefined;
  });
  const start = (options: Partial<TelemetryOptions>) => {
    telemetry = startTelemetry({ service: "test", otlpEndpoint: "", logLevel: "silent", ...options });
    return telemetry;
  };

  describe("spans", () => {
    it("keep their parents across awaits and timers, also when two traces interleave", async () => {
      const exporter = new InMemorySpanExporter();
      start({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
      const work = (n: number) =>
        withSpan("rlhf.batch", { attributes: { n }, parent: "root" }, async () => {
          await sleep(n);
          await withSpan("rlhf.learn", { attributes: { n } }, () => sleep(5 - n));
        });
      await Promise.all([work(1), work(4)]);
      const spans = exporter.getFinishedSpans();
      assert.equal(spans.length, 4);
      for (const n of [1, 4]) {
        const [root] = spans.filter((span) => span.name === "rlhf.batch" && span.attributes.n === n);
        const [child] = spans.filter((span) => span.name === "rlhf.learn" && span.attributes.n === n);
        assert.equal(root.parentSpanContext, undefined);
        assert.equal(child.parentSpanContext?.spanId, root.spanContext().spanId);
        assert.equal(child.spanContext().traceId, root.spanContext().traceId);
      }
    });

    it("record an error with its code and throw it on", async () => {
      const exporter = new InMemorySpanExporter();
      start({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
      const failure = Object.assign(new Error("no room"), { code: "QUEUE_FULL" });
      await assert.rejects(
        withSpan("rlhf.score", {}, async () => {
          throw failure;
        }),
        (error) => error === failure,
      );
      const [span] = exporter.getFinishedSpans();
      assert.deepEqual(span.status, { code: 2, message: "no room" });
      assert.equal(span.attributes["error.type"], "QUEUE_FULL");
      assert.equal(span.events[0].name, "exception");
    });

    it("join the trace of a traceparent and link to others", async () => {
      const exporter = new InMemorySpanExporter();
      start({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
      const inside = await withSpan(
        "rlhf.weights.apply",
        { parent: TRACEPARENT, links: [TRACEPARENT, "garbage", undefined], kind: SpanKind.CONSUMER },
        () => ({ traceparent: injectTraceparent(), ids: activeTraceIds() }),
      );
      const [span] = exporter.getFinishedSpans();
      assert.equal(span.spanContext().traceId, "0af7651916cd43dd8448eb211c80319c");
      assert.equal(span.parentSpanContext?.spanId, "b7ad6b7169203331");
      assert.equal(span.links.length, 1);
      assert.equal(inside.traceparent, `00-${inside.ids?.traceId}-${inside.ids?.spanId}-01`);
    });
  });

  describe("when it is off", () => {
    it("records nothing, yet lets an incoming trace context pass through", async () => {
      const off = start({});
      assert.equal(off.enabled, false);
      assert.equal(injectTraceparent(), undefined);
      assert.equal(activeTraceIds(), undefined);
      const headers = { traceparent: TRACEPARENT, tracestate: "vendor=1" };
      const passed = await withSpan("rlhf.generate", { parent: extractHeaders(headers) }, async () => {
        await sleep(1);
        return injectHeaders();
      });
      assert.deepEqual(passed, headers);
      counter("rlhf.samples").add(1);
      histogram("rlhf.queue.duration").record(1);
    });

    it("ignores malformed traceparents", () => {
      assert.equal(linkFromTraceparent("00-zz-11-01"), undefined);
      assert.equal(linkFromTraceparent(undefined), undefined);
      assert.equal(injectTraceparent(contextFromTraceparent("nonsense")), undefined);
    });
  });

  describe("trace file", () => {
    it("holds OTLP JSON lines: hex ids, nanoseconds as text, one request a line", async () => {
      const traceFile = join(folder, "run", "traces.jsonl");
      const on = start({ traceFile, instance: "i-1", version: "1.2.3" });
      await withSpan("rlhf.batch", { attributes: { "rlhf.batch.number": 3, names: ["a"] } }, () =>
        withSpan("rlhf.learn", { links: [TRACEPARENT] }, () => {}),
      );
      await on.shutdown();
      const lines = readFileSync(traceFile, "utf8").trimEnd().split("\n");
      for (const line of lines) {
        for (const { scopeSpans } of JSON.parse(line).resourceSpans) {
          for (const span of scopeSpans.flatMap((scope: { spans: object[] }) => scope.spans)) {
            assert.match(span.traceId, /^[0-9a-f]{32}$/);
            assert.match(span.spanId, /^[0-9a-f]{16}$/);
            assert.match(span.startTimeUnixNano, /^\d{19}$/);
            assert.equal(typeof span.endTimeUnixNano, "string");
          }
        }
      }
      const spans = await readTraceFile(traceFile);
      const batch = spans.find((span) => span.name === "rlhf.batch");
      const learn = spans.find((span) => span.name === "rlhf.learn");
      assert.ok(batch && learn);
      assert.equal(learn.parentSpanId, batch.spanId);
      assert.equal(batch.service, "test");
      assert.equal(batch.instance, "i-1");
      assert.deepEqual(batch.attributes, { "rlhf.batch.number": 3, names: ["a"] });
      assert.deepEqual(learn.links, [
        { traceId: TRACEPARENT.slice(3, 35), spanId: TRACEPARENT.slice(36, 52) },
      ]);
      assert.ok(batch.endNs >= batch.startNs);
    });

    it("that cannot be written costs the spans, not the process", async () => {
      const lines: string[] = [];
      const file = join(folder, "a-file-not-a-folder");
      writeFileSync(file, "");
      const on = start({
        traceFile: join(file, "traces.jsonl"),
        logLevel: "warn",
        logDestination: { write: (line) => void lines.push(line) },
      });
      await withSpan("rlhf.batch", {}, () => {});
      await on.shutdown();
      assert.ok(
        lines.some((line) => line.includes("a-file-not-a-folder")),
        lines.join(),
      );
    });
  });

  describe("trace files of runs", () => {
    it("hold the whole traces whose root names the run, and no others", async () => {
      const pathOf = (run: string) => join(folder, "runs", run, "trainer.jsonl");
      const on = start({ traceFileOf: pathOf });
      const batch = (run: string) =>
        withSpan("rlhf.batch", { parent: "root", attributes: { "rlhf.run": run } }, () =>
          withSpan("rlhf.learn", {}, () => sleep(2)),
        );
      await Promise.all([batch("a"), batch("b"), withSpan("rlhf.evaluate", { parent: "root" }, () => {})]);
      await batch("a");
      await on.shutdown();
      for (const [run, batches] of [
        ["a", 2],
        ["b", 1],
      ] as const) {
        const spans = await readTraceFile(pathOf(run));
        assert.deepEqual(spans.map(({ name }) => name).sort(), [
          ...new Array(batches).fill("rlhf.batch"),
          ...new Array(batches).fill("rlhf.learn"),
        ]);
        const roots = spans.filter(({ name }) => name === "rlhf.batch");
        for (const root of roots) assert.equal(root.attributes["rlhf.run"], run);
        assert.ok(spans.every(({ traceId }) => roots.some((root) => root.traceId === traceId)));
      }
    });

    it("are closed, oldest first, when many runs follow one another, and opened again", async () => {
      const pathOf = (run: string) => join(folder, "many", `${run}.jsonl`);
      const on = start({ traceFileOf: pathOf });
      const runs = Array.from({ length: 12 }, (_, i) => `run-${i}`);
      for (const run of [...runs, "run-0"]) {
        await withSpan("rlhf.batch", { parent: "root", attributes: { "rlhf.run": run } }, () => {});
      }
      await on.shutdown();
      for (const run of runs) {
        const spans = await readTraceFile(pathOf(run));
        assert.equal(spans.length, run === "run-0" ? 2 : 1, run);
      }
    });
  });

  describe("collector", () => {
    it("gets spans and metrics as protobuf over HTTP, with resource and units", async () => {
      const collector = await startFakeCollector();
      try {
        const on = start({ otlpEndpoint: collector.endpoint, instance: "i-2" });
        await withSpan("rlhf.batch", { attributes: { ratio: 0.5, ok: true, n: 7 } }, () => {});
        counter("rlhf.samples").add(5, { "rlhf.outcome": "scored", "request.id": "unbounded" });
        histogram("rlhf.queue.duration").record(0.03, { "rlhf.queue": "score" });
        gauge("rlhf.weights.version").record(42, { "rlhf.run": "r" });
        await on.shutdown();
        const [span] = collector.spans;
        assert.equal(span.name, "rlhf.batch");
        assert.equal(span.service, "test");
        assert.equal(span.instance, "i-2");
        assert.deepEqual(span.attributes, { ratio: 0.5, ok: true, n: 7 });
        const point = (name: string) => collector.points.find((one) => one.name === name);
        assert.equal(point("rlhf.samples")?.value, 5);
        assert.deepEqual(point("rlhf.samples")?.attributes, { "rlhf.outcome": "scored" });
        assert.equal(point("rlhf.queue.duration")?.unit, "s");
        assert.equal(point("rlhf.queue.duration")?.count, 1);
        assert.equal(point("rlhf.weights.version")?.value, 42);
        assert.ok((point("rlhf.process.memory")?.value ?? 0) > 1e6);
        assert.equal(collector.requests[0].contentType, "application/x-protobuf");
      } finally {
        await collector.close();
      }
    });

    for (const [what, how] of [
      ["never answers", { delayMs: -1 }],
      ["refuses with 503", { status: 503 }],
      ["answers too late", { delayMs: 4000 }],
    ] as const) {
      it(`that ${what} does not hold up shutdown`, async () => {
        const collector = await startFakeCollector();
        try {
          collector.behave(how);
          const on = start({ otlpEndpoint: collector.endpoint, shutdownTimeoutMs: 300 });
          await withSpan("rlhf.batch", {}, () => {});
          counter("rlhf.samples").add(1);
          const before = performance.now();
          await on.shutdown();
          assert.ok(performance.now() - before < 1500);
        } finally {
          await collector.close();
        }
      });
    }

    it("that is not there does not hold up work or shutdown", async () => {
      const on = start({ otlpEndpoint: "http://127.0.0.1:9", shutdownTimeoutMs: 300 });
      for (let i = 0; i < 3000; i++) await withSpan("rlhf.batch", {}, () => {});
      const before = performance.now();
      await on.shutdown();
      assert.ok(performance.now() - before < 1500);
    });

    it("also takes JSON", async () => {
      const collector = await startFakeCollector();
      try {
        const traceFile = join(folder, "json.jsonl");
        const on = start({ traceFile });
        await withSpan("rlhf.batch", {}, () => {});
        await on.shutdown();
        const [body] = readFileSync(traceFile, "utf8").split("\n");
        const headers = { "content-type": "application/json" };
        await fetch(`${collector.endpoint}/v1/traces`, { method: "POST", body, headers });
        assert.deepEqual(collector.spans, await readTraceFile(traceFile));
      } finally {
        await collector.close();
      }
    });
  });

  describe("Prometheus endpoint", () => {
    it("serves the metrics with unit and description", async () => {
      const on = start({ prometheusPort: 0 });
      const { prometheusAddress } = await on.ready();
      counter("rlhf.weights.io").add(7, { "rlhf.direction": "in" });
      const response = await fetch(`http://${prometheusAddress}/metrics`);
      const text = await response.text();
      assert.equal(response.status, 200);
      assert.match(text, /# HELP rlhf_weights_io_total Bytes of weights/);
      assert.match(
        text,
        /# UNIT rlhf_weights_io_total By\n# TYPE rlhf_weights_io_total counter\nrlhf_weights_io_total\{[^}]*rlhf_direction="in"[^}]*\} 7/,
      );
      assert.match(text, /rlhf_process_memory\{[^}]*"rss"/);
      assert.equal((await fetch(`http://${prometheusAddress}/other`)).status, 404);
    });

    it("says which port is taken", async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const { port } = server.address() as AddressInfo;
      const on = start({ prometheusPort: port });
      await assert.rejects(on.ready(), new RegExp(`prometheus endpoint 127.0.0.1:${port}: .*EADDRINUSE`));
      server.close();
    });
  });

  it("refuses to start twice, and starts again after shutdown", async () => {
    const first = start({
      spanProcessors: [new SimpleSpanProcessor({ exporter: new InMemorySpanExporter() })],
    });
    assert.throws(() => startTelemetry({ service: "b", traceFile: join(folder, "b") }), /already running/);
    await first.shutdown();
    await first.shutdown();
    const exporter = new InMemorySpanExporter();
    start({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
    await withSpan("rlhf.batch", {}, () => {});
    assert.equal(exporter.getFinishedSpans().length, 1);
  });

  describe("log", () => {
    const capture = () => {
      const lines: string[] = [];
      const log = createLog({
        service: "policy",
        instance: "p-1",
        destination: { write: (line) => void lines.push(line) },
      });
      return { log, last: () => JSON.parse(lines.at(-1) ?? "{}") as Record<string, unknown> };
    };

    it("writes JSON with service, instance and the ids of the active trace", () => {
      start({});
      const { log, last } = capture();
      log.info({ rows: 3 }, "scored");
      assert.equal(last().level, "info");
      assert.equal(last().message, "scored");
      assert.equal(last().service, "policy");
      assert.equal(last().instance, "p-1");
      assert.equal(last().rows, 3);
      assert.equal(last().trace_id, undefined);
      context.with(contextFromTraceparent(TRACEPARENT), () => log.info("inside"));
      assert.equal(last().trace_id, "0af7651916cd43dd8448eb211c80319c");
      assert.equal(last().span_id, "b7ad6b7169203331");
    });

    it("never writes a secret", () => {
      const { log, last } = capture();
      const word = "hunter2hunter2";
      log.warn(
        { token: word, a: { password: word, b: { apiKey: word } } },
        `sent Bearer ${word} to nats://joe:${word}@h`,
      );
      assert.ok(!JSON.stringify(last()).includes(word), JSON.stringify(last()));
      assert.deepEqual([last().token, last().a], ["***", { password: "***", b: { apiKey: "***" } }]);
      const facts = { peers: [{ name: "a", credentials: { user: "joe", pass: word } }], at: new Date(0) };
      log.child({ secret: word }).warn(facts, "deep");
      assert.ok(!JSON.stringify(last()).includes(word), JSON.stringify(last()));
      assert.deepEqual(
        [last().peers, last().at],
        [[{ name: "a", credentials: "***" }], "1970-01-01T00:00:00.000Z"],
      );
      assert.equal(facts.peers[0]?.credentials.pass, word, "what is logged is not changed");
      log.error({ err: Object.assign(new Error("refused"), { request: { token: word } }) }, "failed");
      assert.ok(!JSON.stringify(last()).includes(word), JSON.stringify(last()));
      log.error({ err: Object.assign(new Error(`connect nats://joe:${word}@h`), { code: "X" }) }, "failed");
      assert.ok(!JSON.stringify(last()).includes(word));
      assert.equal((last().err as { code: string }).code, "X");
    });
  });

  describe("catalogue", () => {
    it("gives every metric a kind, a UCUM unit and a sentence, and every histogram bounds", () => {
      for (const [name, entry] of Object.entries(METRICS)) {
        assert.match(name, /^(rlhf|rpc|gen_ai)\.[a-z0-9_.]+$/, name);
        assert.match(entry.unit, /^(s|By|1|\{[a-z_]+\})$/, name);
        assert.match(entry.description, /^[A-Z0-9].+\.$/, name);
        assert.equal(entry.kind === "histogram", "bounds" in entry, name);
      }
      for (const [name, description] of Object.entries(SPANS)) assert.match(description, /\.$/, name);
    });

    it("knows its own span names and patterns, and no others", () => {
      assert.ok(isSpanName("rlhf.batch"));
      assert.ok(isSpanName("rlhf.policy.v1.PolicyService/Generate"));
      assert.ok(isSpanName("text_completion gpt2"));
      assert.ok(!isSpanName("rlhf.unheard"));
      assert.ok(!isSpanName("{package}.{Service}/{Method}"));
    });

    it("is the only source of instruments: another name or kind is refused", () => {
      const on = start({});
      assert.throws(() => counter("rlhf.unheard" as MetricNameOf<"counter">), UnknownInstrumentError);
      assert.throws(() => counter("rlhf.reward" as MetricNameOf<"counter">), /is a gauge in the catalogue/);
      assert.throws(() => observe("rlhf.unheard" as MetricNameOf<"gauge">, () => {}), UnknownInstrumentError);
      assert.throws(() => on.meter.createCounter("rlhf.unheard"), UnknownInstrumentError);
      assert.throws(() => on.meter.createHistogram("rlhf.samples"), UnknownInstrumentError);
      assert.ok(on.meter.createCounter("rlhf.samples"));
    });

    it("cannot be gone round: no other room touches the OpenTelemetry meter or a literal instrument name outside it", () => {
      const offences: string[] = [];
      const names = new Set<string>(Object.keys(METRICS) satisfies string[] as MetricName[]);
      for (const file of sourceFiles()) {
        const text = readFileSync(join(packageRoot(), file), "utf8");
        if (/\.(getMeter|create(Observable)?(Counter|UpDownCounter|Histogram|Gauge))\(/.test(text)) {
          offences.push(`${file}: creates an instrument by itself`);
        }
        for (const [, name] of text.matchAll(
          /\b(?:counter|upDownCounter|histogram|gauge|observe)\(\s*"([^"]+)"/g,
        )) {
          if (!names.has(name)) offences.push(`${file}: ${name} is not in the catalogue`);
        }
        for (const [, name] of text.matchAll(/\bwithSpan\(\s*"([^"]+)"/g)) {
          if (!isSpanName(name)) offences.push(`${file}: span ${name} is not in the catalogue`);
        }
      }
      assert.deepEqual(offences, []);
    });

    it("promises nothing that is not recorded: every instrument is named where it is used", () => {
      const own = readdirSync(join(packageRoot(), "lib", "telemetry"))
        .filter((file) => file.endsWith(".ts") && !/\.test\.ts$|^catalogue\.ts$/.test(file))
        .map((file) => join("lib", "telemetry", file));
      const text = [...own, ...sourceFiles()]
        .map((file) => readFileSync(join(packageRoot(), file), "utf8"))
        .join("\n");
      // those of RPC are called by constants of the semantic conventions
      const ours = Object.keys(METRICS).filter((name) => !name.startsWith("rpc."));
      const unused = ours.filter((name) => !text.includes(`"${name}"`));
      assert.deepEqual(unused, []);
    });
  });

  it("opens its README with an example that runs", async () => {
    process.env.TRACE_DIR = folder;
    try {
      const { result } = await runReadmeExample("lib/telemetry");
      const { sent, spans } = result as { sent: string; spans: { traceId: string; spanId: string }[] };
      assert.equal(sent, `00-${spans[0].traceId}-${spans[0].spanId}-01`);
    } finally {
      delete process.env.TRACE_DIR;
    }
  });
});

/** Our own sources outside of this room, tests excepted. */
function sourceFiles(): string[] {
  return ["lib", "services", "cli", "dashboard", "bench"].flatMap((room) => {
    const entries = (() => {
      try {
        return readdirSync(join(packageRoot(), room), { recursive: true, encoding: "utf8" });
      } catch {
        return []; // a room that does not exist
      }
    })();
    return entries
      .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
      .map((file) => join(room, file))
      .filter((file) => !file.startsWith(join("lib", "telemetry")) && !file.includes("node_modules"));
  });
}
