/**
 * @file Runs a model in a process of its own, so that the gRPC side never blocks and a native crash takes only its calls
 * with it. A worker that ends, or no longer says that it lives, is replaced; calls in flight then fail with
 * WORKER_CRASHED and later ones with NOT_READY until the new worker has loaded.
 */
import { type ChildProcess, fork } from "node:child_process";
import { EventEmitter } from "node:events";
import { fileURLToPath } from "node:url";
import { counter, gauge } from "../telemetry/instruments.js";
import { injectTraceparent } from "../telemetry/tracing.js";
import { CancelledError, DeadlineError, DrainingError, NotReadyError, WorkerCrashedError } from "./errors.js";
import type { Logger } from "./log.js";
import { backoffMs } from "./retry.js";
import type { WorkerMethods } from "./serve-worker.js";
import { type FromWorker, type ToWorker, WorkerError } from "./worker-protocol.js";

/** starting: first load. ready: answers. restarting: lost its worker. closed: for good. */
export type HostState = "starting" | "ready" | "restarting" | "closed";

/** What a host needs. Times in milliseconds. */
export interface ModelHostOptions {
  /** Module that calls serveWorker. */
  script: URL;
  /** Handed to the worker's init; must survive structured cloning. */
  config: unknown;
  log: Logger;
  /** Environment of the worker, beside ours. */
  env?: Record<string, string>;
  /** Longest load. Default: 10 min. */
  startTimeoutMs?: number;
  /** Silence after which a ready worker counts as hung and is killed. Default: 60 s. */
  stallMs?: number;
  /** Interval of the worker's signs of life. Default: 1 s. */
  heartbeatMs?: number;
  /** Longest delay before a new worker is started; the first restart is immediate. Default: 2 s. */
  maxRestartDelayMs?: number;
}

/** Until when a call is wanted. */
export interface HostCallOptions {
  signal?: AbortSignal | undefined;
  /** Epoch milliseconds. */
  deadline?: number | undefined;
}

type Payload<M> = M extends (payload: infer P, ...rest: never[]) => unknown ? P : never;
type Result<M> = M extends (...args: never[]) => infer R ? Awaited<R> : never;

interface Events {
  /** The state changed. */
  state: [HostState];
  /** The worker sent an event. */
  event: [name: string, value: unknown];
}

interface Pending {
  method: string;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  emit: (value: unknown) => void;
}

const readiness = gauge("rlhf.model.ready");
const restarts = counter("rlhf.model.worker.restarts");
/** A worker that lived this long has earned an immediate restart again. */
const soundMs = 30_000;

/**
 * One helper thread for V8 instead of four. Weights that arrive make it collect garbage all the time, and its helpers take the cores from
 * the threads of the model.
 */
const WORKER_FLAGS = ["--v8-pool-size=1"];

/** One worker process and what comes after it. `Methods` are those that the script's init returns. */
export class ModelHost<Methods extends WorkerMethods = WorkerMethods> extends EventEmitter<Events> {
  private worker: ChildProcess | undefined;
  private currentState: HostState = "starting";
  private facts: unknown;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private crashes = 0;
  private lastSeen = 0;
  private restartTimer: NodeJS.Timeout | undefined;

  constructor(private readonly options: ModelHostOptions) {
    super();
  }

  get state(): HostState {
    return this.currentState;
  }

  /** What the worker's init said about the model; undefined before it was ready. */
  get info(): unknown {
    return this.facts;
  }

  /** Process id of the worker; undefined while there is none. */
  get pid(): number | undefined {
    return this.worker?.pid;
  }

  /** Calls that wait for the worker. */
  get inFlight(): number {
    return this.pending.size;
  }

  /**
   * Starts the first worker and resolves with its info. Rejects with the error of its init, or WorkerCrashedError if it
   * ended or took too long: a model that cannot be loaded is for main.ts to report, not to retry.
   */
  async start(): Promise<unknown> {
    await this.launch();
    return this.facts;
  }

  /** Calls a method. Rejects with what it threw, or NOT_READY, WORKER_CRASHED, DEADLINE, CANCELLED, DRAINING. */
  call<K extends keyof Methods & string>(
    method: K,
    payload: Payload<Methods[K]>,
    options: HostCallOptions = {},
  ): Promise<Result<Methods[K]>> {
    return this.send(method, payload, options, () => {}) as Promise<Result<Methods[K]>>;
  }

