/**
 * @file Starts and stops telemetry of one process: traces (OTLP, and a file of OTLP JSON lines), metrics (OTLP, Prometheus)
 * and the log. In: options from the process's configuration. Out: a Telemetry to hand to whoever needs it. Losing or
 * never reaching a collector costs telemetry only: nothing waits for it, and shutdown is bounded.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { context, DiagLogLevel, diag, type Meter, metrics, type Tracer, trace } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import {
  createAllowListAttributesProcessor,
  type IMetricReader,
  MeterProvider,
  PeriodicExportingMetricReader,
  type ViewOptions,
} from "@opentelemetry/sdk-metrics";
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import {
  ATTR_SERVICE_INSTANCE_ID,
  ATTR_SERVICE_NAME,
  ATTR_SERVICE_VERSION,
} from "@opentelemetry/semantic-conventions";
import type { DestinationStream } from "pino";
import { METRICS } from "./catalogue.js";
import { AsyncContextManager } from "./context-manager.js";
import { cataloguedMeter } from "./instruments.js";
import { createLog, type Log, type LogLevel } from "./log.js";
import { observeProcess } from "./process-metrics.js";
import { PrometheusEndpoint } from "./prometheus.js";
import { RunTraces } from "./run-traces.js";
import { TraceFileExporter } from "./trace-file.js";
import { registerPropagator, SCOPE } from "./tracing.js";

/** What startTelemetry needs to know. */
export interface TelemetryOptions {
  /** `service.name`: policy, reward, bertscore, trainer, cli. */
  service: string;
  /** `service.instance.id`; default: host name, process id and four random hex digits. */
  instance?: string;
  /** `service.version`. */
  version?: string;
  /** Spans are appended to this file as OTLP JSON lines. */
  traceFile?: string;
  /** Spans of traces whose root names a run (`rlhf.run`) are also appended to the file of that run. */
  traceFileOf?: (run: string) => string;
  /** Base URL of an OTLP/HTTP collector for traces and metrics; default: `OTEL_EXPORTER_OTLP_ENDPOINT`; `""` turns it off. */
  otlpEndpoint?: string;
  /** Serves `/metrics` on this port (0: any free one). */
  prometheusPort?: number;
  /** Address of the Prometheus endpoint; default 127.0.0.1. */
  prometheusHost?: string;
  /** Default: info. */
  logLevel?: LogLevel;
  /** Where log lines go; default: stderr. */
  logDestination?: DestinationStream;
  /** Share of new traces that are recorded, 0 to 1; default 1. A trace that a caller began follows the caller. */
  sampleRatio?: number;
  /** Time between two exports of metrics, ms; default 10000. */
  metricIntervalMs?: number;
  /** Longest time that shutdown may take, ms; default 3000. */
  shutdownTimeoutMs?: number;
  /** More receivers of spans, e.g. an in-memory one in a test. */
  spanProcessors?: SpanProcessor[];
  /** More readers of metrics, e.g. an in-memory one in a test. */
  metricReaders?: IMetricReader[];
}

/** Telemetry of one process. */
export interface Telemetry {
  readonly service: string;
  readonly instance: string;
  /** True when spans are recorded or metrics read; false when everything is a no-op. */
  readonly enabled: boolean;
  readonly tracer: Tracer;
  /** Creates instruments of the catalogue only; `counter()`, `histogram()` … of this room are shorter. */
  readonly meter: Meter;
  readonly log: Log;
  /** Resolves when endpoints listen, with the address of `/metrics` if there is one; rejects when a port is taken. */
  ready(): Promise<{ prometheusAddress?: string }>;
  /** Sends what is pending and returns within `shutdownTimeoutMs`, whatever the collector does. Never rejects. */
  shutdown(): Promise<void>;
}

let running = false; // telemetry that records
let propagating = false; // context manager and propagator, registered once and kept

