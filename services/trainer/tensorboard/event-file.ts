/**
 * @file The metrics of a run as TensorBoard event files: TFRecords of tensorflow.Event below `<run>/tensorboard`. Each start of
 * a run writes a file of its own; a resumed run's file says which steps of the earlier ones no longer count, so that
 * no step stands twice.
 */
import { closeSync, mkdirSync, openSync, readdirSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { maskedCrc32c } from "./crc32c.js";
import { restartEvent, scalarsEvent, versionEvent } from "./event-proto.js";

const NAME = /^events\.out\.tfevents\.(\d+)\./;

/** One open event file. Every step is in the file when `step` returns. */
export class EventFile {
  readonly path: string;
  readonly #file: number;
  #closed = false;

  /** Creates the folder and the next file. `purgeFrom`: first step that this file writes anew, for a run that goes on. */
  constructor(folder: string, options: { readonly purgeFrom?: number } = {}) {
    mkdirSync(folder, { recursive: true });
    // readers take the files in the order of their names, so a later one must never sort before an earlier one
    const latest = Math.max(0, ...readdirSync(folder).map((name) => Number(NAME.exec(name)?.[1] ?? 0)));
    const stamp = Math.max(Math.floor(Date.now() / 1000), latest + 1);
    this.path = join(
      folder,
      `events.out.tfevents.${String(stamp).padStart(10, "0")}.${hostname()}.${process.pid}`,
    );
    this.#file = openSync(this.path, "wx");
    this.#append(versionEvent(seconds()));
    if (options.purgeFrom !== undefined) this.#append(restartEvent(seconds(), options.purgeFrom));
  }

  /** Appends the scalars of one step. Throws what the file system says. */
  step(step: number, values: Readonly<Record<string, number>>): void {
    this.#append(scalarsEvent(seconds(), step, values));
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }

  /** TFRecord: length (u64), its checksum, the data, its checksum; little-endian. */
  #append(data: Uint8Array): void {
    // the number may belong to another file by now
    if (this.#closed) throw new Error("TensorBoard's event file is closed");
    const record = Buffer.alloc(16 + data.length);
    record.writeBigUInt64LE(BigInt(data.length));
    record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
    record.set(data, 12);
    record.writeUInt32LE(maskedCrc32c(data), 12 + data.length);
    for (let done = 0; done < record.length; ) done += writeSync(this.#file, record, done);
  }
}

const seconds = () => Date.now() / 1000;
