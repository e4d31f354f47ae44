/**
 * @file Keeps spans in a file as OTLP JSON lines: each line is one ExportTraceServiceRequest in the JSON encoding of the
 * OTLP specification, so that a collector's file receiver or our dashboard can read it back. Several processes may append to
 * one file: a batch is written with a single append.
 */
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { JsonTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";

/** Appends finished spans to a file. A write that fails loses that batch only and is reported to the SDK. */
export class TraceFileExporter implements SpanExporter {
  readonly #path: string;
  #file: Promise<FileHandle> | undefined;
  #writes: Promise<void> = Promise.resolve();

  /** The folder is created when the first span is written. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Called by the span processor with a batch of finished spans. */
  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    const line = JsonTraceSerializer.serializeRequest(spans);
    if (!line) {
      done({ code: ExportResultCode.FAILED, error: new Error("spans could not be serialized") });
      return;
    }
    this.#writes = this.#writes
      .then(() => this.#append(line))
      .then(
        () => done({ code: ExportResultCode.SUCCESS }),
        (cause: Error) =>
          done({
            code: ExportResultCode.FAILED,
            error: new Error(`trace file ${this.#path}: ${cause.message}`, { cause }),
          }),
      );
  }

  /** Waits until everything exported so far is in the file. */
  async forceFlush(): Promise<void> {
    await this.#writes;
  }

  /** Writes what is pending and closes the file. */
  async shutdown(): Promise<void> {
    await this.#writes;
    const file = await this.#file?.catch(() => undefined);
    this.#file = undefined;
    await file?.close();
  }

  async #append(line: Uint8Array): Promise<void> {
    this.#file ??= mkdir(dirname(this.#path), { recursive: true }).then(() => open(this.#path, "a"));
    let file: FileHandle;
    try {
      file = await this.#file;
    } catch (error) {
      this.#file = undefined; // try again with the next batch
      throw error;
    }
    await file.appendFile(Buffer.concat([line, Buffer.from("\n")]));
  }
}
