/**
 * @file The worker side of a ModelHost: the process that holds a model. It answers calls over IPC, says every second that
 * it lives, and ends when its parent does. Whatever escapes its handlers ends it, for the host to start a fresh one.
 */
import { setMaxListeners } from "node:events";
import { context } from "@opentelemetry/api";
import { contextFromTraceparent } from "../telemetry/tracing.js";
import { CancelledError } from "./errors.js";
import { type FromWorker, type ToWorker, toWire } from "./worker-protocol.js";

/** What a method of a worker knows about its call. */
export interface WorkerCall {
  /** Aborts when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** Epoch milliseconds. */
  readonly deadline: number | undefined;
  /** Trace of the caller, as text; also the active context where the worker has telemetry. */
  readonly traceparent: string | undefined;
  /** Sends one event of a stream to the caller. */
  readonly emit: (value: unknown) => void;
}

/** A method: payload in, result out; both must survive structured cloning. */
export type WorkerMethod = (payload: never, call: WorkerCall) => unknown;

/** The methods of a worker by name. */
export type WorkerMethods = Record<string, WorkerMethod>;

/** What a worker is made of. */
export interface WorkerDefinition<Config, Methods extends WorkerMethods> {
  /** Loads the model. Runs once, before the first call; its rejection is the host's start error. */
  init: (config: Config, worker: WorkerControl) => Promise<LoadedWorker<Methods>>;
}

/** What init has made. */
export interface LoadedWorker<Methods extends WorkerMethods> {
  methods: Methods;
  /** What the host knows about the model. */
  info?: unknown;
  /** Called when the host ends the worker, or has ended itself: flush telemetry. Gets two seconds. */
  close?: () => Promise<void>;
}

/** Time for close, in milliseconds. */
const closeMs = 2000;

/** What a worker can tell its host outside of calls. */
export interface WorkerControl {
  /** Sends an event to the host's listeners. */
  readonly event: (name: string, value: unknown) => void;
}

/** For the main module of a worker process. Throws if the process was not forked by a ModelHost. */
export function serveWorker<Config, Methods extends WorkerMethods>(
  definition: WorkerDefinition<Config, Methods>,
): void {
  if (!process.send) throw new Error("this is a worker process: a ModelHost starts it");
  const running = new Map<number, AbortController>();
  let methods: WorkerMethods = {};
  let close = async () => {};

  // the parent decides when this process ends: a Ctrl-C reaches the whole group, and the drain still needs the model
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => {});
  process.on("disconnect", () => {
    setTimeout(() => process.exit(0), closeMs);
    for (const call of running.values()) call.abort(new CancelledError("the host has gone"));
    close().then(
      () => process.exit(0),
      (error) => endWith(error),
    );
  });
  process.on("uncaughtException", (error) => endWith(error));
  process.on("unhandledRejection", (error) => endWith(error));

  const start = async (config: Config, heartbeatMs: number) => {
    setInterval(() => send({ type: "beat" }), heartbeatMs);
    try {
      const loaded = await definition.init(config, {
        event: (name, value) => send({ type: "event", name, value }),
      });
      methods = loaded.methods;
      close = loaded.close ?? close;
      send({ type: "ready", info: loaded.info });
    } catch (error) {
      send({ type: "initFailed", error: toWire(error) }, () => process.exit(1));
    }
  };

  const answer = async ({ id, method, payload, deadline, traceparent }: ToWorker & { type: "call" }) => {
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    running.set(id, abort);
    const emit = (value: unknown) => {
      if (!abort.signal.aborted) send({ type: "emit", id, value });
    };
    try {
      const run = methods[method];
      if (!run) throw new Error(`the worker has no method ${method}`);
      const call: WorkerCall = { signal: abort.signal, deadline, traceparent, emit };
      const value = await context.with(contextFromTraceparent(traceparent), () =>
        run(payload as never, call),
      );
      if (!abort.signal.aborted) send({ type: "result", id, value });
    } catch (error) {
      if (!abort.signal.aborted) send({ type: "error", id, error: toWire(error) });
    } finally {
      running.delete(id);
    }
  };

  process.on("message", (message: ToWorker) => {
    if (message.type === "init") void start(message.config as Config, message.heartbeatMs);
    else if (message.type === "call") void answer(message);
    else running.get(message.id)?.abort(new CancelledError());
  });
}

function send(message: FromWorker, sent: () => void = () => {}): void {
  if (!process.connected) return; // the host has gone: what is left is closing
  // a value that cannot be cloned throws here, inside the call that made it
  process.send?.(message, undefined, {}, (error) => {
    if (error) process.exit(1); // the channel is broken: nobody can hear us
    sent();
  });
}

function endWith(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}
