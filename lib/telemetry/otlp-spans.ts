/**
 * @file Reads spans back: from a trace file (OTLP JSON lines) or from one ExportTraceServiceRequest in OTLP's JSON encoding.
 * In: text. Out: flat spans with their resource, as the dashboard's timeline and the tests want them.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";

/** One finished span, with the process it came from. */
export interface SpanRecord {
  service: string;
  instance: string;
  /** 32 hex digits. */
  traceId: string;
  /** 16 hex digits. */
  spanId: string;
  /** 16 hex digits; empty for the root of a trace. */
  parentSpanId: string;
  name: string;
  /** 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  kind: number;
  /** Start, Unix time in nanoseconds. */
  startNs: bigint;
  /** End, Unix time in nanoseconds. */
  endNs: bigint;
  attributes: Record<string, unknown>;
  events: { name: string; attributes: Record<string, unknown> }[];
  links: { traceId: string; spanId: string }[];
  /** 0 unset, 1 ok, 2 error. */
  status: { code: number; message: string };
}

interface JsonValue {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: string | number;
  doubleValue?: number;
  bytesValue?: string;
  arrayValue?: { values?: JsonValue[] };
  kvlistValue?: { values?: JsonKeyValue[] };
}

interface JsonKeyValue {
  key: string;
  value?: JsonValue;
}

/** The part of OTLP's JSON encoding that we read. */
export interface TraceRequestJson {
  resourceSpans?: {
    resource?: { attributes?: JsonKeyValue[] };
    scopeSpans?: {
      spans?: {
        traceId: string;
        spanId: string;
        parentSpanId?: string;
        name: string;
        kind?: number;
        startTimeUnixNano: string | number;
        endTimeUnixNano: string | number;
        attributes?: JsonKeyValue[];
        events?: { name: string; attributes?: JsonKeyValue[] }[];
        links?: { traceId: string; spanId: string }[];
        status?: { code?: number; message?: string };
      }[];
    }[];
  }[];
}

/** The spans of one request. */
export function spansOfRequest(request: TraceRequestJson): SpanRecord[] {
  return (request.resourceSpans ?? []).flatMap(({ resource, scopeSpans }) => {
    const process = attributesOf(resource?.attributes);
    const service = String(process["service.name"] ?? "");
    const instance = String(process["service.instance.id"] ?? "");
    return (scopeSpans ?? []).flatMap(({ spans }) =>
      (spans ?? []).map((span) => ({
        service,
        instance,
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId ?? "",
        name: span.name,
        kind: span.kind ?? 0,
        startNs: BigInt(span.startTimeUnixNano),
        endNs: BigInt(span.endTimeUnixNano),
        attributes: attributesOf(span.attributes),
        events: (span.events ?? []).map(({ name, attributes }) => ({
          name,
          attributes: attributesOf(attributes),
        })),
        links: (span.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
        status: { code: span.status?.code ?? 0, message: span.status?.message ?? "" },
      })),
    );
  });
}

/**
 * Every span of a trace file, in the order written. A last line that a dying process left unfinished is skipped; `match` picks
 * spans while reading, so that a large file need not be held whole.
 */
export async function readTraceFile(
  path: string,
  match: (span: SpanRecord) => boolean = () => true,
): Promise<SpanRecord[]> {
  const found: SpanRecord[] = [];
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    let request: TraceRequestJson;
    try {
      request = JSON.parse(line) as TraceRequestJson;
    } catch {
      continue; // cut short by a crash
    }
    for (const span of spansOfRequest(request)) if (match(span)) found.push(span);
  }
  return found;
}

function attributesOf(list: JsonKeyValue[] | undefined): Record<string, unknown> {
  return Object.fromEntries((list ?? []).map(({ key, value }) => [key, plainValue(value)]));
}

function plainValue(value: JsonValue | undefined): unknown {
  if (!value) return undefined;
  if (value.arrayValue) return (value.arrayValue.values ?? []).map(plainValue);
  if (value.kvlistValue) return attributesOf(value.kvlistValue.values);
  if (value.intValue !== undefined) return Number(value.intValue);
  return value.stringValue ?? value.boolValue ?? value.doubleValue ?? value.bytesValue;
}
