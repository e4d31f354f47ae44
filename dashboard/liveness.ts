/**
 * @file Whether a live process works on a run directory. The trainer's lock file names its owner: process id, host, and start time
 * in clock ticks since boot, so that a reused process id is not taken for the owner.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

/** True if the lock's owner lives, or is on another machine, where we cannot know. */
export function isAtWork(directory: string): boolean {
  let owner: { pid?: number; host?: string; started?: string };
  try {
    owner = JSON.parse(readFileSync(join(directory, "lock"), "utf8"));
  } catch {
    return false; // no lock, or its writer died before the first byte
  }
  if (owner.host !== hostname()) return true;
  if (typeof owner.pid !== "number") return false;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const stat = procStat(owner.pid);
  // killed, but its parent has not asked for its status yet: it holds the id and does nothing any more
  if (stat && ["Z", "X"].includes(stat.state)) return false;
  return !owner.started || stat?.started === owner.started;
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
