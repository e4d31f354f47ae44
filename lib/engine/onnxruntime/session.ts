/**
 * @file Makes a session from model bytes and reads what it takes and gives.
 */
import { dtypeFromOnnx } from "../dtypes.js";
import { EngineError } from "../errors.js";
import type { Signature, ValueSpec } from "../signature.js";
import type { OrtApi, Pointer } from "./c-api.js";
import { LOG_FATAL, type OrtEnvironment } from "./environment.js";
import { appendProvider, type ProviderChoice } from "./providers.js";

/** Settings of one session. */
export interface SessionSettings extends ProviderChoice {
  threads: number;
  spin: boolean;
  optimize: boolean;
  fixedShapes: boolean;
  /** Path prefix of a Chrome-trace profile, written when the program is released. */
  profile?: string;
}

const OPTIMIZE_NOTHING = 0;
const OPTIMIZE_ALL = 99;

/** New OrtSessionOptions, the caller's to release. Throws DeviceUnavailableError where the provider does not start. */
export function createSessionOptions(api: OrtApi, settings: SessionSettings): Pointer {
  const options = api.out("CreateSessionOptions");
  try {
    api.call("SetSessionLogSeverityLevel", options, LOG_FATAL);
    api.call("SetIntraOpNumThreads", options, settings.threads);
    api.call("SetInterOpNumThreads", options, 1);
    api.call(
      "SetSessionGraphOptimizationLevel",
      options,
      settings.optimize ? OPTIMIZE_ALL : OPTIMIZE_NOTHING,
    );
    if (!settings.fixedShapes) api.call("DisableMemPattern", options);
    if (settings.profile !== undefined) api.call("EnableProfiling", options, settings.profile);
    const entries = {
      "session.intra_op.allow_spinning": settings.spin ? "1" : "0",
      // threads of a program that is not running leave the cores to the one that is
      "session.force_spinning_stop": "1",
      "session.use_env_allocators": "1",
    };
    for (const [key, value] of Object.entries(entries)) {
      api.call("AddSessionConfigEntry", options, key, value);
    }
    appendProvider(api, options, settings);
    return options;
  } catch (error) {
    api.free("ReleaseSessionOptions", options);
    throw error;
  }
}

/** Builds a session on a libuv thread. Rejects with OrtStatusError or DeviceUnavailableError. */
export async function createSession(
  { api, env }: OrtEnvironment,
  model: Uint8Array,
  settings: SessionSettings,
): Promise<Pointer> {
  const options = createSessionOptions(api, settings);
  try {
    const slot = new BigUint64Array(new ArrayBuffer(8));
    await api.callAsync("CreateSessionFromArray", env, model, model.byteLength, options, slot);
    return slot[0];
  } finally {
    api.free("ReleaseSessionOptions", options);
  }
}

/** Names, element types and dimensions of a session's inputs and outputs. */
export function readSignature(environment: OrtEnvironment, session: Pointer): Signature {
  const { api } = environment;
  const inputs = Number(api.out("SessionGetInputCount", session));
  const outputs = Number(api.out("SessionGetOutputCount", session));
  return {
    inputs: Array.from({ length: inputs }, (_, i) => readValue(environment, session, "Input", i)),
    outputs: Array.from({ length: outputs }, (_, i) => readValue(environment, session, "Output", i)),
  };
}

function readValue(
  { api, allocator }: OrtEnvironment,
  session: Pointer,
  role: "Input" | "Output",
  index: number,
): ValueSpec {
  const namePointer = api.out(`SessionGet${role}Name`, session, index, allocator);
  const name = api.text(namePointer);
  api.call("AllocatorFree", allocator, namePointer);
  const typeInfo = api.out(`SessionGet${role}TypeInfo`, session, index);
  try {
    const info = api.out("CastTypeInfoToTensorInfo", typeInfo);
    if (info === 0n) {
      throw new EngineError("COMPILE_FAILED", `${role.toLowerCase()} ${name}: expected a tensor`, { name });
    }
    return { name, ...readTensorInfo(api, info, name) };
  } finally {
    api.free("ReleaseTypeInfo", typeInfo);
  }
}

/** Element type and dimensions of an OrtTensorTypeAndShapeInfo; unknown dimensions are undefined. */
export function readTensorInfo(api: OrtApi, info: Pointer, name: string): Omit<ValueSpec, "name"> {
  const onnxType = Number(api.out("GetTensorElementType", info) & 0xffffffffn);
  const dtype = dtypeFromOnnx(onnxType);
  if (dtype === undefined) {
    throw new EngineError(
      "COMPILE_FAILED",
      `${name}: element type ${onnxType} of ONNX is not carried by engines`,
      {
        name,
        got: String(onnxType),
      },
    );
  }
  const rank = Number(api.out("GetDimensionsCount", info));
  if (rank === 0) return { dtype, dims: [] };
  const sizes = new BigInt64Array(rank);
  api.call("GetDimensions", info, sizes, rank);
  const symbols = new BigUint64Array(rank);
  api.call("GetSymbolicDimensions", info, symbols, rank);
  const dims = Array.from(sizes, (size, axis) => {
    if (size >= 0n) return Number(size);
    const symbol = symbols[axis] === 0n ? "" : api.text(symbols[axis]);
    return symbol === "" ? undefined : symbol;
  });
  return { dtype, dims };
}
