/**
 * @file The worker thread's side: answers requests with a library that blocks the thread it is called on. Such libraries
 * do not take shared memory, so feeds that lie there are first copied to private arrays, which are kept from run to run,
 * and results are copied back.
 */
import { parentPort } from "node:worker_threads";
import type { EngineDType } from "../types.js";
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

/** A feed in memory the library may read. */
export interface PrivateTensor {
  dtype: EngineDType;
  dims: readonly number[];
  bytes: Uint8Array;
  /** Names the tensor from run to run. */
  id: number;
  /** Whether the bytes are those of this tensor's last run. */
  unchanged: boolean;
}

/** A library that computes. `M` is the form in which it takes a graph. */
export interface WorkerBackend<M> {
  /** Loads the library. */
  start(settings: WorkerSettings): Promise<WorkerLibrary>;
  compile(model: SentModel<M>): Promise<WorkerSignature>;
  /** Every output of the program, in its order, in memory that may be given away. */
  run(program: number, feeds: Record<string, PrivateTensor>): Promise<ReturnedTensor[]>;
  releaseProgram(program: number): Promise<void>;
  /** A tensor will not be used again. */
  forget(id: number): void;
}

/** Private copies of tensors in shared memory, by tensor id. */
const copies = new Map<number, Uint8Array>();

/** Answers the engine's requests until it is told to close; then the thread ends with the last of them. */
export function serve<M>(backend: WorkerBackend<M>): void {
  const working = new Set<Promise<void>>();
  parentPort?.on("message", (request: WorkerRequest<M>) => {
    if (request.type === "close") {
      void Promise.allSettled(working).then(() => parentPort?.close());
      return;
    }
    const work = answer(backend, request).finally(() => working.delete(work));
    working.add(work);
  });
}

async function answer<M>(
  backend: WorkerBackend<M>,
  request: Exclude<WorkerRequest<M>, { type: "close" }>,
): Promise<void> {
  if (request.type === "forget") {
    copies.delete(request.id);
    return backend.forget(request.id);
  }
  if (request.type === "releaseProgram") return backend.releaseProgram(request.program);
  try {
    reply(await perform(backend, request));
  } catch (error) {
    const { message, code } = error as { message?: string; code?: string };
    reply({ call: request.call, error: message ?? String(error), code });
  }
}

async function perform<M>(
  backend: WorkerBackend<M>,
  request: Extract<WorkerRequest<M>, { call: number }>,
): Promise<WorkerReply> {
  const { call } = request;
  if (request.type === "start") return { call, ...(await backend.start(request.settings)) };
  if (request.type === "compile") return { call, ...(await backend.compile(request)) };
  const feeds = Object.entries(request.feeds).map(([name, sent]) => [name, toPrivate(sent)] as const);
  const results = await backend.run(request.program, Object.fromEntries(feeds));
  return { call, results: results.map((result, i) => deliver(result, request.into[i])) };
}

function toPrivate({ dtype, dims, bytes, id }: SentTensor): PrivateTensor {
  if (!(bytes.buffer instanceof SharedArrayBuffer)) return { dtype, dims, bytes, id, unchanged: false };
  const known = copies.get(id);
  if (known !== undefined && Buffer.compare(known, bytes) === 0) {
    return { dtype, dims, bytes: known, id, unchanged: true };
  }
  const copy = known ?? new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  copies.set(id, copy);
  return { dtype, dims, bytes: copy, id, unchanged: false };
}

/** Leaves a result where the caller wants it; what remains is to be sent. */
function deliver(result: ReturnedTensor, target: SentTarget | undefined): ReturnedTensor | undefined {
  if (target === undefined) return result;
  if (`${result.dims}` !== `${target.dims}`) {
    throw new Error(`into: expected [${result.dims.join(", ")}], got [${target.dims.join(", ")}]`);
  }
  if (target.bytes === undefined) return result;
  target.bytes.set(result.bytes);
  return undefined;
}

function reply(message: WorkerReply): void {
  const results = "results" in message ? message.results : [];
  const transfer = results.flatMap((result) => (result ? [result.bytes.buffer as ArrayBuffer] : []));
  parentPort?.postMessage(message, transfer);
}
