/**
 * @file One batch as a timeline: which process did what when. In: trace files (OTLP JSON lines) of the run's servers and of the
 * trainer. Out: a lane per process, its spans in rows so that none covers another.
 */
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { readTraceFile, type SpanRecord } from "../lib/telemetry/otlp-spans.js";
import { NotFoundError } from "./errors.js";

/** One span of a lane; times in milliseconds from the timeline's start. */
export interface TimelineSpan {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  /** Row within the lane, from 0. */
  readonly row: number;
  /** Why it failed; empty where it did not. */
  readonly error: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** What one process did. */
export interface TimelineLane {
  /** Name of the process: that of its trace file, e.g. `policy-1`. */
  readonly name: string;
  readonly service: string;
  readonly instance: string;
  readonly rows: number;
  readonly spans: readonly TimelineSpan[];
}

/** A batch. */
export interface Timeline {
  readonly traceId: string;
  readonly durationMs: number;
  readonly lanes: readonly TimelineLane[];
  /** Spans that were left out since there are too many to draw. */
  readonly leftOut: number;
}

const MAX_SPANS = 4000;
const ROOT = "rlhf.batch";

interface Found {
  readonly file: string;
  readonly span: SpanRecord;
}

/** The timeline of step `step` of a run, from the trace files in its directory. Throws NotFoundError where none has the batch. */
export async function readTimeline(runDirectory: string, run: string, step: number): Promise<Timeline> {
  const files = traceFiles(join(runDirectory, "traces"));
  const roots = await collect(
    files,
    ({ name, attributes }) =>
      name === ROOT && attributes["rlhf.run"] === run && Number(attributes["rlhf.batch.number"]) === step,
  );
  // a resumed run may have done a step twice: the later one counts
  const root = roots.sort((a, b) => Number(b.span.startNs - a.span.startNs))[0]?.span;
  if (!root) {
    throw new NotFoundError(
      files.length === 0
        ? "This run has no traces; trainer and servers write them into the traces folder of its directory."
        : `No trace has batch ${step}.`,
    );
  }
  return timelineOf(await collect(files, ({ traceId }) => traceId === root.traceId));
}

/** Lays the spans of one trace out. */
export function timelineOf(found: readonly Found[]): Timeline {
  const shown = [...found]
    .sort((a, b) => Number(b.span.endNs - b.span.startNs - (a.span.endNs - a.span.startNs)))
    .slice(0, MAX_SPANS);
  const spans = shown.map(({ span }) => span);
  const start = spans.reduce(
    (least, { startNs }) => (startNs < least ? startNs : least),
    spans[0]?.startNs ?? 0n,
  );
  const end = spans.reduce((most, { endNs }) => (endNs > most ? endNs : most), start);
  const ms = (time: bigint) => Number(time - start) / 1e6;
  const lanes = new Map<string, Found[]>();
  for (const each of shown) {
    const key = `${each.file}\n${each.span.instance}`;
    lanes.set(key, [...(lanes.get(key) ?? []), each]);
  }
  return {
    traceId: spans[0]?.traceId ?? "",
    durationMs: ms(end),
    leftOut: found.length - shown.length,
    lanes: [...lanes.values()].map((lane) => laneOf(lane, ms)).sort(byPart),
  };
}

function laneOf(found: readonly Found[], ms: (time: bigint) => number): TimelineLane {
  const { file, span: first } = found[0] as Found;
  // parents before their children, so that a child lies below
  const ordered = found
    .map(({ span }) => span)
    .sort((a, b) => Number(a.startNs - b.startNs) || Number(b.endNs - a.endNs));
  const ends: bigint[] = [];
  const spans = ordered.map((span) => {
    const free = ends.findIndex((end) => end <= span.startNs);
    const row = free === -1 ? ends.length : free;
    ends[row] = span.endNs;
    return {
      name: span.name,
      startMs: ms(span.startNs),
      endMs: ms(span.endNs),
      row,
      error: span.status.code === 2 ? span.status.message || "failed" : "",
      attributes: Object.fromEntries(
        Object.entries(span.attributes).map(([name, value]) => [name, String(value)]),
      ),
    };
  });
  return {
    name: basename(file, ".jsonl"),
    service: first.service,
    instance: first.instance,
    rows: ends.length,
    spans,
  };
}

/** The trainer first, then servers by name. */
function byPart(a: TimelineLane, b: TimelineLane): number {
  const rank = (lane: TimelineLane) => (lane.service === "trainer" ? 0 : 1);
  return rank(a) - rank(b) || a.name.localeCompare(b.name) || a.instance.localeCompare(b.instance);
}

async function collect(files: readonly string[], match: (span: SpanRecord) => boolean): Promise<Found[]> {
  const found: Found[] = [];
  for (const file of files) for (const span of await readTraceFile(file, match)) found.push({ file, span });
  return found;
}

function traceFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(".jsonl"))
    .map((name) => join(folder, name));
}
