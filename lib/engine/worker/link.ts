/**
 * @file The line to an engine's worker thread: numbered requests, promised replies. The worker keeps the process alive
 * only while a reply is awaited.
 */
import { type TransferListItem, Worker } from "node:worker_threads";
import { EngineError } from "../errors.js";
import type {
  ReturnedTensor,
  SentModel,
  SentTarget,
  SentTensor,
  WorkerLibrary,
  WorkerReply,
  WorkerRequest,
  WorkerSettings,
  WorkerSignature,
} from "./messages.js";

type Numbered<M> = Extract<WorkerRequest<M>, { call: number }>;
type Unnumbered<R> = R extends { call: number } ? Omit<R, "call"> : never;
type Pending = { resolve: (reply: WorkerReply) => void; reject: (error: Error) => void };

/** What the worker's library threw; `code` where it has one. */
export class WorkerFailure extends Error {
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.name = "WorkerFailure";
    this.code = code;
  }
}

/** Longest wait for a thread that was asked to end, in milliseconds. */
const CLOSE_MS = 10_000;

/** One worker thread whose library takes graphs as `M`. Every request rejects with WorkerFailure or EngineError. */
export class WorkerLink<M> {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  #nextCall = 1;
  #ended: Error | undefined;

  /** Starts the thread; `script` calls `serve`. */
  constructor(script: URL) {
    // without the process's own flags: --input-type, say, would not let a script file start
    this.#worker = new Worker(script, { execArgv: [] });
    this.#worker.on("message", (reply: WorkerReply) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#end(error as Error));
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", () => {
        this.#end(new Error("the engine's worker thread ended"));
        resolve();
      });
    });
    this.#worker.unref();
  }

  /** Loads the library. */
  async start(settings: WorkerSettings): Promise<WorkerLibrary> {
    return (await this.#ask({ type: "start", settings })) as { call: number } & WorkerLibrary;
  }

  /** Makes a program known by its number. */
  async compile(model: SentModel<M>): Promise<WorkerSignature> {
    return (await this.#ask({ type: "compile", ...model })) as { call: number } & WorkerSignature;
  }

  /** Runs a program; feeds that are not shared memory are given away. */
  async run(
    program: number,
    feeds: Record<string, SentTensor>,
    into: (SentTarget | undefined)[],
  ): Promise<(ReturnedTensor | undefined)[]> {
    const given = Object.values(feeds).flatMap(({ bytes }) =>
      bytes.buffer instanceof SharedArrayBuffer ? [] : [bytes.buffer],
    );
    const reply = await this.#ask({ type: "run", program, feeds, into }, given as TransferListItem[]);
    return (reply as { call: number; results: (ReturnedTensor | undefined)[] }).results;
  }

  /** Sends what needs no reply. */
  post(request: Exclude<WorkerRequest<M>, { call: number }>): void {
    if (this.#ended === undefined) this.#worker.postMessage(request);
  }

  /**
   * Ends the thread, and rejects what it did not answer by then. The thread ends by itself after what it does: one that is stopped inside a native
   * call can take the process along (ONNX Runtime's binding aborts with an uncaught Napi::Error).
   */
  async close(): Promise<void> {
    this.post({ type: "close" });
    this.#ended ??= new EngineError("RELEASED", "this engine was closed");
    this.#worker.ref();
    const overdue = setTimeout(() => void this.#worker.terminate(), CLOSE_MS);
    await this.#exited;
    clearTimeout(overdue);
  }

  #ask(request: Unnumbered<Numbered<M>>, transfer: TransferListItem[] = []): Promise<WorkerReply> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) throw this.#ended;
      const call = this.#nextCall++;
      this.#worker.postMessage({ ...request, call }, transfer);
      if (this.#pending.size === 0) this.#worker.ref();
      this.#pending.set(call, { resolve, reject });
    });
  }

  #settle(reply: WorkerReply): void {
    const pending = this.#pending.get(reply.call);
    this.#pending.delete(reply.call);
    if (this.#pending.size === 0) this.#worker.unref();
    if ("error" in reply) pending?.reject(new WorkerFailure(reply.error, reply.code));
    else pending?.resolve(reply);
  }

  #end(cause: Error): void {
    this.#ended ??= new EngineError("ENGINE_UNAVAILABLE", `engine worker: ${cause.message}`, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }
}
