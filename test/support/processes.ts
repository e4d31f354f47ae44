/**
 * @file The command line `rlhf` and its services as real processes, for tests. Every process that a test starts carries the test's
 * mark in its environment and hands it to its own children, so that what is left of it can be found and ended.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The compiled command line that these tests run. */
export const RLHF = fileURLToPath(new URL("../../cli/main.js", import.meta.url));

/** Environment variable that carries the mark. */
const MARK = "RLHF_TEST_MARK";

/** What a process wrote so far, and how it ended. */
export interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  stdout(): string;
  stderr(): string;
  /** Resolves with the text once stdout or stderr matches; rejects after `timeoutMs` or when the process has ended without. */
  seen(pattern: RegExp, timeoutMs?: number): Promise<string>;
  /** Resolves once it has ended and its output is read. */
  readonly ended: Promise<Ended>;
}

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A service that serves. */
export interface Service extends Running {
  readonly service: string;
  readonly address: string;
  readonly adminAddress: string | undefined;
  /** Asks it to end and resolves with its exit status. */
  stop(): Promise<number | null>;
  /** Ends it at once and resolves when it is gone. */
  kill(): Promise<void>;
}

/** Options of a process. */
export interface ProcessOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads on standard input. */
  readonly input?: string;
}

/** Starts `rlhf …` with a mark. */
export function startRlhf(mark: string, args: readonly string[], options: ProcessOptions = {}): Running {
  const child = spawn(process.execPath, [RLHF, ...args], {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: "1", ...options.env, [MARK]: mark },
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  child.stdin?.end(options.input);
  const text = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream]?.on("data", (chunk: Buffer) => {
      text[stream] += chunk.toString();
      for (const listener of listeners) listener();
    });
  }
  const ended = once(child, "close").then(
    ([code, signal]) => ({ code, signal, stdout: text.stdout, stderr: text.stderr }) as Ended,
  );
  const name = `rlhf ${args.slice(0, 3).join(" ")}`;
  return {
    child,
    pid: child.pid as number,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    ended,
    seen: (pattern, timeoutMs = 45_000) =>
      new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          clearTimeout(timer);
          listeners.delete(check);
          act();
        };
        const output = () => `${text.stdout}\n${text.stderr}`;
        const check = () => {
          if (pattern.test(output())) settle(() => resolve(output()));
        };
        const fail = (why: string) =>
          settle(() => reject(new Error(`${name}: ${pattern} ${why}\n${output()}`)));
        const timer = setTimeout(() => fail(`not seen in ${timeoutMs} ms`), timeoutMs);
        listeners.add(check);
        void ended.then(({ code, signal }) => fail(`not seen before it ended with ${signal ?? code}`));
        check();
      }),
  };
}

/** Runs `rlhf …` to its end; after `timeoutMs` it is killed, and the test fails. */
export async function runRlhf(
  mark: string,
  args: readonly string[],
  options: ProcessOptions & { timeoutMs?: number } = {},
): Promise<Ended> {
  const running = startRlhf(mark, args, options);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    running.child.kill("SIGKILL");
  }, options.timeoutMs ?? 60_000);
  const ended = await running.ended;
  clearTimeout(timer);
  if (late) throw new Error(`rlhf ${args.join(" ")}: did not end\n${ended.stdout}\n${ended.stderr}`);
  return ended;
}

/** Starts `rlhf serve <service> …` and waits until it is ready. Throws with its log if it ends before. */
export async function startService(
  mark: string,
  service: string,
  args: readonly string[],
  options: ProcessOptions & { timeoutMs?: number } = {},
): Promise<Service> {
  const running = startRlhf(mark, ["serve", service, ...args], options);
  await running.seen(/^\{"event":"ready".*\}$/m, options.timeoutMs);
  const line = /^\{"event":"ready".*\}$/m.exec(running.stdout())?.[0] as string;
  const { address, adminAddress } = JSON.parse(line) as { address: string; adminAddress?: string };
  const { child, ended } = running;
  return {
    ...running,
    service,
    address,
    adminAddress,
    stop: async () => {
      const timer = setTimeout(() => child.kill("SIGKILL"), 35_000);
      child.kill("SIGTERM");
      const { code } = await ended;
      clearTimeout(timer);
      return code;
    },
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Process ids of all living processes that carry the mark, children of children too. Reads /proc. */
export function markedProcesses(mark: string): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      const marked = readFileSync(`/proc/${name}/environ`, "latin1").split("\0").includes(`${MARK}=${mark}`);
      return marked && !/^State:\s+Z/m.test(readFileSync(`/proc/${name}/status`, "latin1"))
        ? [Number(name)]
        : [];
    } catch {
      return []; // gone meanwhile, or not ours
    }
  });
}

/** Ends all living processes that carry the mark at once, as nothing else does. */
export function killMarked(mark: string): void {
  for (const pid of markedProcesses(mark)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // gone meanwhile, with the one that had started it
    }
  }
}
