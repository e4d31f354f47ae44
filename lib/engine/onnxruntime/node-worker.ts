/**
 * @file Worker thread of the stock binding's engine: its `run` blocks the thread it is called on, so it gets one of its own.
 */
import * as ort from "onnxruntime-node";
import { dtypeInfo } from "../dtypes.js";
import type { EngineDType } from "../types.js";
import type { ReturnedTensor, SentModel, WorkerSettings, WorkerValueSpec } from "../worker/messages.js";
import { type PrivateTensor, serve, type WorkerBackend } from "../worker/serve.js";

let settings: WorkerSettings;
const sessions = new Map<number, ort.InferenceSession>();

const backend: WorkerBackend<Uint8Array> = {
  async start(given) {
    settings = given;
    return { name: `onnxruntime ${ort.env.versions.node ?? ort.env.versions.common}`, device: given.device };
  },

  async compile(request) {
    const session = await ort.InferenceSession.create(request.model, sessionOptions(request));
    sessions.set(request.program, session);
    return {
      inputs: session.inputMetadata.map(valueSpec),
      outputs: session.outputMetadata.map(valueSpec),
    };
  },

  async run(program, feeds) {
    const session = sessions.get(program);
    if (session === undefined) throw new Error("this program was released");
    const inputs = Object.entries(feeds).map(([name, feed]) => [name, toOrt(feed)] as const);
    const outputs = await session.run(Object.fromEntries(inputs));
    return session.outputNames.map((name) => toReturned(outputs[name]));
  },

  async releaseProgram(program) {
    const session = sessions.get(program);
    sessions.delete(program);
    await session?.release();
  },

  forget() {},
};

function sessionOptions({
  optimize,
  fixedShapes,
  profile,
}: SentModel<Uint8Array>): ort.InferenceSession.SessionOptions {
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
  const dims = metadata.shape.map((dim) => (dim === "" ? undefined : dim));
  return { name: metadata.name, type: metadata.type, dims };
}

function toOrt({ dtype, dims, bytes }: PrivateTensor): ort.Tensor {
  const info = dtypeInfo(dtype);
  const data = new info.array(bytes.buffer, bytes.byteOffset, bytes.byteLength / info.bytes);
  return new ort.Tensor(dtype, data as never, dims);
}

/** The binding makes a fresh array for every result, so it may be given away. */
function toReturned(tensor: ort.Tensor): ReturnedTensor {
  const data = tensor.data as Uint8Array; // one of the typed arrays of dtypes.ts
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { dtype: tensor.type as EngineDType, dims: [...tensor.dims], bytes };
}

serve(backend);
