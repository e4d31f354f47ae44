/**
 * @file A collector for tests: takes OTLP/HTTP traces and metrics, protobuf or JSON, and keeps what it got in plain objects. It
 * can be told to be slow or to refuse. Field numbers are those of opentelemetry-proto 1.x.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, type WireType } from "@bufbuild/protobuf/wire";
import { type SpanRecord, spansOfRequest, type TraceRequestJson } from "./otlp-spans.js";

/** One data point of a metric as the collector saw it. */
export interface MetricPoint {
  service: string;
  name: string;
  unit: string;
  description: string;
  kind: "gauge" | "sum" | "histogram";
  /** The number, or the sum of a histogram. */
  value: number;
  /** Measurements in a histogram; 1 otherwise. */
  count: number;
  attributes: Record<string, unknown>;
}

/** A running fake collector. */
export interface FakeCollector {
  /** Base URL for `otlpEndpoint`. */
  readonly endpoint: string;
  readonly spans: SpanRecord[];
  readonly points: MetricPoint[];
  /** Requests that arrived, refused ones included. */
  readonly requests: { path: string; contentType: string; status: number }[];
  /** Answers with `status` after `delayMs` from now on. A negative delay never answers. */
  behave(how: { status?: number; delayMs?: number }): void;
  /** Resolves when `condition` holds after some request; rejects after `timeoutMs` (default 10 s). */
  waitFor(condition: (collector: FakeCollector) => boolean, timeoutMs?: number): Promise<void>;
  close(): Promise<void>;
}

/** Starts a collector on a free port of loopback. */
export async function startFakeCollector(): Promise<FakeCollector> {
  let behaviour = { status: 200, delayMs: 0 };
  const waiting = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const body = await readBody(request);
    const { status, delayMs } = behaviour;
    const contentType = request.headers["content-type"] ?? "";
    const path = request.url ?? "";
    collector.requests.push({ path, contentType, status });
    if (status === 200) {
      if (path === "/v1/traces") collector.spans.push(...spansOfRequest(traceRequest(body, contentType)));
      if (path === "/v1/metrics") collector.points.push(...metricPoints(body));
    }
    for (const check of waiting) check();
    if (delayMs < 0) return;
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    response.writeHead(status, { "content-type": contentType }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const collector: FakeCollector = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: [],
    points: [],
    requests: [],
    behave: (how) => {
      behaviour = { status: 200, delayMs: 0, ...how };
    },
    waitFor: (condition, timeoutMs = 10_000) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(check);
          reject(new Error(`collector: condition not met in ${timeoutMs} ms`));
        }, timeoutMs);
        const check = () => {
          if (!condition(collector)) return;
          clearTimeout(timer);
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return collector;
}

async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function traceRequest(body: Uint8Array, contentType: string): TraceRequestJson {
  if (contentType.startsWith("application/json")) return JSON.parse(Buffer.from(body).toString("utf8"));
  return decode(body, TRACE_REQUEST) as TraceRequestJson;
}

/** A message by field number: name, how to read it, whether it repeats. */
interface Field {
  name: string;
  read: "string" | "hex" | "int" | "bool" | "double" | "fixed64" | "sfixed64" | Message;
  many?: boolean;
}
type Message = () => Record<number, Field>;

const KEY_VALUE: Message = () => ({
  1: { name: "key", read: "string" },
  2: { name: "value", read: ANY_VALUE },
});
const ANY_VALUE: Message = () => ({
  1: { name: "stringValue", read: "string" },
  2: { name: "boolValue", read: "bool" },
  3: { name: "intValue", read: "int" },
  4: { name: "doubleValue", read: "double" },
  5: { name: "arrayValue", read: () => ({ 1: { name: "values", read: ANY_VALUE, many: true } }) },
  6: { name: "kvlistValue", read: () => ({ 1: { name: "values", read: KEY_VALUE, many: true } }) },
});
const RESOURCE: Message = () => ({ 1: { name: "attributes", read: KEY_VALUE, many: true } });
const SPAN: Message = () => ({
  1: { name: "traceId", read: "hex" },
  2: { name: "spanId", read: "hex" },
  4: { name: "parentSpanId", read: "hex" },
  5: { name: "name", read: "string" },
  6: { name: "kind", read: "int" },
  7: { name: "startTimeUnixNano", read: "fixed64" },
  8: { name: "endTimeUnixNano", read: "fixed64" },
  9: { name: "attributes", read: KEY_VALUE, many: true },
  11: {
    name: "events",
    many: true,
    read: () => ({
      2: { name: "name", read: "string" },
      3: { name: "attributes", read: KEY_VALUE, many: true },
    }),
  },
  13: {
    name: "links",
    many: true,
    read: () => ({ 1: { name: "traceId", read: "hex" }, 2: { name: "spanId", read: "hex" } }),
  },
  15: {
    name: "status",
    read: () => ({ 2: { name: "message", read: "string" }, 3: { name: "code", read: "int" } }),
  },
});
const TRACE_REQUEST: Message = () => ({
  1: {
    name: "resourceSpans",
    many: true,
    read: () => ({
      1: { name: "resource", read: RESOURCE },
      2: { name: "scopeSpans", many: true, read: () => ({ 2: { name: "spans", read: SPAN, many: true } }) },
    }),
  },
});
const NUMBER_POINT: Message = () => ({
  4: { name: "asDouble", read: "double" },
  6: { name: "asInt", read: "sfixed64" },
  7: { name: "attributes", read: KEY_VALUE, many: true },
});
const HISTOGRAM_POINT: Message = () => ({
  4: { name: "count", read: "fixed64" },
  5: { name: "sum", read: "double" },
  9: { name: "attributes", read: KEY_VALUE, many: true },
});
const points =
  (point: Message): Message =>
  () => ({ 1: { name: "dataPoints", read: point, many: true } });
