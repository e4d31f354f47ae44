/**
 * @file Spans and trace context for everybody: `withSpan` around work, `traceparent` text to carry a trace over gRPC
 * metadata, NATS values and IPC (W3C Trace Context). Works on the global OpenTelemetry API: when no
 * telemetry was started, spans record nothing and an incoming trace context still passes through.
 */
import {
  type Attributes,
  type Context,
  context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  isSpanContextValid,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { ATTR_ERROR_TYPE } from "@opentelemetry/semantic-conventions";
import type { SpanName } from "./catalogue.js";

/** Name under which our instruments and spans are registered. */
export const SCOPE = "rlhf-mesh";

/** Options of withSpan. */
export interface SpanOptions {
  attributes?: Attributes;
  /** Default: INTERNAL. */
  kind?: SpanKind;
  /** Parent: a context or a traceparent text; default: the active span. `"root"` starts a trace of its own. */
  parent?: Context | string | "root";
  /** Other spans this one comes from, as traceparent texts (what is not valid is left out) or links. */
  links?: readonly (string | Link | undefined)[];
}

const w3c = new W3CTraceContextPropagator();

/**
 * Runs `work` inside a new active span and ends the span with it. An error sets status ERROR and `error.type` (the
 * error's `code`, else its name), is recorded as an event, and is thrown on.
 */
export async function withSpan<T>(
  name: SpanName,
  options: SpanOptions,
  work: (span: Span) => Promise<T> | T,
): Promise<T> {
  const opened = openSpan(name, options);
  try {
    return await opened.within(() => work(opened.span));
  } finally {
    opened.end();
  }
}

/** A span that stays open longer than one function runs. */
export interface OpenedSpan {
  readonly span: Span;
  /** Runs work with the span active; an error marks the span as failed and is thrown on. */
  within<T>(work: () => Promise<T> | T): Promise<T>;
  end(): void;
}

/** Starts a span whose work comes piece by piece. Whoever opens it ends it. */
export function openSpan(name: SpanName, options: SpanOptions): OpenedSpan {
  const { attributes, kind = SpanKind.INTERNAL, parent } = options;
  const parentContext =
    parent === "root"
      ? trace.deleteSpan(context.active())
      : typeof parent === "string"
        ? contextFromTraceparent(parent)
        : (parent ?? context.active());
  const links = (options.links ?? []).flatMap((link) =>
    typeof link === "string" ? (linkFromTraceparent(link) ?? []) : (link ?? []),
  );
  const span = trace.getTracer(SCOPE).startSpan(name, { attributes, kind, links }, parentContext);
  const active = trace.setSpan(parentContext, span);
  return {
    span,
    within: async (work) => {
      try {
        return await context.with(active, work);
      } catch (error) {
        failSpan(span, error);
        throw error;
      }
    },
    end: () => span.end(),
  };
}

/** Marks a span as failed by `error`: status ERROR with its message, `error.type`, and the error as an event. */
export function failSpan(span: Span, error: unknown): void {
  const failure = error instanceof Error ? error : new Error(String(error));
  span.recordException(failure);
  span.setAttribute(ATTR_ERROR_TYPE, errorType(error));
  span.setStatus({ code: SpanStatusCode.ERROR, message: failure.message });
}

/** The `error.type` of an error: its stable `code`, else its class name. */
export function errorType(error: unknown): string {
  if (!(error instanceof Error)) return "_OTHER";
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}

/** The `traceparent` of a context (default: the active one), or undefined when it carries no trace. */
export function injectTraceparent(from: Context = context.active()): string | undefined {
  const carrier: Record<string, string> = {};
  w3c.inject(from, carrier, defaultTextMapSetter);
  return carrier.traceparent;
}

/** The headers that carry a context (default: the active one): `traceparent`, and `tracestate` where there is one. */
export function injectHeaders(from: Context = context.active()): Record<string, string> {
  const carrier: Record<string, string> = {};
  w3c.inject(from, carrier, defaultTextMapSetter);
  return carrier;
}

/** The context that headers carry; the root context when they carry none or it is malformed. Keys are lower case. */
export function extractHeaders(headers: Record<string, string | undefined>): Context {
  return w3c.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
}

/** The context of a `traceparent`; the root context when it is missing or malformed. */
export function contextFromTraceparent(traceparent: string | undefined): Context {
  return traceparent === undefined ? ROOT_CONTEXT : extractHeaders({ traceparent });
}

/** A link to the span of a `traceparent`, or undefined when it is missing or malformed. */
export function linkFromTraceparent(traceparent: string | undefined): Link | undefined {
  const spanContext = trace.getSpanContext(contextFromTraceparent(traceparent));
  return spanContext && isSpanContextValid(spanContext) ? { context: spanContext } : undefined;
}

/** Trace and span id of the active span, for logs and replies; undefined outside of any trace. */
export function activeTraceIds(): { traceId: string; spanId: string } | undefined {
  const spanContext = trace.getSpanContext(context.active());
  return spanContext && isSpanContextValid(spanContext)
    ? { traceId: spanContext.traceId, spanId: spanContext.spanId }
    : undefined;
}

/** Registers the W3C propagator globally, for libraries that ask the API. */
export function registerPropagator(): void {
  propagation.setGlobalPropagator(w3c);
}
