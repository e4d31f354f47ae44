/**
 * @file Engines: run a graph of `lib/graph`, or a ready ONNX model, on ONNX Runtime or TensorFlow.js.
 */
import { EngineError } from "./errors.js";
import { createOrtEngine } from "./onnxruntime/engine.js";
import { createNodeEngine } from "./onnxruntime/node-engine.js";
import type { Engine, EngineDevice, EngineOptions, OrtBinding } from "./types.js";

export { dtypeInfo } from "./dtypes.js";
export { ElementwiseProgram } from "./elementwise/program.js";
export { longestTogether, VectorMemory } from "./elementwise/vector-memory.js";
export { DeviceUnavailableError, EngineError, type EngineErrorCode } from "./errors.js";
export { createTfjsEngine, type TfjsBackend, type TfjsEngineOptions } from "./tfjs/engine.js";
export type {
  CompileOptions,
  Engine,
  EngineData,
  EngineDevice,
  EngineDType,
  EngineOptions,
  EngineStats,
  EngineTensor,
  OrtBinding,
  Program,
} from "./types.js";

const devices: readonly EngineDevice[] = ["cpu", "cuda", "webgpu"];
const bindings: readonly OrtBinding[] = ["koffi", "node"];

/**
 * The default engine. Reads RLHF_ORT_BINDING (`koffi` or `node`) where `options.binding` is absent, and
 * RLHF_ORT_LIBRARY, the path of another libonnxruntime. Where no binding was asked for and koffi cannot load, the stock
 * binding is used with a process warning (code RLHF_ORT_BINDING).
 * Rejects with DeviceUnavailableError, or EngineError (INVALID_OPTION, ENGINE_UNAVAILABLE).
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const asked = options.binding ?? (process.env.RLHF_ORT_BINDING || undefined);
  checkOption("binding", asked ?? "koffi", bindings);
  checkOption("device", options.device ?? "cpu", devices);
  checkThreads(options.intraOpThreads);
  if (asked === "node") return createNodeEngine(options);
  try {
    return await createOrtEngine({ ...options, library: process.env.RLHF_ORT_LIBRARY || undefined });
  } catch (error) {
    if ((error as { code?: string }).code === "DEVICE_UNAVAILABLE") throw error;
    const reason = `koffi cannot reach ONNX Runtime here: ${(error as Error).message}`;
    if (asked === "koffi") throw new EngineError("ENGINE_UNAVAILABLE", reason, { cause: error });
    process.emitWarning(`${reason}; using the stock binding, which copies`, { code: "RLHF_ORT_BINDING" });
    return createNodeEngine(options);
  }
}

/** Rejects with DeviceUnavailableError, which says what is missing, where nothing can be computed on `device` here. */
export async function assertDevice(device: EngineDevice): Promise<void> {
  if (device !== "cpu") await (await createEngine({ device })).close();
}

function checkOption(name: string, value: string, accepted: readonly string[]): void {
  if (accepted.includes(value)) return;
  const expected = `one of ${accepted.join(", ")}`;
  throw new EngineError("INVALID_OPTION", `${name}: expected ${expected}, got ${value}`, {
    name,
    expected,
    got: value,
  });
}

function checkThreads(threads: number | undefined): void {
  if (threads === undefined || (Number.isInteger(threads) && threads > 0)) return;
  const expected = "a whole number ≥ 1";
  throw new EngineError("INVALID_OPTION", `intraOpThreads: expected ${expected}, got ${threads}`, {
    name: "intraOpThreads",
    expected,
    got: String(threads),
  });
}