const METRIC: Message = () => ({
  1: { name: "name", read: "string" },
  2: { name: "description", read: "string" },
  3: { name: "unit", read: "string" },
  5: { name: "gauge", read: points(NUMBER_POINT) },
  7: { name: "sum", read: points(NUMBER_POINT) },
  9: { name: "histogram", read: points(HISTOGRAM_POINT) },
});
const METRICS_REQUEST: Message = () => ({
  1: {
    name: "resourceMetrics",
    many: true,
    read: () => ({
      1: { name: "resource", read: RESOURCE },
      2: {
        name: "scopeMetrics",
        many: true,
        read: () => ({ 2: { name: "metrics", read: METRIC, many: true } }),
      },
    }),
  },
});

function decode(bytes: Uint8Array, message: Message): Record<string, unknown> {
  const fields = message();
  const reader = new BinaryReader(bytes);
  const result: Record<string, unknown> = {};
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = fields[number];
    if (!field) {
      reader.skip(wireType as WireType, number);
      continue;
    }
    const value = readField(reader, field);
    if (!field.many) {
      result[field.name] = value;
      continue;
    }
    result[field.name] ??= [];
    (result[field.name] as unknown[]).push(value);
  }
  return result;
}

function readField(reader: BinaryReader, { read }: Field): unknown {
  if (typeof read === "function") return decode(reader.bytes(), read);
  if (read === "string") return reader.string();
  if (read === "hex") return Buffer.from(reader.bytes()).toString("hex");
  if (read === "bool") return reader.bool();
  if (read === "double") return reader.double();
  if (read === "int") return Number(reader.int64());
  return String(read === "fixed64" ? reader.fixed64() : reader.sfixed64());
}

interface PointJson {
  asDouble?: number;
  asInt?: string;
  count?: string;
  sum?: number;
  attributes?: { key: string; value?: Record<string, unknown> }[];
}

interface MetricsRequestJson {
  resourceMetrics?: {
    resource?: { attributes?: { key: string; value?: Record<string, unknown> }[] };
    scopeMetrics?: {
      metrics?: ({ name: string; description?: string; unit?: string } & Partial<
        Record<"gauge" | "sum" | "histogram", { dataPoints?: PointJson[] }>
      >)[];
    }[];
  }[];
}

function metricPoints(body: Uint8Array): MetricPoint[] {
  const request = decode(body, METRICS_REQUEST) as MetricsRequestJson;
  return (request.resourceMetrics ?? []).flatMap(({ resource, scopeMetrics }) => {
    const service = String(plain(resource?.attributes)["service.name"] ?? "");
    return (scopeMetrics ?? []).flatMap(({ metrics }) =>
      (metrics ?? []).flatMap((metric) =>
        (["gauge", "sum", "histogram"] as const).flatMap((kind) =>
          (metric[kind]?.dataPoints ?? []).map((point) => ({
            service,
            name: metric.name,
            unit: metric.unit ?? "",
            description: metric.description ?? "",
            kind,
            value: point.sum ?? point.asDouble ?? Number(point.asInt ?? 0),
            count: Number(point.count ?? 1),
            attributes: plain(point.attributes),
          })),
        ),
      ),
    );
  });
}

function plain(list: PointJson["attributes"]): Record<string, unknown> {
  return Object.fromEntries((list ?? []).map(({ key, value }) => [key, Object.values(value ?? {})[0]]));
}
