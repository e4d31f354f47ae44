/**
 * @file Adds the execution provider of a device to session options, or says exactly what is missing. Nothing falls
 * back to the CPU: a provider that cannot load is a DeviceUnavailableError.
 *
 * The CUDA path follows the C API's documentation and has been run against host memory only (see device-memory.ts):
 * no GPU was at hand when it was written. WebGPU comes inside the library that onnxruntime-node ships, and has been run
 * on a software driver.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { DeviceUnavailableError } from "../errors.js";
import type { EngineDevice } from "../types.js";
import type { OrtApi, Pointer } from "./c-api.js";
import type { OrtEnvironment } from "./environment.js";

/** Where and what to compute with. */
export interface ProviderChoice {
  device: EngineDevice;
  deviceId: number;
  /** Path of the ONNX Runtime library; providers are looked for beside it. */
  library: string;
}

const names: Record<EngineDevice, string> = {
  cpu: "CPUExecutionProvider",
  cuda: "CUDAExecutionProvider",
  webgpu: "WebGpuExecutionProvider",
};

/** Throws DeviceUnavailableError where the library or the files beside it cannot serve the device. */
export function checkProvider(environment: OrtEnvironment, { device, library }: ProviderChoice): void {
  if (!environment.providers.includes(names[device])) {
    const built = environment.providers.join(", ");
    throw new DeviceUnavailableError(
      device,
      `${library} was built without ${names[device]} (it has ${built})`,
    );
  }
  checkProviderFiles(device, library);
}

/** Throws DeviceUnavailableError where files that the provider needs are not beside the library. */
export function checkProviderFiles(device: EngineDevice, library: string): void {
  if (device !== "cuda") return;
  const suffix = process.platform === "win32" ? ".dll" : ".so";
  const prefix = process.platform === "win32" ? "" : "lib";
  for (const part of ["shared", "cuda"]) {
    const file = `${prefix}onnxruntime_providers_${part}${suffix}`;
    if (existsSync(join(dirname(library), file))) continue;
    throw new DeviceUnavailableError(
      "cuda",
      `${file} is not installed beside ${library}. npm does not ship the CUDA provider; fetch it with ` +
        "`ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js` (needs CUDA 12 and " +
        "cuDNN 9 on the library path), or set RLHF_ORT_LIBRARY to the libonnxruntime of a GPU build",
    );
  }
}

/** Adds the provider to `sessionOptions`. Throws DeviceUnavailableError with ONNX Runtime's reason as cause. */
export function appendProvider(
  api: OrtApi,
  sessionOptions: Pointer,
  { device, deviceId }: ProviderChoice,
): void {
  try {
    if (device === "cuda") appendCuda(api, sessionOptions, deviceId);
    // WebGPU picks its adapter itself: its `deviceId` option numbers a device handle made elsewhere
    if (device === "webgpu")
      api.call("SessionOptionsAppendExecutionProvider", sessionOptions, "WebGPU", 0n, 0n, 0);
  } catch (error) {
    throw unavailable(device, error);
  }
}

/** The error for a provider that is present but failed to start: keeps ONNX Runtime's text, which names the library. */
export function unavailable(device: EngineDevice, cause: unknown): DeviceUnavailableError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const hint =
    device === "cuda"
      ? "a CUDA 12 driver, the CUDA 12 runtime libraries and cuDNN 9 must be on the library path"
      : "a GPU with a Vulkan, Metal or Direct3D 12 driver is needed";
  return new DeviceUnavailableError(device, `${names[device]} did not start: ${reason} (${hint})`, cause);
}

function appendCuda(api: OrtApi, sessionOptions: Pointer, deviceId: number): void {
  const options = api.out("CreateCUDAProviderOptions");
  try {
    withPairs(
      api,
      {
        device_id: String(deviceId),
        arena_extend_strategy: "kSameAsRequested",
        // full fp32 products, as on the CPU: TF32 keeps ten bits of mantissa, too few for parity
        use_tf32: "0",
      },
      (keys, values, count) => api.call("UpdateCUDAProviderOptions", options, keys, values, count),
    );
    api.call("SessionOptionsAppendExecutionProvider_CUDA_V2", sessionOptions, options);
  } finally {
    api.free("ReleaseCUDAProviderOptions", options);
  }
}

/** Lends two arrays of C strings for the length of `use`. */
function withPairs(
  api: OrtApi,
  pairs: Record<string, string>,
  use: (keys: BigUint64Array, values: BigUint64Array, count: number) => void,
): void {
  const strings = [Object.keys(pairs), Object.values(pairs)].map((list) =>
    list.map((text) => Buffer.from(`${text}\0`)),
  );
  const letGo = api.hold(strings);
  try {
    const [keys, values] = strings.map((list) => new BigUint64Array(list.map((text) => api.addressOf(text))));
    use(keys, values, keys.length);
  } finally {
    letGo();
  }
}
