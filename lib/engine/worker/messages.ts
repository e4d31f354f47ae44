/**
 * @file What travels between an engine and its worker thread.
 */
import type { SignatureDim } from "../signature.js";
import type { EngineDevice, EngineDType } from "../types.js";

/** How the worker computes. */
export interface WorkerSettings {
  device: EngineDevice;
  deviceId: number;
  threads: number;
  spin: boolean;
  /** Which of the library's implementations, where it has several. */
  backend?: string;
}

/** One tensor on its way to the worker. */
export interface SentTensor {
  dtype: EngineDType;
  dims: readonly number[];
  /** Shared memory to copy from; or, for a feed in the caller's own array, a copy to use as it is. */
  bytes: Uint8Array;
  /** Names the worker's private copy of shared memory, which it keeps until told to forget. */
  id: number;
}

/** Where the worker leaves one output. */
export interface SentTarget {
  dims: readonly number[];
  /** Shared memory to write to; without it the result comes back in the reply. */
  bytes?: Uint8Array;
}

/** A graph to compile. `M` is what the worker's library takes. */
export interface SentModel<M> {
  program: number;
  model: M;
  optimize: boolean;
  fixedShapes: boolean;
  profile?: string;
}

/** A request; `call` numbers the reply. */
export type WorkerRequest<M> =
  | { type: "start"; call: number; settings: WorkerSettings }
  | ({ type: "compile"; call: number } & SentModel<M>)
  | {
      type: "run";
      call: number;
      program: number;
      feeds: Record<string, SentTensor>;
      /** For each output, in the program's order, where it goes. */
      into: (SentTarget | undefined)[];
    }
  | { type: "releaseProgram"; program: number }
  | { type: "forget"; id: number }
  | { type: "close" };

/** One input or output as the worker's library describes it. */
export interface WorkerValueSpec {
  name: string;
  type: string;
  dims: readonly SignatureDim[];
}

/** What a compiled graph takes and gives. */
export interface WorkerSignature {
  inputs: WorkerValueSpec[];
  outputs: WorkerValueSpec[];
}

/** A result in memory of its own. */
export interface ReturnedTensor {
  dtype: EngineDType;
  dims: number[];
  bytes: Uint8Array;
}

/** What the worker loaded. */
export interface WorkerLibrary {
  /** Name and version. */
  name: string;
  /** Where it computes. */
  device: EngineDevice;
}

/** A reply to the request numbered `call`. */
export type WorkerReply =
  | { call: number; error: string; code?: string }
  | ({ call: number } & WorkerLibrary)
  | ({ call: number } & WorkerSignature)
  | { call: number; results: (ReturnedTensor | undefined)[] };
