/**
 * @file Where an engine keeps its tensors.
 */
import type { Engine } from "../../../lib/engine/index.js";

/** Whether tensors of an engine live in the host's memory, so that `data` reads and writes them; only CUDA's do not. */
export function isHostMemory(engine: Engine): boolean {
  return engine.device !== "cuda";
}
