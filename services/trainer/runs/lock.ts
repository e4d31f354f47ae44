/**
 * @file One process per run directory. The lock is a file with its owner's process id and start time; a lock whose
 * owner is gone is taken over.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { RunLockedError } from "../errors.js";

/** Who holds a run directory. */
export interface LockOwner {
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  /** Start of the process in clock ticks since boot, so that a reused process id is not taken for the owner. */
  readonly started: string;
}

/** Takes the lock of a run directory; returns what gives it back. Throws RunLockedError naming the owner. */
export function lockRun(directory: string): () => void {
  const path = join(directory, "lock");
  const owner: LockOwner = {
    pid: process.pid,
    host: hostname(),
    since: new Date().toISOString(),
    started: procStat(process.pid)?.started ?? "",
  };
  for (let attempt = 0; ; attempt++) {
    let file: number;
    try {
      file = openSync(path, "wx");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || attempt >= 3) throw error;
      const holder = lockOwner(directory);
      if (holder) throw new RunLockedError(directory, holder);
      discard(path);
      continue;
    }
    try {
      writeSync(file, JSON.stringify(owner));
    } catch (error) {
      rmSync(path, { force: true }); // a full disk, say
      throw error;
    } finally {
      closeSync(file);
    }
    return () => rmSync(path, { force: true });
  }
}

/** The live process that holds the run directory; undefined where there is none. */
export function lockOwner(directory: string): LockOwner | undefined {
  const holder = readOwner(join(directory, "lock"));
  return holder && isAlive(holder) ? holder : undefined;
}

/** True if a live process holds the run directory. */
export function isLocked(directory: string): boolean {
  return lockOwner(directory) !== undefined;
}

/** Removes a lock whose owner is gone. One that another process took since we looked goes back to its place. */
function discard(path: string): void {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return; // somebody else was faster
    throw error;
  }
  const holder = readOwner(aside);
  if (holder && isAlive(holder)) renameSync(aside, path);
  else rmSync(aside, { force: true });
}

function readOwner(path: string): LockOwner | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as LockOwner;
  } catch {
    return undefined; // gone, or its writer died before the first byte
  }
}

function isAlive(owner: LockOwner): boolean {
  if (owner.host !== hostname()) return true; // another machine: we cannot know, so we believe it
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const stat = procStat(owner.pid);
  // killed, but its parent has not asked for its status yet: it holds the id and does nothing any more
  if (stat && ["Z", "X"].includes(stat.state)) return false;
  return owner.started === "" || stat?.started === owner.started;
}

/** Fields 3 and 22 of /proc/PID/stat: state letter, and start in clock ticks since boot; undefined where there is no /proc. */
function procStat(pid: number): { state: string; started: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", started: fields[19] ?? "" };
  } catch {
    return undefined;
  }
}
