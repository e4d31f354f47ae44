/**
 * @file The second engine on ONNX Runtime: the stock `onnxruntime-node` binding in a worker thread. It does what the
 * copy-free engine does, for platforms where koffi cannot load, and for the test that compares both.
 */
import { availableParallelism } from "node:os";
import { toOnnx } from "../../graph/index.js";
import { EngineError } from "../errors.js";
import type { Engine, EngineOptions } from "../types.js";
import { WorkerEngine } from "../worker/engine.js";
import { WorkerLink } from "../worker/link.js";
import type { WorkerSettings } from "../worker/messages.js";
import { identityModel } from "./device-memory.js";
import { findOrtLibrary } from "./library.js";
import { checkProviderFiles, unavailable } from "./providers.js";

/**
 * An engine on the stock binding. Rejects with DeviceUnavailableError where the device's provider is missing, and with
 * EngineError (ENGINE_UNAVAILABLE) where the binding itself cannot load.
 */
export async function createNodeEngine(options: EngineOptions = {}): Promise<Engine> {
  const settings: WorkerSettings = {
    device: options.device ?? "cpu",
    deviceId: options.deviceId ?? 0,
    threads: options.intraOpThreads ?? availableParallelism(),
    spin: options.spin ?? false,
  };
  if (settings.device === "cuda") checkProviderFiles(settings.device, findOrtLibrary());
  const link = new WorkerLink<Uint8Array>(new URL("./node-worker.js", import.meta.url));
  try {
    const { name } = await link.start(settings);
    // a provider that cannot work is found now and not at the first compile
    await link.compile({ program: 0, model: identityModel(), optimize: false, fixedShapes: false });
    link.post({ type: "releaseProgram", program: 0 });
    const toModel = (graph: Parameters<Engine["compile"]>[0]) =>
      graph instanceof Uint8Array ? graph : toOnnx(graph);
    return new WorkerEngine({ name: `${name} (node, ${settings.device})`, settings, link, toModel });
  } catch (error) {
    await link.close();
    if (settings.device !== "cpu") throw unavailable(settings.device, error);
    const reason = `onnxruntime-node: ${(error as Error).message}`;
    throw new EngineError("ENGINE_UNAVAILABLE", reason, { cause: error });
  }
}
