/** @file Checks of W3C trace context: that it is accepted, and, where the server's spans can be read, that it is carried on. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readTraceFile, type SpanRecord } from "../../lib/telemetry/index.js";
import { type Check, must, needs } from "./check.js";
import type { Target } from "./target.js";
import { sleep } from "./work.js";

/** OTLP's number of a server span. */
const SERVER = 2;
/** How long a span may take to arrive in the file. */
const EXPORT_MS = 15_000;
/** How much longer the right span may take than another one of the same call. */
const STRAGGLER_MS = 2000;

/** Checks of trace context. */
export const traceChecks: readonly Check<Target>[] = [
  {
    id: "trace/accepted",
    what: "W3C trace context is accepted, malformed too",
    async run(target) {
      const contexts: Readonly<Record<string, string>>[] = [
        { traceparent: `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`, tracestate: "vendor=value,other=1" },
        { traceparent: `00-${"0".repeat(32)}-${"0".repeat(16)}-00` },
        { traceparent: "not a trace context", tracestate: "=" },
      ];
      for (const headers of contexts) {
        const { status } = await target.raw(target.subject.probe(), { headers });
        must(
          status === 0,
          `traceparent "${headers.traceparent}": expected status 0, got ${status ?? "none"}`,
        );
      }
    },
  },
  {
    id: "trace/continued",
    what: "the server's span belongs to the trace that the call came with, as a child of the caller's span",
    async run(target) {
      const { traceFile } = target;
      needs(traceFile !== undefined, "no --trace-file was given, in which the server's spans could be seen");
      const spans = async () => (existsSync(traceFile) ? await readTraceFile(traceFile, isServer) : []);
      const before = new Set((await spans()).map(({ spanId }) => spanId));
      const [traceId, parent] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
      const headers = { traceparent: `00-${traceId}-${parent}-01` };
      const { status } = await target.raw(target.subject.probe(), { headers });
      must(status === 0, `a call with a traceparent: expected status 0, got ${status ?? "none"}`);
      const later = await arrived(
        async () => (await spans()).filter(({ spanId }) => !before.has(spanId)),
        traceId,
      );
      const ours = later.find((span) => span.traceId === traceId);
      must(
        ours !== undefined,
        later.length === 0
          ? `no server span arrived in ${traceFile} within ${EXPORT_MS} ms`
          : `the call came with trace ${traceId}, the server's span is of trace ${later[0]?.traceId}`,
      );
      must(
        ours.parentSpanId === parent,
        `the call came from span ${parent}, the server's span is a child of ${ours.parentSpanId || "none"}`,
      );
    },
  },
];

/** New server spans, once there is one of the trace, or one of another trace and a while has passed. */
async function arrived(look: () => Promise<SpanRecord[]>, traceId: string): Promise<SpanRecord[]> {
  let end = Date.now() + EXPORT_MS;
  for (let seen = false; ; ) {
    const spans = await look();
    if (spans.some((span) => span.traceId === traceId) || Date.now() > end) return spans;
    if (!seen && spans.length > 0) {
      seen = true;
      end = Math.min(end, Date.now() + STRAGGLER_MS);
    }
    await sleep(100);
  }
}

function isServer({ kind }: SpanRecord): boolean {
  return kind === SERVER;
}
