/**
 * @file Follows a JSON-lines file that another process appends to. A resumed run cuts its file back to a checkpoint and writes
 * on from there; the follower notices, even where the file has grown past its place since, and begins again.
 */
import { type FileHandle, open } from "node:fs/promises";

const CHUNK_BYTES = 1 << 20;
const NEWLINE = 0x0a;

/** What one look at the file gave. */
export interface Lines {
  /** True where earlier values no longer hold: the first look, or a file that was cut. */
  readonly reset: boolean;
  /** New values in order. Lines that are not JSON are left out. */
  readonly values: readonly unknown[];
}

/** One followed file. */
export class JsonLinesFollower {
  /** Bytes read so far; always at the start of a line. */
  #offset = 0;
  /** The line before the offset, to see whether it still stands there. */
  #last: Buffer = Buffer.alloc(0);
  #begun = false;

  constructor(private readonly path: string) {}

  /** What came since the last look, at most about a megabyte. A file that does not exist is empty. */
  async read(): Promise<Lines> {
    let file: FileHandle;
    try {
      file = await open(this.path, "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return this.#lines(this.#offset > 0, Buffer.alloc(0));
    }
    try {
      const cut = !(await this.#stands(file));
      if (cut) this.#offset = 0;
      return this.#lines(cut, await this.#fresh(file));
    } finally {
      await file.close();
    }
  }

  async #fresh(file: FileHandle): Promise<Buffer> {
    // a line longer than a chunk is read in one piece
    for (let size = CHUNK_BYTES; ; size *= 2) {
      const bytes = await readAt(file, this.#offset, size);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0 || bytes.length < size) return bytes.subarray(0, end);
    }
  }

  #lines(cut: boolean, bytes: Buffer): Lines {
    const reset = cut || !this.#begun;
    if (cut) {
      this.#offset = 0;
      this.#last = Buffer.alloc(0);
    }
    this.#begun = true;
    if (bytes.length > 0) {
      this.#offset += bytes.length;
      this.#last = Buffer.from(bytes.subarray(bytes.lastIndexOf(NEWLINE, bytes.length - 2) + 1));
    }
    const values = bytes
      .toString("utf8")
      .split("\n")
      .flatMap((line) => {
        try {
          return line === "" ? [] : [JSON.parse(line) as unknown];
        } catch {
          return [];
        }
      });
    return { reset, values };
  }

  /** True if what was read last is still in its place. */
  async #stands(file: FileHandle): Promise<boolean> {
    const { length } = this.#last;
    return (await readAt(file, this.#offset - length, length)).equals(this.#last);
  }
}

async function readAt(file: FileHandle, position: number, size: number): Promise<Buffer> {
  const buffer = Buffer.alloc(size);
  let done = 0;
  while (done < size) {
    const { bytesRead } = await file.read(buffer, done, size - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
