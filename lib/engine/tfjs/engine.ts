/**
 * @file The second engine: interprets a graph of `lib/graph` with TensorFlow.js, in a worker thread.
 */
import { availableParallelism } from "node:os";
import { DeviceUnavailableError, EngineError } from "../errors.js";
import type { Engine, EngineDevice } from "../types.js";
import { WorkerEngine } from "../worker/engine.js";
import { WorkerLink } from "../worker/link.js";
import type { WorkerSettings } from "../worker/messages.js";
import { type TfjsBackend, tfjsBackends } from "./load.js";
import { type GraphPlan, planGraph } from "./plan.js";

export type { TfjsBackend } from "./load.js";

/** Settings of `createTfjsEngine`. */
export interface TfjsEngineOptions {
  /** `cuda` insists on a GPU; default: what the first installed backend offers. */
  device?: EngineDevice;
  /** Default: the first installed of tensorflow-gpu, tensorflow, wasm, cpu. */
  backend?: TfjsBackend;
}

/**
 * An engine on TensorFlow.js: `@tensorflow/tfjs-node-gpu` where it is installed, else `@tensorflow/tfjs-node`, else
 * `@tensorflow/tfjs` with or without `@tensorflow/tfjs-backend-wasm`. It computes with float32, int32 and bool; int64
 * values must fit int32. It takes graphs, not ONNX bytes.
 * Rejects with EngineError (ENGINE_UNAVAILABLE) where nothing is installed, INVALID_OPTION on a bad option, and
 * DeviceUnavailableError where `device: "cuda"` finds no GPU.
 */
export async function createTfjsEngine({ device, backend }: TfjsEngineOptions = {}): Promise<Engine> {
  checkOption("device", device, ["cpu", "cuda"]);
  checkOption("backend", backend, tfjsBackends);
  const settings: WorkerSettings = {
    device: device ?? "cpu",
    deviceId: 0,
    threads: availableParallelism(),
    spin: false,
    backend,
  };
  const link = new WorkerLink<GraphPlan>(new URL("./tfjs-worker.js", import.meta.url));
  try {
    const started = await link.start(settings);
    if (device !== undefined && started.device !== device) {
      throw new DeviceUnavailableError(
        device,
        `TensorFlow.js computes on ${started.device} here (${started.name})`,
      );
    }
    return new WorkerEngine({
      name: started.name,
      settings: { ...settings, device: started.device },
      link,
      toModel: (graph) => {
        if (!(graph instanceof Uint8Array)) return planGraph(graph);
        throw new Error("the TensorFlow.js engine takes a Graph, got ONNX bytes");
      },
    });
  } catch (error) {
    await link.close();
    if (error instanceof DeviceUnavailableError) throw error;
    const { message } = error as Error;
    if (device === "cuda") throw new DeviceUnavailableError(device, message, error);
    throw new EngineError("ENGINE_UNAVAILABLE", message, { cause: error });
  }
}

function checkOption(name: string, value: string | undefined, accepted: readonly string[]): void {
  if (value === undefined || accepted.includes(value)) return;
  const expected = `one of ${accepted.join(", ")}`;
  throw new EngineError("INVALID_OPTION", `${name}: expected ${expected}, got ${value}`, {
    name,
    expected,
    got: value,
  });
}
