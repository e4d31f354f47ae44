/** @file A thread of the pool: holds kernels by number and works on calls until no block is left. */
import { parentPort } from "node:worker_threads";
import { Kernel, type KernelCall } from "./kernel.js";

/** What a thread is asked. Only `work` is answered: with the same `call`, and `error` where it failed. */
export type ThreadRequest =
  | {
      readonly type: "load";
      readonly kernel: number;
      readonly module: WebAssembly.Module;
      readonly memory: WebAssembly.Memory;
    }
  | {
      readonly type: "work";
      readonly kernel: number;
      readonly call: number;
      readonly work: KernelCall;
    }
  | { readonly type: "forget"; readonly kernel: number };

/** The answer to `work`. */
export interface ThreadReply {
  readonly call: number;
  readonly error?: string;
}

const kernels = new Map<number, Kernel>();

parentPort?.on("message", (request: ThreadRequest) => {
  if (request.type === "load") kernels.set(request.kernel, new Kernel(request.module, request.memory));
  else if (request.type === "forget") kernels.delete(request.kernel);
  else parentPort?.postMessage(answer(request.kernel, request.call, request.work));
});

function answer(number: number, call: number, work: KernelCall): ThreadReply {
  try {
    const kernel = kernels.get(number);
    if (!kernel) throw new Error(`kernel ${number} is not loaded`);
    kernel.work(work);
    return { call };
  } catch (error) {
    return { call, error: (error as Error).message };
  }
}
