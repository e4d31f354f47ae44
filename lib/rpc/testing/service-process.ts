/**
 * @file Starts a service as a real process, for tests: runs its `main(argv)` in a child, waits for the ready line, stops it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { ReadyMessage } from "../ready.js";

/** A service that runs. */
export interface ServiceProcess extends ReadyMessage {
  readonly child: ChildProcess;
  /** What it wrote to stderr so far. */
  log(): string;
  /** Asks it to end and resolves with its exit status; kills it after 35 s. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** What became of a service that did not start. */
export interface FailedStart {
  readonly code: number | null;
  readonly log: string;
}

/** Starts the service whose module is at `main`. Rejects with its log if it ends before it is ready. */
export async function startService(main: URL, args: readonly string[]): Promise<ServiceProcess> {
  const { child, log, ready } = launch(main, args);
  const message = await ready;
  if (!("event" in message)) throw new Error(`the service ended with ${message.code}:\n${message.log}`);
  return {
    ...message,
    child,
    log,
    stop: async (signal = "SIGTERM") => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const timer = setTimeout(() => child.kill("SIGKILL"), 35_000);
      child.kill(signal);
      await once(child, "exit");
      clearTimeout(timer);
      return child.exitCode;
    },
  };
}

/** Starts a service that is expected to end by itself, and says how it did. Throws if it became ready. */
export async function failService(main: URL, args: readonly string[]): Promise<FailedStart> {
  const { child, ready } = launch(main, args);
  const outcome = await ready;
  if (!("event" in outcome)) return outcome;
  child.kill("SIGKILL");
  throw new Error(`the service started, at ${outcome.address}`);
}

function launch(main: URL, args: readonly string[]) {
  const launcher = fileURLToPath(new URL("./launch-service.js", import.meta.url));
  const child = spawn(process.execPath, [launcher, main.href, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let errors = "";
  let output = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ready = new Promise<ReadyMessage | FailedStart>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ code: status, log: errors }));
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const line = output.split("\n").find((text) => text.includes('"event":"ready"'));
      if (line && output.includes(`${line}\n`)) resolve(JSON.parse(line) as ReadyMessage);
    });
  });
  return { child, ready, log: () => errors };
}
