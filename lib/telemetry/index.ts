/** @file Telemetry: traces, metrics and logs of a process, and the catalogue of their names. */
export { context, type Link, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
export {
  type InstrumentKind,
  isSpanName,
  METRICS,
  type MetricEntry,
  type MetricName,
  type MetricNameOf,
  SPANS,
  type SpanName,
} from "./catalogue.js";
export { GEN_AI, GEN_AI_PROVIDER, GEN_AI_TEXT_COMPLETION } from "./gen-ai.js";
export {
  type CounterHandle,
  counter,
  gauge,
  histogram,
  observe,
  type RecorderHandle,
  UnknownInstrumentError,
  upDownCounter,
} from "./instruments.js";
export { createLog, LOG_LEVELS, type Log, type LogLevel, redactText, silentLog } from "./log.js";
export { readTraceFile, type SpanRecord } from "./otlp-spans.js";
export { countScored } from "./scored-items.js";
export { startTelemetry, type Telemetry, type TelemetryOptions } from "./telemetry.js";
export {
  activeTraceIds,
  contextFromTraceparent,
  errorType,
  extractHeaders,
  failSpan,
  injectHeaders,
  injectTraceparent,
  linkFromTraceparent,
  type OpenedSpan,
  openSpan,
  type SpanOptions,
  withSpan,
} from "./tracing.js";
