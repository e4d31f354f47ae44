/**
 * @file stub
 */
import type { WorkerConfig } from "./protocol.js";
/** x */
export async function followBus(_bus: NonNullable<WorkerConfig["bus"]>, _parts: object): Promise<void> {}
