/**
 * @file Services as child processes on loopback: the embedded default. Each is `rlhf serve …` like any other; it says when
 * it is ready, its log goes to a file, and it ends when we end, however we end (its IPC channel closes with us).
 */
import { type ChildProcess, fork } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { CliError, EXIT } from "./exit-codes.js";

/** What a service says when it is ready. */
export interface Ready {
  readonly event: "ready";
  readonly service: string;
  readonly address: string;
  readonly adminAddress?: string;
  readonly pid: number;
}

/** A service to start. */
export interface ServiceSpec {
  /** "policy", "reward", "bertscore" or "trainer". */
  readonly service: string;
  /** Name among the processes, e.g. "reference". */
  readonly name: string;
  readonly args: readonly string[];
  readonly logFile: string;
  /** Most milliseconds until it is ready. */
  readonly timeoutMs?: number;
  /** True starts it again, on the same address, when it ends by itself. Default: false. */
  readonly restart?: boolean;
}

/** A running service. */
export interface RunningService extends Ready {
  readonly name: string;
  readonly logFile: string;
}

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));
const DRAIN_MS = 32_000; // a service's own hard limit is 30 s
const MAX_RESTARTS = 20;

/** Starts services and stops what it started. */
export class ServiceGroup {
  readonly #children = new Map<string, ChildProcess>();
  readonly #restarts = new Map<string, number>();
  #stopping = false;

  /** `onExit` hears of a service that ended by itself. */
  constructor(private readonly onExit: (name: string, how: string) => void = () => {}) {}

  /** Starts several at once; if one fails, stops all and throws CliError with the end of its log. */
  async start(specs: readonly ServiceSpec[]): Promise<RunningService[]> {
    const results = await Promise.allSettled(specs.map((spec) => this.#startOne(spec)));
    const failure = results.find((result) => result.status === "rejected");
    if (failure) {
      await this.stop();
      throw failure.reason;
    }
    return results.map((result) => (result as PromiseFulfilledResult<RunningService>).value);
  }

  /** Ends every service in order: asks, waits, and kills what does not go. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(
      [...this.#children.values()].map(
        (child) =>
          new Promise<void>((resolve) => {
            if (child.exitCode !== null || child.signalCode !== null) return resolve();
            const kill = setTimeout(() => child.kill("SIGKILL"), DRAIN_MS);
            child.once("exit", () => {
              clearTimeout(kill);
              resolve();
            });
            child.kill("SIGTERM");
          }),
      ),
    );
    this.#children.clear();
  }

  /** Ends every service at once, for a second Ctrl-C. */
  kill(): void {
    this.#stopping = true;
    for (const child of this.#children.values()) child.kill("SIGKILL");
  }

  /** A service ended that was ready: says so, and starts it again where that is wanted. */
  #ended(spec: ServiceSpec, how: string, address: string): void {
    const restarts = (this.#restarts.get(spec.name) ?? 0) + 1;
    this.#restarts.set(spec.name, restarts);
    if (!spec.restart || restarts > MAX_RESTARTS) {
      this.onExit(spec.name, how);
      return;
    }
    this.onExit(spec.name, `${how}; starting it again`);
    this.#startOne({ ...spec, args: listeningOn(spec.args, address) }).catch((error: Error) =>
      this.onExit(spec.name, error.message),
    );
  }

  #startOne(spec: ServiceSpec): Promise<RunningService> {
    mkdirSync(dirname(spec.logFile), { recursive: true });
    const log = openSync(spec.logFile, "a");
    const child = fork(MAIN, ["serve", spec.service, ...spec.args], {
      stdio: ["ignore", log, log, "ipc"],
      detached: true, // its own process group: Ctrl-C reaches us alone, and we end them in order
      serialization: "advanced",
    });
    closeSync(log);
    this.#children.set(spec.name, child);
    return new Promise<RunningService>((resolve, reject) => {
      let ready = false;
      let address = "";
      const fail = (why: string, exitCode: number = EXIT.unavailable) => {
        clearTimeout(timer);
        reject(new CliError(`${spec.name}: ${why}\n${logEnd(spec.logFile)}`, exitCode));
      };
      const timer = setTimeout(() => fail("not ready in time"), spec.timeoutMs ?? 120_000);
      child.once("error", (error) => fail(error.message));
      child.once("exit", (code, signal) => {
        const how = signal ? `ended by ${signal}` : `ended with status ${code}`;
        this.#children.delete(spec.name);
        if (!ready) fail(how, code === EXIT.usage ? EXIT.usage : EXIT.unavailable);
        else if (!this.#stopping) this.#ended(spec, how, address);
      });
      child.on("message", (message: unknown) => {
        if ((message as Partial<Ready>)?.event !== "ready") return;
        ready = true;
        address = (message as Ready).address;
        clearTimeout(timer);
        resolve({ ...(message as Ready), name: spec.name, logFile: spec.logFile });
      });
    });
  }
}

/** The command line with another address to listen on. */
function listeningOn(args: readonly string[], address: string): string[] {
  const at = args.indexOf("--listen");
  const rest = at < 0 ? [...args] : [...args.slice(0, at), ...args.slice(at + 2)];
  return [...rest, "--listen", address];
}

/** What a log says of its end, for an error message: plain lines, and of JSON lines the warnings and errors. */
function logEnd(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return "";
  }
  const told = text
    .trimEnd()
    .split("\n")
    .slice(-40)
    .flatMap((line) => {
      try {
        const { level, message, err } = JSON.parse(line) as {
          level?: string;
          message?: string;
          err?: { message?: string };
        };
        if (level !== "warn" && level !== "error" && level !== "fatal") return [];
        return [`  ${message ?? line}${err?.message ? `: ${err.message}` : ""}`];
      } catch {
        return [`  ${line}`];
      }
    });
  return [...told.slice(-8), `  (whole log: ${path})`].join("\n");
}
