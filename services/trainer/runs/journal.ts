/**
 * @file Append-only JSON lines: metrics and events of a run. A line cut short by a crash is dropped at the next open.
 * A checkpoint notes how long the metrics were, so that a resumed run continues from there and no step stands twice.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";

/** One open JSON-lines file. */
export class Journal {
  readonly #file: number;
  #bytes: number;
  #closed = false;

  /** Opens or creates the file, and cuts it to `bytes` or, without, to its last whole line. */
  constructor(
    readonly path: string,
    bytes?: number,
  ) {
    this.#file = openSync(path, existsSync(path) ? "r+" : "w+");
    const size = fstatSync(this.#file).size;
    this.#bytes = bytes ?? (size === 0 ? 0 : wholeLines(path));
    if (this.#bytes > size) throw new Error(`${path}: expected at least ${this.#bytes} bytes, found ${size}`);
    ftruncateSync(this.#file, this.#bytes);
  }

  /** Length in bytes; what a checkpoint notes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends one value as a line. Throws after `close`. */
  append(value: unknown): void {
    // the number may belong to another file by now, into the midst of which this would be written
    if (this.#closed) throw new Error(`${this.path}: closed, and nothing can be appended`);
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    for (let done = 0; done < line.length; ) {
      done += writeSync(this.#file, line, done, line.length - done, this.#bytes + done);
    }
    this.#bytes += line.length;
  }

  /** Puts what was appended on the disk, so that a checkpoint which notes the length finds it there after a power cut, too. */
  sync(): void {
    fsyncSync(this.#file);
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }
}

/** Reads the values of a JSON-lines file; a last line without its end is left out. */
export function readJournal(path: string): unknown[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, "utf8");
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

function wholeLines(path: string): number {
  return readFileSync(path).lastIndexOf(0x0a) + 1;
}
