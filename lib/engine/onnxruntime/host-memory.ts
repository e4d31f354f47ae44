/**
 * @file Host memory with addresses, for the copy-free engine.
 */
import type { LeakGuard } from "../leak-guard.js";
import { Storage } from "../storage.js";
import type { EngineData } from "../types.js";
import type { OrtApi } from "./c-api.js";

/** Zero-filled memory. */
export function allocateHost(api: OrtApi, guard: LeakGuard, byteLength: number): Storage {
  // ONNX Runtime refuses a null pointer, so that even an empty tensor has an address
  const host = new Uint8Array(new ArrayBuffer(Math.max(8, byteLength)));
  return new Storage(guard, byteLength, { host, address: api.addressOf(host) });
}

/** The caller's own array, without a copy. An empty one gets an address of its own. */
export function wrapHost(api: OrtApi, guard: LeakGuard, data: EngineData): Storage {
  if (data.byteLength === 0) return allocateHost(api, guard, 0);
  const host = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Storage(guard, data.byteLength, { host, address: api.addressOf(host) });
}
