/**
 * @file Real services as processes on loopback, for benchmarks: started as `rlhf serve` starts them, with their logs in the scratch
 * folder, and stopped at the end.
 */
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type RunningService, ServiceGroup } from "../cli/processes.js";
import { findNatsServer, type NatsServer, startNatsServer } from "../lib/weights/index.js";
import type { Bench } from "./bench.js";

/** Services that hold a model and take its flags. */
const MODEL_SERVICES = new Set(["policy", "reward", "bertscore"]);

/** How weights travel. */
export interface Bus {
  readonly url: string;
  readonly kind: "NATS" | "files";
}

/** The processes of one benchmark. */
export class Services {
  /** Scratch folder of this benchmark, emptied at the start. */
  readonly folder: string;
  readonly #bench: Bench;
  readonly #ended: string[] = [];
  readonly #group = new ServiceGroup((name, how) => this.#ended.push(`${name} ${how}`));
  readonly #running: RunningService[] = [];
  readonly #cleanups: (() => Promise<void>)[] = [];
  #ready: Promise<unknown> | undefined;
  #nats: NatsServer | undefined;

  constructor(bench: Bench, name: string) {
    this.#bench = bench;
    this.folder = join(bench.folder, "scratch", `${name}-${process.pid}`);
  }

  /** Started services by name. */
  get running(): readonly RunningService[] {
    return this.#running;
  }

  /** The scratch folder, made if it is not there. */
  async scratch(): Promise<string> {
    this.#ready ??= mkdir(this.folder, { recursive: true });
    await this.#ready;
    return this.folder;
  }

  /** Starts a service and waits until it serves. Throws with the end of its log. */
  async start(service: string, args: readonly string[], name = service): Promise<RunningService> {
    const { device, threads } = this.#bench;
    const folder = await this.scratch();
    const model = MODEL_SERVICES.has(service) ? ["--device", device, "--threads", String(threads)] : [];
    const logFile = join(folder, `${name}.log`);
    const all = [...args, ...model, "--listen", "127.0.0.1:0", "--log-level", "warn"];
    const [running] = await this.#group.start([{ service, name, args: all, logFile, timeoutMs: 300_000 }]);
    this.#running.push(running);
    return running;
  }

  /** A weights bus: NATS where there is a nats-server, else files. */
  async bus(wanted: Bus["kind"] = "NATS"): Promise<Bus> {
    if (wanted === "NATS" && (await findNatsServer())) {
      const server = await startNatsServer({ storeDir: join(await this.scratch(), "nats") });
      this.#nats = server;
      return { url: server.url, kind: "NATS" };
    }
    return { url: `file:${join(await this.scratch(), "weights")}`, kind: "files" };
  }

  /** Adds something to do before the services are stopped, such as closing a client. */
  onStop(cleanup: () => Promise<void>): void {
    this.#cleanups.push(cleanup);
  }

  /** Throws if a service ended by itself. */
  assertAlive(): void {
    if (this.#ended.length > 0)
      throw new Error(`services ended: ${this.#ended.join(", ")}; logs in ${this.folder}`);
  }

  /** Stops everything and removes the scratch folder, unless a service ended by itself. */
  async stop(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0)) await cleanup();
    await this.#group.stop();
    await this.#nats?.stop();
    if (this.#ended.length === 0) await rm(this.folder, { recursive: true, force: true });
  }
}

/** Resident memory in MiB of a process and all its descendants, by process id. Empty where there is no /proc. */
export function processMemory(root: number): Map<number, number> {
  const parents = new Map<number, number>();
  try {
    for (const entry of readdirSync("/proc")) {
      if (!/^\d+$/.test(entry)) continue;
      const stat = readProc(entry, "stat");
      // "pid (name) state ppid …": the name may hold anything, so count from its last bracket
      const parent = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
      if (parent) parents.set(Number(entry), Number(parent));
    }
  } catch {
    return new Map();
  }
  const family = [root];
  for (const member of family) {
    for (const [pid, parent] of parents) if (parent === member) family.push(pid);
  }
  const memory = new Map<number, number>();
  for (const pid of family) {
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readProc(String(pid), "status") ?? "")?.[1];
    if (kib) memory.set(pid, Number(kib) / 1024);
  }
  return memory;
}

function readProc(pid: string, file: string): string | undefined {
  try {
    return readFileSync(join("/proc", pid, file), "utf8");
  } catch {
    return undefined; // it ended meanwhile
  }
}
