/**
 * @file Replaces a directory as a whole: filled under a temporary name beside it, synced, renamed into place.
 * Whatever happens on the way, the old content or the new is there; a crash between the two renames is
 * repaired by
 * {@link recoverDirectory}, which every reader and writer calls first.
 */
import { randomBytes } from "node:crypto";
import { access, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { CheckpointWriteError } from "./errors.js";
import { syncFolder } from "./safetensors.js";

/** The old content while the new one is being renamed into place. */
function previousOf(dir: string): string {
  return join(dirname(dir), `.${basename(dir)}.previous`);
}

/** Puts the old content back where a crash left nothing; otherwise does nothing. */
export async function recoverDirectory(dir: string): Promise<void> {
  const target = resolve(dir);
  if ((await exists(target)) || !(await exists(previousOf(target)))) return;
  try {
    await rename(previousOf(target), target);
  } catch (error) {
    if (!(await exists(target))) throw error; // otherwise another process was quicker
  }
}

/**
 * Replaces `dir` by what `fill` writes into the empty folder it is given. Files are synced before the rename.
 * Throws {@link CheckpointWriteError} with the cause (`ENOSPC`, `EACCES` …), or what `fill` threw; `dir`
 * stays as it was.
 */
export async function replaceDirectory(dir: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const target = resolve(dir);
  const parent = dirname(target);
  const temporary = join(parent, `.${basename(target)}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    await mkdir(parent, { recursive: true });
    await recoverDirectory(target);
    await removeAbandoned(parent, basename(target));
    await mkdir(temporary);
    await fill(temporary);
    await syncTree(temporary);
    await swap(temporary, target);
    await syncFolder(parent);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    const cause = error instanceof CheckpointWriteError ? error.cause : error;
    const isSystem = cause instanceof Error && "syscall" in cause;
    throw isSystem ? new CheckpointWriteError(target, cause) : cause;
  }
}

async function swap(temporary: string, target: string): Promise<void> {
  const previous = previousOf(target);
  for (let attempt = 1; ; attempt++) {
    if (await exists(target)) {
      await rm(previous, { recursive: true, force: true });
      await rename(target, previous);
    }
    try {
      await rename(temporary, target);
      break;
    } catch (error) {
      // a reader that came between the two renames may have put the old content back: then once more
      await recoverDirectory(target);
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== "ENOTEMPTY" && code !== "EEXIST") || attempt === 5) throw error;
    }
  }
  await rm(previous, { recursive: true, force: true });
}

/** Removes what processes that are no longer alive left behind. */
async function removeAbandoned(parent: string, name: string): Promise<void> {
  const mark = `.${name}.tmp-`;
  for (const entry of await readdir(parent)) {
    const pid = entry.startsWith(mark) ? Number(entry.slice(mark.length).split("-")[0]) : undefined;
    if (pid !== undefined && pid !== process.pid && !isAlive(pid)) {
      await rm(join(parent, entry), { recursive: true, force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      await syncTree(path);
      continue;
    }
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncFolder(folder);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
