/**
 * @file Worker thread of the stock binding's engine: its `run` blocks the thread it is called on, so it gets one of its
 * own. The binding takes no shared memory, so feeds in shared memory are first copied to private arrays, which are kept
 * from run to run, and results are copied back.
 */
import { parentPort } from "node:worker_threads";
import * as ort from "onnxruntime-node";
import { dtypeInfo } from "../dtypes.js";
import type { EngineDType } from "../types.js";
import type {
  ReturnedTensor,
  SentTarget,
  SentTensor,
  WorkerReply,
  WorkerRequest,
  WorkerSettings,
  WorkerValueSpec,
} from "./node-messages.js";

let settings: WorkerSettings = { device: "cpu", deviceId: 0, threads: 1, spin: false };
const sessions = new Map<number, ort.InferenceSession>();
/** Private copies of tensors in shared memory, by tensor id. */
const copies = new Map<number, Uint8Array>();

const port = parentPort;
port?.on("message", (request: WorkerRequest) => void answer(request));

async function answer(request: WorkerRequest): Promise<void> {
  if (request.type === "forget") return void copies.delete(request.id);
  if (request.type === "releaseProgram") {
    const session = sessions.get(request.program);
    sessions.delete(request.program);
    return session?.release();
  }
  try {
    reply(await serve(request));
  } catch (error) {
    reply({ call: request.call, error: error instanceof Error ? error.message : String(error) });
  }
}

async function serve(request: Extract<WorkerRequest, { call: number }>): Promise<WorkerReply> {
  switch (request.type) {
    case "start":
      settings = request.settings;
      return { call: request.call, version: ort.env.versions.node ?? ort.env.versions.common };
    case "compile": {
      const session = await ort.InferenceSession.create(request.model, sessionOptions(request));
      sessions.set(request.program, session);
      return {
        call: request.call,
        inputs: session.inputMetadata.map(valueSpec),
        outputs: session.outputMetadata.map(valueSpec),
      };
    }
    case "run":
      return { call: request.call, results: await run(request.program, request.feeds, request.into) };
  }
}

function sessionOptions({
  optimize,
  fixedShapes,
  profile,
}: Extract<WorkerRequest, { type: "compile" }>): ort.InferenceSession.SessionOptions {
  const { device, deviceId, threads, spin } = settings;
  return {
    executionProviders: [device === "cuda" ? { name: device, deviceId } : device],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: optimize ? "all" : "disabled",
    enableMemPattern: fixedShapes,
    logSeverityLevel: 4,
    extra: { session: { intra_op: { allow_spinning: spin ? "1" : "0" } } },
    ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
  };
}

function valueSpec(metadata: ort.InferenceSession.ValueMetadata): WorkerValueSpec {
  if (!metadata.isTensor) throw new Error(`${metadata.name}: expected a tensor`);
  // an unnamed dimension has the empty name
  return {
    name: metadata.name,
    type: metadata.type,
    dims: metadata.shape.map((dim) => (dim === "" ? undefined : dim)),
  };
}

async function run(
  program: number,
  feeds: Record<string, SentTensor>,
  into: (SentTarget | undefined)[],
): Promise<(ReturnedTensor | undefined)[]> {
  const session = sessions.get(program);
  if (session === undefined) throw new Error("this program was released");
  const inputs: Record<string, ort.Tensor> = {};
  for (const [name, sent] of Object.entries(feeds)) {
    inputs[name] = toOrt(sent.dtype, sent.dims, privateBytes(sent));
  }
  const outputs = await session.run(inputs);
  return session.outputNames.map((name, i) => {
    const tensor = outputs[name];
    const data = tensor.data as Uint8Array; // one of the typed arrays of dtypes.ts
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const target = into[i];
    if (target !== undefined) checkShape(name, tensor.dims, target.dims);
    if (target?.bytes === undefined) {
      return { dtype: tensor.type as EngineDType, dims: [...tensor.dims], bytes };
    }
    target.bytes.set(bytes);
    return undefined;
  });
}

function checkShape(name: string, got: readonly number[], expected: readonly number[]): void {
  if (got.length === expected.length && got.every((dim, axis) => dim === expected[axis])) return;
  throw new Error(`into ${name}: expected [${got.join(", ")}], got [${expected.join(", ")}]`);
}

function privateBytes({ bytes, id }: SentTensor): Uint8Array {
  if (!(bytes.buffer instanceof SharedArrayBuffer)) return bytes;
  let copy = copies.get(id);
  if (copy === undefined) {
    copy = new Uint8Array(bytes.byteLength);
    copies.set(id, copy);
  }
  copy.set(bytes);
  return copy;
}

function toOrt(dtype: EngineDType, dims: readonly number[], bytes: Uint8Array): ort.Tensor {
  const info = dtypeInfo(dtype);
  const data = new info.array(bytes.buffer, bytes.byteOffset, bytes.byteLength / info.bytes);
  return new ort.Tensor(dtype, data as never, dims);
}

function reply(message: WorkerReply): void {
  const results = "results" in message ? message.results : [];
  const transfer = results.flatMap((result) => (result ? [result.bytes.buffer as ArrayBuffer] : []));
  port?.postMessage(message, transfer);
}
