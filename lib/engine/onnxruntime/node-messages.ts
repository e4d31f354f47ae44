/**
 * @file What travels between the stock binding's engine and its worker thread.
 */
import type { SignatureDim } from "../signature.js";
import type { EngineDevice, EngineDType } from "../types.js";

/** How the worker makes its sessions. */
export interface WorkerSettings {
  device: EngineDevice;
  deviceId: number;
  threads: number;
  spin: boolean;
}

/** One tensor on its way to the worker. */
export interface SentTensor {
  dtype: EngineDType;
  dims: readonly number[];
  /** Shared memory to copy from and to; or, for a feed in the caller's own array, a copy to use as it is. */
  bytes: Uint8Array;
  /** Names the worker's private copy of shared memory, which it keeps until told to forget. */
  id: number;
}

/** Where the worker leaves one output. */
export interface SentTarget {
  dtype: EngineDType;
  dims: readonly number[];
  /** Shared memory to write to; without it the result comes back in the reply. */
  bytes?: Uint8Array;
}

/** A request; `call` numbers the reply. */
export type WorkerRequest =
  | { type: "start"; call: number; settings: WorkerSettings }
  | {
      type: "compile";
      call: number;
      program: number;
      model: Uint8Array;
      optimize: boolean;
      fixedShapes: boolean;
      profile?: string;
    }
  | {
      type: "run";
      call: number;
      program: number;
      feeds: Record<string, SentTensor>;
      /** For each output, in the session's order, where it goes. */
      into: (SentTarget | undefined)[];
    }
  | { type: "releaseProgram"; program: number }
  | { type: "forget"; id: number };

/** One input or output as the stock binding describes it. */
export interface WorkerValueSpec {
  name: string;
  type: string;
  dims: readonly SignatureDim[];
}

/** A fresh output, or one whose target was not shared memory. */
export interface ReturnedTensor {
  dtype: EngineDType;
  dims: number[];
  bytes: Uint8Array;
}

/** A reply to the request numbered `call`. */
export type WorkerReply =
  | { call: number; error: string }
  | { call: number; inputs: WorkerValueSpec[]; outputs: WorkerValueSpec[] }
  | { call: number; results: (ReturnedTensor | undefined)[] }
  | { call: number; version: string };