/**
 * Starts telemetry. Without a collector, a trace file, a Prometheus port or a reader, everything is a no-op except the log, and trace
 * context of callers still passes through. Throws when telemetry that records is already running in this process.
 */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const { service, instance = defaultInstance() } = options;
  const endpoint = options.otlpEndpoint ?? process.env.OTEL_EXPORTER_OTLP_ENDPOINT ?? "";
  const log = createLog({ service, instance, level: options.logLevel, destination: options.logDestination });
  const resource = resourceFromAttributes({
    [ATTR_SERVICE_NAME]: service,
    [ATTR_SERVICE_INSTANCE_ID]: instance,
    ...(options.version !== undefined && { [ATTR_SERVICE_VERSION]: options.version }),
    "host.name": hostname(),
    "process.pid": process.pid,
  }).merge(detectResources({ detectors: [envDetector] }));

  const prometheus =
    options.prometheusPort === undefined
      ? undefined
      : new PrometheusEndpoint(options.prometheusHost ?? "127.0.0.1", options.prometheusPort);
  const spanProcessors = createSpanProcessors(endpoint, options);
  const metricReaders = createMetricReaders(endpoint, options, prometheus);
  const enabled = spanProcessors.length > 0 || metricReaders.length > 0;
  if (enabled && running) {
    throw new Error("telemetry is already running in this process: shut it down before starting it again");
  }

  // context and propagation always: an incoming trace passes through a process that records nothing
  if (!propagating) {
    context.setGlobalContextManager(new AsyncContextManager().enable());
    registerPropagator();
    propagating = true;
  }
  const stops: (() => Promise<void>)[] = [];
  if (enabled) {
    running = true;
    diag.setLogger(diagnosticsTo(log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  }
  if (spanProcessors.length > 0)
    stops.push(registerTracing(resource, spanProcessors, options.sampleRatio ?? 1));
  if (metricReaders.length > 0) stops.push(registerMetrics(resource, metricReaders));

  const listening = prometheus?.listen() ?? Promise.resolve(undefined);
  listening.catch((error: Error) => log.error({ err: error }, "prometheus endpoint does not listen"));

  let stopped: Promise<void> | undefined;
  const shutdown = async () => {
    // the endpoint closes first: a scrape after the readers are gone would answer with nothing
    const work = prometheus ? [() => prometheus.close(), ...stops] : stops;
    const finished = work.map((stop) =>
      stop().catch((err: Error) => log.warn({ err }, "telemetry: the last spans or metrics are lost")),
    );
    const timely = await within(Promise.all(finished), options.shutdownTimeoutMs ?? 3000);
    if (!timely) log.warn("telemetry: shutdown timed out, some spans or metrics are lost");
    if (enabled) {
      for (const api of [trace, metrics, diag]) api.disable();
      running = false;
    }
  };
  return {
    service,
    instance,
    enabled,
    tracer: trace.getTracer(SCOPE),
    meter: cataloguedMeter(metrics.getMeter(SCOPE)),
    log,
    ready: async () => {
      const address = await listening;
      return address === undefined ? {} : { prometheusAddress: address };
    },
    shutdown: () => {
      stopped ??= shutdown();
      return stopped;
    },
  };
}

function createSpanProcessors(endpoint: string, options: TelemetryOptions): SpanProcessor[] {
  const processors = [...(options.spanProcessors ?? [])];
  if (endpoint !== "") {
    const exporter = new OTLPTraceExporter({ url: join(endpoint, "v1/traces"), timeoutMillis: 5000 });
    processors.push(
      new BatchSpanProcessor({ exporter, scheduledDelayMillis: 2000, exportTimeoutMillis: 10_000 }),
    );
  }
  if (options.traceFile !== undefined) {
    const exporter = new TraceFileExporter(options.traceFile);
    processors.push(new BatchSpanProcessor({ exporter, scheduledDelayMillis: 500, maxQueueSize: 8192 }));
  }
  if (options.traceFileOf !== undefined) processors.push(new RunTraces(options.traceFileOf));
  return processors;
}

function createMetricReaders(
  endpoint: string,
  options: TelemetryOptions,
  prometheus: PrometheusEndpoint | undefined,
): IMetricReader[] {
  const readers = [...(options.metricReaders ?? [])];
  if (endpoint !== "") {
    const interval = options.metricIntervalMs ?? 10_000;
    readers.push(
      new PeriodicExportingMetricReader({
        exporter: new OTLPMetricExporter({ url: join(endpoint, "v1/metrics"), timeoutMillis: 5000 }),
        exportIntervalMillis: interval,
        exportTimeoutMillis: Math.min(interval, 5000),
      }),
    );
  }
  if (prometheus) readers.push(prometheus.reader);
  return readers;
}

function registerTracing(
  resource: Resource,
  spanProcessors: SpanProcessor[],
  ratio: number,
): () => Promise<void> {
  const provider = new TracerProvider({
    resource,
    spanProcessors,
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
  });
  trace.setGlobalTracerProvider(provider);
  return () => provider.shutdown();
}

function registerMetrics(resource: Resource, readers: IMetricReader[]): () => Promise<void> {
  // an attribute that the catalogue does not list never becomes a time series
  const views: ViewOptions[] = Object.entries(METRICS).map(([instrumentName, { attributes }]) => ({
    instrumentName,
    attributesProcessors: [createAllowListAttributesProcessor([...attributes])],
  }));
  const provider = new MeterProvider({ resource, readers, views });
  metrics.setGlobalMeterProvider(provider);
  const stopObserving = observeProcess();
  return async () => {
    try {
      await provider.shutdown(); // collects once more before it ends
    } finally {
      stopObserving();
    }
  };
}

/** The SDK's own warnings as log lines; one that repeats (a collector that stays away) is logged once a minute. */
function diagnosticsTo(log: Log) {
  const lastLogged = new Map<string, number>();
  const write =
    (level: "warn" | "error") =>
    (message: string, ...details: unknown[]) => {
      const text = `telemetry: ${[message, ...details].map(String).join(" ")}`.slice(0, 500);
      const now = Date.now();
      if (now - (lastLogged.get(text) ?? 0) < 60_000) return;
      if (lastLogged.size > 100) lastLogged.clear();
      lastLogged.set(text, now);
      log[level](text);
    };
  return { error: write("error"), warn: write("warn"), info() {}, debug() {}, verbose() {} };
}

/** True when `work` ended within `ms`. */
async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

function join(endpoint: string, path: string): string {
  return `${endpoint.replace(/\/+$/, "")}/${path}`;
}

function defaultInstance(): string {
  return `${hostname()}-${process.pid}-${randomBytes(2).toString("hex")}`;
}
