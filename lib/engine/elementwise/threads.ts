/**
 * @file The threads that fused kernels share, one pool for each number of threads. They start with the first kernel that is long enough
 * for them, sleep between calls without keeping the process alive, and end with the last program that might use them.
 */
import { Worker } from "node:worker_threads";
import { EngineError } from "../errors.js";
import type { KernelCall } from "./kernel.js";
import type { ThreadReply, ThreadRequest } from "./worker.js";

interface Pending {
  left: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const pools = new Map<number, ThreadPool>();

/** Threads that work on kernels together. */
export class ThreadPool {
  readonly #count: number;
  readonly #pending = new Map<number, Pending>();
  #workers: Worker[] = [];
  #users = 0;
  #nextKernel = 1;
  #nextCall = 1;

  private constructor(count: number) {
    this.#count = count;
  }

  /** The pool of `count` threads; call `release` when done with it. */
  static acquire(count: number): ThreadPool {
    const pool = pools.get(count) ?? new ThreadPool(count);
    pools.set(count, pool);
    pool.#users += 1;
    return pool;
  }

  /** Threads running now. */
  get running(): number {
    return this.#workers.length;
  }

  /** Makes a kernel known to every thread; returns its number. */
  load(module: WebAssembly.Module, memory: WebAssembly.Memory): number {
    if (this.#workers.length === 0) this.#workers = Array.from({ length: this.#count }, () => this.#start());
    const kernel = this.#nextKernel++;
    this.#tell({ type: "load", kernel, module, memory });
    return kernel;
  }

  /** Works on a call with all threads. Rejects with EngineError (RUN_FAILED) where a thread fails. */
  work(kernel: number, work: KernelCall): Promise<void> {
    return new Promise((resolve, reject) => {
      const call = this.#nextCall++;
      if (this.#pending.size === 0) for (const worker of this.#workers) worker.ref();
      this.#pending.set(call, { left: this.#workers.length, resolve, reject });
      this.#tell({ type: "work", kernel, call, work });
    });
  }

  /** Threads drop a kernel, and with it their hold on its memory. */
  forget(kernel: number): void {
    this.#tell({ type: "forget", kernel });
  }

  /** One user less; the threads end with the last. */
  release(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    pools.delete(this.#count);
    this.#end(new EngineError("RELEASED", "elementwise program: released while it ran"));
  }

  #start(): Worker {
    // without the process's own flags: --input-type, say, would not let a script file start
    const worker = new Worker(new URL("./worker.js", import.meta.url), { execArgv: [] });
    worker.on("message", (reply: ThreadReply) => this.#settle(reply));
    worker.on("error", (cause) => this.#failed(worker, cause as Error));
    worker.unref();
    return worker;
  }

  #tell(request: ThreadRequest): void {
    for (const worker of this.#workers) worker.postMessage(request);
  }

  #settle({ call, error }: ThreadReply): void {
    const pending = this.#pending.get(call);
    if (!pending) return;
    pending.left -= 1;
    if (error !== undefined)
      pending.reject(new EngineError("RUN_FAILED", `elementwise program: a thread failed: ${error}`));
    if (pending.left > 0) return;
    this.#pending.delete(call);
    if (this.#pending.size === 0) for (const worker of this.#workers) worker.unref();
    pending.resolve();
  }

  /** A thread died, from lack of memory say: nothing it had begun is known to be whole. */
  #failed(worker: Worker, cause: Error): void {
    if (!this.#workers.includes(worker)) return;
    pools.delete(this.#count);
    this.#end(
      new EngineError("RUN_FAILED", `elementwise program: a thread ended: ${cause.message}`, { cause }),
    );
  }

  #end(reason: Error): void {
    const workers = this.#workers;
    this.#workers = [];
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    for (const worker of workers) void worker.terminate();
  }
}
