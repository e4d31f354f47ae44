/** @file Several engines side by side, where numbers must not depend on what is computed together. */
import { availableParallelism } from "node:os";
import { createEngine, type Engine, type EngineOptions } from "./index.js";

/** What to open. */
export interface EnginesOptions extends Pick<EngineOptions, "device"> {
  /** Threads in all; default: the machine's cores. */
  readonly threads?: number | undefined;
  /** True: as many engines as threads, of one thread each. False: one engine. */
  readonly oneThreadEach?: boolean | undefined;
}

/** Opens one engine, or several of one thread each. Rejects as createEngine does, with none left open. */
export async function createEngines({ device, threads, oneThreadEach }: EnginesOptions): Promise<Engine[]> {
  const count = oneThreadEach ? (threads ?? availableParallelism()) : 1;
  const options: EngineOptions = {
    ...(device === undefined ? {} : { device }),
    ...(oneThreadEach ? { intraOpThreads: 1 } : threads === undefined ? {} : { intraOpThreads: threads }),
  };
  const engines: Engine[] = [];
  try {
    for (let i = 0; i < count; i++) engines.push(await createEngine(options));
    return engines;
  } catch (error) {
    await Promise.all(engines.map((engine) => engine.close()));
    throw error;
  }
}
