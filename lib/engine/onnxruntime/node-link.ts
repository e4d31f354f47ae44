/**
 * @file The line to the stock binding's worker thread: numbered requests, promised replies. The worker keeps the
 * process alive only while a reply is awaited.
 */
import { type TransferListItem, Worker } from "node:worker_threads";
import { EngineError } from "../errors.js";
import type {
  ReturnedTensor,
  SentTarget,
  SentTensor,
  WorkerReply,
  WorkerRequest,
  WorkerSettings,
  WorkerValueSpec,
} from "./node-messages.js";

type Numbered = Extract<WorkerRequest, { call: number }>;
type Unnumbered<R> = R extends Numbered ? Omit<R, "call"> : never;
type Pending = { resolve: (reply: WorkerReply) => void; reject: (error: Error) => void };

/** One worker thread. */
export class WorkerLink {
  readonly #worker = new Worker(new URL("./node-worker.js", import.meta.url));
  readonly #pending = new Map<number, Pending>();
  #nextCall = 1;
  #ended: Error | undefined;

  constructor() {
    this.#worker.on("message", (reply: WorkerReply) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#end(error as Error));
    this.#worker.on("exit", () => this.#end(new Error("the engine's worker thread ended")));
    this.#worker.unref();
  }

  /** Loads the binding. Resolves with its version. */
  async start(settings: WorkerSettings): Promise<{ version: string }> {
    return (await this.#ask({ type: "start", settings })) as { call: number; version: string };
  }

  /** Makes a session known as `program`. */
  async compile(
    request: Omit<Extract<WorkerRequest, { type: "compile" }>, "type" | "call">,
  ): Promise<{ inputs: WorkerValueSpec[]; outputs: WorkerValueSpec[] }> {
    const reply = await this.#ask({ type: "compile", ...request });
    return reply as { call: number; inputs: WorkerValueSpec[]; outputs: WorkerValueSpec[] };
  }

  /** Runs a session; feeds that are not shared memory are given away. */
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
  post(request: Exclude<WorkerRequest, { call: number }>): void {
    if (this.#ended === undefined) this.#worker.postMessage(request);
  }

  /** Ends the thread; replies still awaited are rejected. */
  async close(): Promise<void> {
    this.#ended ??= new Error("the engine was closed");
    await this.#worker.terminate();
  }

  #ask(request: Unnumbered<Numbered>, transfer: TransferListItem[] = []): Promise<WorkerReply> {
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
    if ("error" in reply) pending?.reject(new Error(reply.error));
    else pending?.resolve(reply);
  }

  #end(cause: Error): void {
    this.#ended ??= new EngineError("ENGINE_UNAVAILABLE", `engine worker: ${cause.message}`, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }
}