  /**
   * Calls a method and yields what it emits; its result is the generator's return value. Leaving the loop early
   * cancels the call.
   */
  async *stream<K extends keyof Methods & string, Event = unknown>(
    method: K,
    payload: Payload<Methods[K]>,
    { signal, deadline }: HostCallOptions = {},
  ): AsyncGenerator<Event, Result<Methods[K]>> {
    const left = new AbortController();
    const stop = () => left.abort(signal?.reason);
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    const events: Event[] = [];
    let wake = () => {};
    let ended = false;
    const result = this.send(method, payload, { signal: left.signal, deadline }, (value) => {
      events.push(value as Event);
      wake();
    }) as Promise<Result<Methods[K]>>;
    const finish = () => {
      ended = true;
      wake();
    };
    result.then(finish, finish);
    try {
      for (;;) {
        while (events.length > 0) yield events.shift() as Event;
        if (ended) return await result;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      left.abort();
    }
  }

  /** Ends the worker; calls in flight fail with DRAINING. Resolves once it is gone. */
  async close(): Promise<void> {
    this.setState("closed");
    clearTimeout(this.restartTimer);
    this.failPending(new DrainingError());
    const { worker } = this;
    if (!worker || worker.exitCode !== null || worker.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => worker.kill("SIGKILL"), 3000);
      worker.once("exit", () => {
        clearTimeout(timer);
        resolve();
      });
      if (worker.connected)
        worker.disconnect(); // it exits by itself then
      else worker.kill("SIGKILL");
    });
  }

  private send(
    method: string,
    payload: unknown,
    { signal, deadline }: HostCallOptions,
    emit: (value: unknown) => void,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(abortReason(signal));
      const remaining = deadline === undefined ? undefined : deadline - Date.now();
      if (remaining !== undefined && remaining <= 0) return reject(new DeadlineError());
      const worker = this.readyWorker();
      const id = this.nextId++;
      const settle = (act: () => void) => {
        if (!this.pending.delete(id)) return;
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        act();
      };
      const give = (why: unknown) =>
        settle(() => {
          post(worker, { type: "cancel", id });
          reject(why);
        });
      const abort = () => give(signal && abortReason(signal));
      const timer =
        remaining === undefined
          ? undefined
          : setTimeout(() => give(new DeadlineError()), Math.min(remaining, 2 ** 31 - 1));
      signal?.addEventListener("abort", abort, { once: true });
      this.pending.set(id, {
        method,
        resolve: (value) => settle(() => resolve(value)),
        reject: (error) => settle(() => reject(error)),
        emit,
      });
      try {
        post(worker, { type: "call", id, method, payload, deadline, traceparent: injectTraceparent() });
      } catch (error) {
        this.pending.get(id)?.reject(error); // the payload cannot be cloned
      }
    });
  }

  private readyWorker(): ChildProcess {
    const { worker, currentState } = this;
    if (currentState === "closed") throw new DrainingError();
    if (currentState !== "ready" || !worker) {
      throw new NotReadyError(
        currentState === "starting" ? "the model is loading" : "the model worker is restarting",
      );
    }
    return worker;
  }

  /** Starts a worker and waits until it is ready. Rejects if it does not get there. */
  private launch(): Promise<void> {
    const { script, config, env, startTimeoutMs = 600_000, heartbeatMs = 1000 } = this.options;
    const worker = fork(fileURLToPath(script), [], {
      serialization: "advanced",
      // the worker's stdout must not mix with what our own stdout promises
      stdio: ["ignore", 2, 2, "ipc"],
      env: { ...process.env, ...env },
      execArgv: [...WORKER_FLAGS, ...process.execArgv], // the process's own come last and win
    });
    this.worker = worker;
    const startedAt = Date.now();
    return new Promise((resolve, reject) => {
      let ready = false;
      let failure: Error | undefined;
      let stopWatching = () => {};
      const timer = setTimeout(() => {
        failure = new WorkerCrashedError(`the model worker was not ready after ${startTimeoutMs} ms`);
        worker.kill("SIGKILL");
      }, startTimeoutMs);
      worker.on("message", (message: FromWorker) => {
        this.lastSeen = Date.now();
        if (message.type === "ready") {
          ready = true;
          clearTimeout(timer);
          this.facts = message.info;
          stopWatching = this.watchForStall(worker);
          this.setState("ready");
          resolve();
        } else if (message.type === "initFailed") failure = new WorkerError(message.error);
        else this.receive(message);
      });
      worker.on("error", (error) => {
        failure ??= error;
        if (worker.pid === undefined) onExit(null, null); // it could not be started: there will be no exit
      });
      const onExit = (code: number | null, signal: string | null) => {
        clearTimeout(timer);
        stopWatching();
        const how = signal ?? `code ${code}`;
        const error =
          failure ?? new WorkerCrashedError(`the model worker ended (${how})`, { facts: { exit: how } });
        if (!ready) reject(error);
        if (this.worker === worker) this.onWorkerEnd(error, how, ready ? Date.now() - startedAt : 0, ready);
      };
      worker.once("exit", onExit);
      try {
        post(worker, { type: "init", config, heartbeatMs });
      } catch (error) {
        failure = error as Error; // the configuration cannot be cloned
        worker.kill("SIGKILL");
      }
    });
  }

  private receive(message: FromWorker): void {
    if (message.type === "event") this.emit("event", message.name, message.value);
    else if (message.type === "emit") this.pending.get(message.id)?.emit(message.value);
    else if (message.type === "result") this.pending.get(message.id)?.resolve(message.value);
    else if (message.type === "error") this.pending.get(message.id)?.reject(new WorkerError(message.error));
  }

  private onWorkerEnd(error: Error, how: string, livedMs: number, wasReady: boolean): void {
    this.worker = undefined;
    if (this.currentState === "closed") return;
    if (this.currentState === "starting") return; // start() tells its caller
    const lost = this.pending.size;
    this.setState("restarting");
    this.failPending(
      new WorkerCrashedError("the model worker ended while it computed; it is being restarted", {
        cause: error,
      }),
    );
    this.crashes = livedMs >= soundMs ? 1 : this.crashes + 1;
    const { maxRestartDelayMs = 2000, log } = this.options;
    const delay =
      this.crashes === 1 ? 0 : backoffMs(this.crashes - 1, { initialMs: 100, maxMs: maxRestartDelayMs });
    log.error(
      { err: error, exit: how, lost, crashes: this.crashes, wasReady, delay },
      "model worker ended; restarting",
    );
    restarts.add(1);
    this.restartTimer = setTimeout(() => {
      this.launch().catch(() => {}); // its end was noted by its exit
    }, delay);
  }

  /** Kills a worker that says nothing for too long: a hang in native code looks like work from outside. */
  private watchForStall(worker: ChildProcess): () => void {
    const { stallMs = 60_000, log } = this.options;
    const every = Math.max(10, Math.min(1000, stallMs / 4));
    let lastLook = Date.now();
    const timer = setInterval(() => {
      const now = Date.now();
      // if we were not running ourselves, its signs of life still wait in the channel
      if (now - lastLook > every * 3) this.lastSeen = now;
      lastLook = now;
      if (now - this.lastSeen <= stallMs) return;
      log.error({ silentMs: now - this.lastSeen, pid: worker.pid }, "model worker hangs; killing it");
      worker.kill("SIGKILL");
    }, every).unref();
    return () => clearInterval(timer);
  }

  private failPending(error: Error): void {
    for (const { reject } of [...this.pending.values()]) reject(error);
  }

  private setState(state: HostState): void {
    if (this.currentState === state || this.currentState === "closed") return;
    this.currentState = state;
    readiness.record(state === "ready" ? 1 : 0);
    this.emit("state", state);
  }
}

function post(worker: ChildProcess, message: ToWorker): void {
  // a broken channel is followed by the worker's exit, which fails what waits
  if (worker.connected) worker.send(message, () => {});
}

function abortReason(signal: AbortSignal): unknown {
  const reason: unknown = signal.reason;
  return reason instanceof Error && "code" in reason && typeof reason.code === "string"
    ? reason
    : new CancelledError();
}
