/**
 * @file Finds and runs a nats-server of our own: for the embedded default, where nobody names a server, and for tests. It listens on loopback
 * only, keeps its store in a temporary folder, and ends with us, however we end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { withDeadline } from "./waiting.js";

/** A running server. */
export interface NatsServer {
  /** `nats://127.0.0.1:<port>`. */
  readonly url: string;
  readonly port: number;
  /** Folder of its JetStream store. */
  readonly storeDir: string;
  /** Process id of the nats-server itself; another after restart. */
  readonly pid: number;
  /** Kills it at once (SIGKILL), as a crash would; the store stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port and store, after kill. */
  restart(): Promise<void>;
  /** Stops it and removes a temporary store. Never rejects. */
  stop(): Promise<void>;
}

/** Options of startNatsServer. */
export interface NatsServerOptions {
  /** Executable; default: `nats-server` on the PATH. */
  executable?: string;
  /** Default: any free one. */
  port?: number;
  /** Default: a temporary folder, removed at the end. */
  storeDir?: string;
  /** More arguments, e.g. `["--user", "a", "--pass", "b"]`. */
  args?: readonly string[];
  /** Longest wait for it to be ready, ms; default 10000. */
  timeoutMs?: number;
}

/** There is no nats-server, or it does not start. */
export class NatsServerError extends Error {
  readonly code = "NATS_SERVER_UNAVAILABLE";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "NatsServerError";
  }
}

/** Path of the first executable `nats-server` on a search path, or undefined. Debian installs it where only root's PATH looks. */
export async function findNatsServer(searchPath = process.env.PATH ?? ""): Promise<string | undefined> {
  const folders = [...searchPath.split(delimiter), ...(searchPath === process.env.PATH ? ["/usr/sbin"] : [])];
  for (const folder of folders.filter(Boolean)) {
    const path = join(folder, "nats-server");
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not there
    }
  }
  return undefined;
}

/** Starts a server and waits until it takes connections. Throws NatsServerError. */
export async function startNatsServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  const executable = options.executable ?? (await findNatsServer());
  if (!executable)
    throw new NatsServerError("no nats-server on the PATH (Debian: apt-get install nats-server)");
  const timeoutMs = options.timeoutMs ?? 10_000;
  const temporary = options.storeDir === undefined;
  const storeDir = options.storeDir ?? (await mkdtemp(join(tmpdir(), "rlhf-nats-")));
  const launch = async (port: number | undefined) => {
    // somebody else may take the free port before the server does: then another one
    for (let attempt = 1; ; attempt++) {
      const chosen = port ?? (await freePort());
      const listen = ["-a", "127.0.0.1", "-p", String(chosen)];
      const command = [executable, "-js", "-sd", storeDir, ...listen, ...(options.args ?? [])];
      try {
        return await Running.start(command, chosen, temporary ? storeDir : "", timeoutMs);
      } catch (error) {
        if (port !== undefined || attempt === 3) throw error;
      }
    }
  };
  try {
    let running = await launch(options.port);
    const { port } = running;
    return {
      url: `nats://127.0.0.1:${port}`,
      port,
      storeDir,
      get pid() {
        return running.pid;
      },
      kill: () => running.end("SIGKILL"),
      restart: async () => {
        await running.end("SIGTERM");
        running = await launch(port);
      },
      stop: async () => {
        await running.end("SIGTERM");
        if (temporary) await rm(storeDir, { recursive: true, force: true }).catch(() => {});
      },
    };
  } catch (error) {
    if (temporary) await rm(storeDir, { recursive: true, force: true });
    throw error;
  }
}

/**
 * The shell between us and the server: it starts the server in the background and waits for our end of its standard input to close, which
 * happens however this process ends, even by SIGKILL. Then it ends the server and removes a temporary store ($TEMPORARY).
 */
const GUARD = `
  exec 3<&0
  "$@" </dev/null 3<&- & server=$!
  echo "pid $server"
  { cat <&3 >/dev/null; [ -n "$TEMPORARY" ] && touch "$TEMPORARY/.abandoned"; kill -TERM $server; } 2>/dev/null & waiter=$!
  exec 3<&-
  wait $server; code=$?
  kill $waiter 2>/dev/null
  [ -n "$TEMPORARY" ] && [ -e "$TEMPORARY/.abandoned" ] && rm -rf "$TEMPORARY"
  exit $code`;

/** One life of the server. */
class Running {
  readonly #guard: ChildProcess;
  readonly #ended: Promise<void>;
  readonly port: number;
  #pid = 0;

  private constructor(guard: ChildProcess, port: number) {
    this.#guard = guard;
    this.port = port;
    this.#ended = new Promise((resolve) => guard.once("exit", () => resolve()));
  }

  get pid(): number {
    return this.#pid;
  }

  static async start(
    command: readonly string[],
    port: number,
    temporary: string,
    timeoutMs: number,
  ): Promise<Running> {
    // a group of its own: Ctrl-C is for us, and we still need the server while we end in order
    const guard = spawn("/bin/sh", ["-c", GUARD, "nats-guard", ...command], {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
      env: { ...process.env, TEMPORARY: temporary },
    });
    const running = new Running(guard, port);
    guard.stdin?.on("error", () => {});
    const log: string[] = [];
    const ready = new Promise<void>((resolve, reject) => {
      const read = (line: string) => {
        if (line.startsWith("pid ")) running.#pid = Number(line.slice(4));
        if (log.length < 50) log.push(line);
        if (line.includes("Server is ready")) resolve();
      };
      createInterface({ input: guard.stdout! }).on("line", read);
      createInterface({ input: guard.stderr! }).on("line", read);
      guard.once("error", reject);
      guard.once("exit", (code) => reject(new Error(`it ended with ${code}`)));
    });
    try {
      await withDeadline(ready, timeoutMs, () => new Error(`not ready after ${timeoutMs} ms`));
    } catch (cause) {
      await running.end("SIGKILL");
      const said = log.filter((line) => /\[(ERR|FTL)\]|nats-server:/.test(line)).join("; ");
      const why = `${(cause as Error).message}${said ? `: ${said}` : ""}`;
      throw new NatsServerError(`${command[0]} on port ${port} does not start: ${why}`, { cause });
    }
    for (const handle of [guard, guard.stdin, guard.stdout, guard.stderr]) {
      (handle as { unref?: () => void } | null)?.unref?.(); // the server alone keeps no process alive
    }
    return running;
  }

  /** Ends the server and waits until it is gone; after 3 s by force. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (this.#guard.exitCode !== null || this.#guard.signalCode !== null || this.#guard.pid === undefined)
      return;
    for (const handle of [this.#guard, this.#guard.stdout, this.#guard.stderr]) {
      (handle as { ref?: () => void } | null)?.ref?.();
    }
    this.#signal(signal);
    await withDeadline(this.#ended, 3000, () => new Error("late")).catch(() => {
      this.#signal("SIGKILL");
      return this.#ended;
    });
  }

  #signal(signal: "SIGTERM" | "SIGKILL"): void {
    try {
      if (this.#pid > 0) process.kill(this.#pid, signal);
      else this.#guard.kill("SIGKILL");
    } catch {
      // gone already
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
