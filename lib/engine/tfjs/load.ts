/**
 * @file Finds TensorFlow.js among the packages the user has installed, none of which we depend on.
 */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import type { EngineDevice } from "../types.js";
import type { Tfjs } from "./host-data.js";

/** Which implementation of TensorFlow.js computes. */
export type TfjsBackend = "tensorflow-gpu" | "tensorflow" | "wasm" | "cpu";

/** In order of preference. */
export const tfjsBackends: readonly TfjsBackend[] = ["tensorflow-gpu", "tensorflow", "wasm", "cpu"];

const packages: Record<TfjsBackend, readonly string[]> = {
  "tensorflow-gpu": ["@tensorflow/tfjs-node-gpu"],
  tensorflow: ["@tensorflow/tfjs-node"],
  wasm: ["@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm"],
  cpu: ["@tensorflow/tfjs"],
};

/** TensorFlow.js, ready to compute. */
export interface LoadedTfjs {
  tf: Tfjs;
  backend: TfjsBackend;
  /** `cuda` only where TensorFlow says that it computes on a GPU. */
  device: EngineDevice;
}

/** No package of TensorFlow.js that would do is installed. */
export class TfjsMissingError extends Error {
  readonly code = "TFJS_MISSING";

  constructor(tried: readonly TfjsBackend[]) {
    const lists = tried.map((backend) => packages[backend].join(" with "));
    super(`TensorFlow.js is not installed: install ${lists.join(", or ")}`);
    this.name = "TfjsMissingError";
  }
}

interface WasmPackage {
  setWasmPaths(folder: string): void;
}

/**
 * Loads the first backend of `wanted` whose packages are installed. Rejects with TfjsMissingError where there is none,
 * and with the package's own error where one is installed but does not load: that is never passed over in silence.
 */
export async function loadTfjs(
  wanted: readonly TfjsBackend[],
  require = createRequire(import.meta.url),
): Promise<LoadedTfjs> {
  const backend = wanted.find((candidate) => packages[candidate].every((name) => isInstalled(require, name)));
  if (backend === undefined) throw new TfjsMissingError(wanted);
  const tf = require(packages[backend][0]) as Tfjs;
  tf.enableProdMode(); // no debugging checks, no advice on the console
  if (backend === "wasm") {
    const name = packages.wasm[1];
    (require(name) as WasmPackage).setWasmPaths(`${dirname(require.resolve(name))}/`);
  }
  const tfName = backend.startsWith("tensorflow") ? "tensorflow" : backend;
  if (!(await tf.setBackend(tfName))) throw new Error(`TensorFlow.js: backend ${tfName} did not start`);
  await tf.ready();
  const onGpu = (tf.backend() as { isUsingGpuDevice?: boolean }).isUsingGpuDevice === true;
  return { tf, backend, device: onGpu ? "cuda" : "cpu" };
}

function isInstalled(require: NodeJS.Require, name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}
