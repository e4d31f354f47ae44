/**
 * @file Fetches on a thread of its own, so that the event loop that serves a model neither parses nor hashes hundreds of megabytes, nor
 * stops for the garbage of it. The thread yields to the threads that compute (on Linux), and keeps no process alive.
 */
import { Worker } from "node:worker_threads";
import type { ObjectFetcher } from "./bus.js";
import { BusUnavailableError } from "./errors.js";
import { errorOf, type FetchReply, type FetchRequest, type FetchThreadData } from "./fetch-messages.js";
import type { FetchObjectOptions } from "./fetch-object.js";
import type { WeightsManifest } from "./manifest.js";
import type { OpenOptions } from "./open.js";

interface Pending {
  readonly resolve: (tensors: Map<string, Float32Array>) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that fetches from one bus; it starts with the first fetch, and again after it ended by itself. */
export class FetchThread implements ObjectFetcher {
  readonly #address: string;
  readonly #data: FetchThreadData;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #nextCall = 1;

  /** `address`: where the bus is, without secrets. */
  constructor(url: string, address: string, { log: _, ...options }: OpenOptions) {
    this.#address = address;
    this.#data = { url, options };
  }

  /** As fetchObject; BusUnavailableError also where the thread cannot connect, or ends. */
  async fetch(
    manifest: WeightsManifest,
    options: FetchObjectOptions,
    signal: AbortSignal,
  ): Promise<Map<string, Float32Array>> {
    const call = this.#nextCall++;
    const cancel = () => this.#post({ type: "cancel", call });
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(call, { resolve, reject });
        this.#post({ type: "fetch", call, manifest, options });
        this.#worker?.ref();
        if (signal.aborted) cancel();
      });
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#pending.delete(call);
      if (this.#pending.size === 0) this.#worker?.unref();
    }
  }

  /** Ends the thread; what it still fetched is rejected. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #post(request: FetchRequest): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(request);
  }

  #start(): Worker {
    // without the process's own flags: --input-type, say, would not let a script file start
    const worker = new Worker(new URL("./fetch-worker.js", import.meta.url), {
      execArgv: [],
      workerData: this.#data,
    });
    worker.on("message", (reply: FetchReply) => {
      const pending = this.#pending.get(reply.call);
      if ("tensors" in reply) pending?.resolve(reply.tensors);
      else pending?.reject(errorOf(reply.error));
    });
    const ended = (cause: unknown) => {
      if (this.#worker === worker) this.#worker = undefined;
      const error = new BusUnavailableError(this.#address, "fetch", cause);
      for (const { reject } of this.#pending.values()) reject(error);
    };
    worker.on("error", ended);
    worker.on("exit", () => ended(new Error("the fetch thread ended")));
    return worker;
  }
}
