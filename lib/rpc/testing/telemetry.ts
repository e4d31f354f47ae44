/** @file Telemetry kept in memory, for tests. */
import type { Attributes } from "@opentelemetry/api";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace";
import { startTelemetry } from "../../telemetry/index.js";

/** What was recorded. */
export interface RecordedTelemetry {
  /** Spans that have ended, in order. */
  spans(): ReadableSpan[];
  /** The newest data points of a metric; none if nothing was recorded. */
  points(name: string): Promise<{ attributes: Attributes; value: unknown }[]>;
  /** Ends the recording. */
  stop(): Promise<void>;
}

/** Starts telemetry that keeps everything in memory. Only one can run in a process. */
export function recordTelemetry(): RecordedTelemetry {
  const exporter = new InMemorySpanExporter();
  const metrics = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 3_600_000 });
  const telemetry = startTelemetry({
    service: "test",
    otlpEndpoint: "",
    logLevel: "silent",
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
    metricReaders: [reader],
  });
  return {
    spans: () => exporter.getFinishedSpans(),
    async points(name) {
      metrics.reset();
      await reader.forceFlush();
      const all = metrics
        .getMetrics()
        .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
      const points: { attributes: Attributes; value: unknown }[] = [];
      for (const { descriptor, dataPoints } of all) if (descriptor.name === name) points.push(...dataPoints);
      return points;
    },
    stop: () => telemetry.shutdown(),
  };
}
