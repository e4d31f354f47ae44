/**
 * @file A full disk: recognised wherever in a chain of causes it stands, and a little room held back from the start so that a run
 * that meets one can still say so.
 */
import { randomFillSync } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

const CODES = ["ENOSPC", "EDQUOT"];

/** The error of the file system in a chain of causes that says the disk, or the quota, is full. */
export function diskFullCause(error: unknown): Error | undefined {
  const seen = new Set<unknown>();
  for (let at = error; at instanceof Error && !seen.has(at); at = at.cause) {
    if (CODES.includes((at as NodeJS.ErrnoException).code ?? "")) return at;
    seen.add(at);
  }
  return undefined;
}

/** Enough for run.json twice and a few events. */
const SPARE_BYTES = 128 * 1024;

/** Room on the disk of a run directory. */
export class SpareRoom {
  readonly #path: string;

  /** Takes the room. Throws what the file system says where there is none. */
  constructor(directory: string) {
    this.#path = join(directory, "spare");
    const file = openSync(this.#path, "w");
    try {
      const bytes = randomFillSync(Buffer.alloc(SPARE_BYTES)); // what a file system that compresses can't make smaller
      for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
      fsyncSync(file);
    } catch (error) {
      this.free();
      throw error;
    } finally {
      closeSync(file);
    }
  }

  /** Gives the room back to whoever writes next. */
  free(): void {
    rmSync(this.#path, { force: true });
  }
}
