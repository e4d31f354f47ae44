/**
 * @file One process per run directory. The lock is a file with its owner's process id and start time; a lock whose
 * owner is gone is taken over.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { RunLockedError } from "../errors.js";

interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  /** Start of the process in clock ticks since boot, so that a reused process id is not taken for the owner. */
  readonly started: string;
}

/** Takes the lock of a run directory; returns what gives it back. Throws RunLockedError naming the owner. */
export function lockRun(directory: string): () => void {
  const path = join(directory, "lock");
  const owner: Owner = {
    pid: process.pid,
    host: hostname(),
    since: new Date().toISOString(),
    started: procStat(process.pid)?.started ?? "",
  };
  for (let attempt = 0; ; attempt++) {
    try {
      const file = openSync(path, "wx");
      writeSync(file, JSON.stringify(owner));
      closeSync(file);
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || attempt >= 3) throw error;
      const holder = readOwner(path);
      if (holder && isAlive(holder)) throw new RunLockedError(directory, holder);
      rmSync(path, { force: true });
    }
  }
}

/** True if a live process holds the run directory. */
export function isLocked(directory: string): boolean {
  const holder = readOwner(join(directory, "lock"));
  return holder !== undefined && isAlive(holder);
}

function readOwner(path: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Owner;
  } catch {
    return undefined; // gone, or its writer died before the first byte
  }
}

function isAlive(owner: Owner): boolean {
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
