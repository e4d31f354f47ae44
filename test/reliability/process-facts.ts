/** @file What the kernel says of processes: CPU time, memory, open files. Linux only, as these tests are. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Jiffies a second; Linux has used 100 for every architecture of ours. */
const HZ = 100;

/** Parent and CPU seconds of a process; undefined if it is gone. */
function statOf(pid: number): { parent: number; cpuSeconds: number; state: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [state = "", parent] = fields;
    return { state, parent: Number(parent), cpuSeconds: (Number(fields[11]) + Number(fields[12])) / HZ };
  } catch {
    return undefined;
  }
}

/** Living processes of this machine by parent. */
function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = statOf(Number(name));
    if (!stat || stat.state === "Z") continue;
    const list = children.get(stat.parent);
    if (list) list.push(Number(name));
    else children.set(stat.parent, [Number(name)]);
  }
  return children;
}

/** A process and all that descend from it. */
export function descendants(pid: number): number[] {
  const children = childrenByParent();
  const found = [pid];
  for (const each of found) found.push(...(children.get(each) ?? []));
  return found;
}

/** The model worker of a service. Throws unless there is exactly one. */
export function workerOf(pid: number): number {
  const workers = (childrenByParent().get(pid) ?? []).filter((child) =>
    commandOf(child).includes("worker.js"),
  );
  if (workers.length !== 1) throw new Error(`process ${pid} has ${workers.length} workers`);
  return workers[0] as number;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

/** CPU seconds of a process so far, by the kernel's scheduler, to the nanosecond; its threads' included. */
export function cpuSecondsOf(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const nanoseconds = tasks.map((task) => {
    try {
      return Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]);
    } catch {
      return 0; // the thread has ended
    }
  });
  return nanoseconds.reduce((sum, value) => sum + value, 0) / 1e9;
}

/** Open files of a process by kind: socket, pipe, anon_inode, file. */
export function openFiles(pid: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const kind = /^(socket|pipe|anon_inode):/.exec(target)?.[1] ?? "file";
      counts[kind] = (counts[kind] ?? 0) + 1;
    } catch {
      // closed meanwhile
    }
  }
  return counts;
}

/** Busy CPU seconds of the whole machine so far. */
function machineCpuSeconds(): number {
  const [line = ""] = readFileSync("/proc/stat", "latin1").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / HZ;
}

/** Measures how much of the machine others used while a test ran. */
export class NeighbourWatch {
  readonly #started = performance.now();
  readonly #machine = machineCpuSeconds();
  readonly #before = new Map<number, number>();
  readonly #latest = new Map<number, number>();
  readonly #timer = setInterval(() => this.#sample(), 300);

  constructor() {
    this.#timer.unref();
    this.#sample();
    for (const [pid, seconds] of this.#latest) this.#before.set(pid, seconds);
  }

  /** Ends the watch: cores that processes which are not ours used on average. */
  stop(): number {
    clearInterval(this.#timer);
    this.#sample();
    const elapsed = (performance.now() - this.#started) / 1000;
    let own = 0;
    for (const [pid, seconds] of this.#latest) own += seconds - (this.#before.get(pid) ?? 0);
    return Math.max(0, (machineCpuSeconds() - this.#machine - own) / elapsed);
  }

  #sample(): void {
    for (const pid of descendants(process.pid)) {
      const seconds = statOf(pid)?.cpuSeconds;
      if (seconds !== undefined) this.#latest.set(pid, seconds);
    }
  }
}
