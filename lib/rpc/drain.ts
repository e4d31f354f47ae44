/**
 * @file The end of a server, in order: say NOT_SERVING, wait until balancers have heard, refuse what is new, finish what
 * runs, end the streams that have no end of their own, close, flush. Nothing takes longer than the hard limit.
 */
import type { Server } from "@grpc/grpc-js";
import type { HealthRegistry } from "./health.js";
import type { InFlight } from "./in-flight.js";
import type { Logger } from "./log.js";

/** How a drain is paced. Times in milliseconds. */
export interface DrainOptions {
  /** Time between NOT_SERVING and the first refusal, for balancers to hear. Default: 0; 5 s behind Kubernetes. */
  withdrawMs: number;
  /** All of it. What still runs 1 s before is ended with UNAVAILABLE. Default: 30 s. */
  hardLimitMs: number;
  /** Called once nothing listens any more: stop workers, flush telemetry. Gets what is left of the hard limit. */
  onClosed?: (remainingMs: number) => Promise<void> | void;
}

/** What drainInOrder takes down. */
export interface Drainable extends Partial<DrainOptions> {
  servers: Server[];
  health: HealthRegistry;
  inFlight: InFlight;
  /** Makes the guard refuse new calls. */
  refuseNew: () => void;
  log: Logger;
}

const lastWordsMs = 1000;

/** Shuts servers down. Resolves when all is closed; never rejects and never takes longer than the hard limit. */
export async function drainInOrder(drainable: Drainable): Promise<void> {
  const {
    servers,
    health,
    inFlight,
    refuseNew,
    log,
    withdrawMs = 0,
    hardLimitMs = 30_000,
    onClosed,
  } = drainable;
  const end = Date.now() + hardLimitMs;
  const remaining = (keep = 0) => Math.max(0, end - keep - Date.now());
  log.info({ running: inFlight.count }, "draining: not serving");
  health.withdraw();
  await sleep(Math.min(withdrawMs, remaining(lastWordsMs)));
  refuseNew();
  log.info({ running: inFlight.count }, "draining: new calls are refused");
  if (!(await inFlight.whenIdle(remaining(lastWordsMs)))) {
    log.warn({ running: inFlight.count }, "draining: ending calls that did not finish");
    inFlight.endAll();
  }
  inFlight.endLasting();
  await Promise.all(servers.map((server) => close(server, Math.min(lastWordsMs, remaining()))));
  try {
    await within(remaining(), Promise.resolve(onClosed?.(remaining())));
  } catch (error) {
    log.error({ err: error }, "draining: the last step failed");
  }
  log.info({}, "drained");
}

/** Closes a server whose calls have ended; a stream that is still open then is cut after `graceMs`. */
async function close(server: Server, graceMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => resolve());
  });
  clearTimeout(timer);
}

/** Resolves with the promise or after `ms`, whichever is first. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What drainOnSignals listens to and ends. */
export interface SignalOptions {
  /** Shuts down in order; called once. */
  drain: () => Promise<void>;
  log: Logger;
  /** Longest time from the first signal to the end of the process. Default: 30 s. */
  hardLimitMs?: number;
  /** The process. Default: this one. */
  target?: Pick<NodeJS.Process, "on" | "exit">;
}

/**
 * For main.ts: SIGTERM and SIGINT, and the end of a parent that forked this process, drain and exit with 0; a second
 * signal exits at once with 128 + its number. A rejection or exception that nobody handles is logged and drains too,
 * then exits with 1: the process is no longer in a known state, but what it accepted deserves an answer. `end` of the
 * result drains and exits with 0 as a signal would.
 */
export function drainOnSignals(options: SignalOptions): { end: (why: string) => void } {
  const { drain, log, hardLimitMs = 30_000, target = process } = options;
  let ending = false;
  const finish = (why: string, exitCode: number) => {
    if (ending) return;
    ending = true;
    log.info({ why }, "shutting down");
    // one second more than the drain's own limit, for a drain that does not keep it
    setTimeout(() => target.exit(exitCode || 1), hardLimitMs + lastWordsMs).unref();
    drain().then(
      () => target.exit(exitCode),
      (error: unknown) => {
        log.error({ err: error }, "shutting down failed");
        target.exit(1);
      },
    );
  };
  const onSignal = (name: string, number: number) => {
    target.on(name as "SIGTERM", () => {
      if (ending) target.exit(128 + number);
      else finish(name, 0);
    });
  };
  onSignal("SIGTERM", 15);
  onSignal("SIGINT", 2);
  target.on("disconnect", () => finish("the parent process ended", 0));
  for (const escaped of ["unhandledRejection", "uncaughtException"] as const) {
    target.on(escaped as "uncaughtException", (error) => {
      log.error({ err: error }, escaped);
      finish(escaped, 1);
    });
  }
  return { end: (why) => finish(why, 0) };
}
