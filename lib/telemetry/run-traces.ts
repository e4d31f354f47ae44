/**
 * @file Keeps the spans of each run in a file of its own: a trace whose root names a run (`rlhf.run`) belongs to that run, and all
 * of its spans in this process go to the file, as OTLP JSON lines.
 */
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type Span,
  type SpanProcessor,
} from "@opentelemetry/sdk-trace";
import { TraceFileExporter } from "./trace-file.js";

/** Runs whose file stays open; a trainer works on few at a time. */
const MOST_OPEN = 8;
/** Traces of one run that may still get spans: the batch at work, the one ahead, what ends late. */
const MOST_TRACES = 64;

interface RunFile {
  readonly processor: BatchSpanProcessor;
  /** Trace ids, oldest first. */
  readonly traces: Set<string>;
}

/** Sorts spans by run. */
export class RunTraces implements SpanProcessor {
  /** Least recently used first. */
  readonly #runs = new Map<string, RunFile>();

  /** `pathOf` says where the spans of a run belong; folders are created. */
  constructor(private readonly pathOf: (run: string) => string) {}

  onStart(span: Span): void {
    const run = span.attributes["rlhf.run"];
    if (typeof run !== "string" || span.parentSpanContext !== undefined) return;
    const { traces } = this.#open(run);
    traces.add(span.spanContext().traceId);
    if (traces.size > MOST_TRACES) traces.delete(traces.values().next().value as string);
  }

  onEnd(span: ReadableSpan): void {
    const { traceId } = span.spanContext();
    for (const { processor, traces } of this.#runs.values()) {
      if (traces.has(traceId)) processor.onEnd(span);
    }
  }

  async forceFlush(): Promise<void> {
    await Promise.all([...this.#runs.values()].map(({ processor }) => processor.forceFlush()));
  }

  async shutdown(): Promise<void> {
    const open = [...this.#runs.values()];
    this.#runs.clear();
    await Promise.all(open.map(({ processor }) => processor.shutdown()));
  }

  #open(run: string): RunFile {
    let file = this.#runs.get(run);
    if (file) {
      this.#runs.delete(run); // set again below: the most recently used
    } else {
      const exporter = new TraceFileExporter(this.pathOf(run));
      const processor = new BatchSpanProcessor({ exporter, scheduledDelayMillis: 500, maxQueueSize: 8192 });
      file = { processor, traces: new Set() };
    }
    this.#runs.set(run, file);
    if (this.#runs.size > MOST_OPEN) {
      const [oldest, { processor }] = this.#runs.entries().next().value as [string, RunFile];
      this.#runs.delete(oldest);
      processor.shutdown().catch(() => {}); // costs the last spans of that run only
    }
    return file;
  }
}
