/**
 * @file What every engine offers, whichever library computes: tensors, compiled programs, and numbers for leak tests.
 * A caller that holds an `Engine` need not know whether ONNX Runtime or TensorFlow.js is behind it.
 */
import type { Graph } from "../graph/index.js";

/** Element types that travel between callers and engines. float16 is carried as raw 16-bit patterns. */
export type EngineDType = "float32" | "float16" | "int64" | "int32" | "bool";

/** Host storage of each element type: float16 → Uint16Array (bit patterns), bool → Uint8Array (0 or 1). */
export type EngineData = Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;

/** Where a program runs. */
export type EngineDevice = "cpu" | "cuda" | "webgpu";

/** How to reach ONNX Runtime: `koffi` calls its C API without copies, `node` is the stock binding in a worker thread. */
export type OrtBinding = "koffi" | "node";

/** How an engine is built. Nothing here is guessed: what a device lacks is an error, never a fallback. */
export interface EngineOptions {
  /** Default `cpu`. */
  device?: EngineDevice;
  /** Default: the environment variable RLHF_ORT_BINDING, else `koffi`. */
  binding?: OrtBinding;
  /** Threads that share one operator; default: the number of cores this process may use. */
  intraOpThreads?: number;
  /** Whether idle threads spin while they wait for work; faster alone, wasteful beside other processes. Default false. */
  spin?: boolean;
  /** Which CUDA device, default 0. WebGPU picks its adapter itself. */
  deviceId?: number;
}

/** How one graph is compiled. */
export interface CompileOptions {
  /** Let the engine fuse and fold operators; default true. Off gives the graph as written, for parity tests. */
  optimize?: boolean;
  /**
   * Reuse one memory layout between runs (ONNX Runtime's "memory pattern"); default false, because it only pays
   * where every run has the same shapes.
   */
  fixedShapes?: boolean;
  /** Path prefix of a profile (Chrome trace, one event per operator), written when the program is released. */
  profile?: string;
}

/** Counters for leak tests; all return to their earlier values when everything made since has been released. */
export interface EngineStats {
  /** Tensors made and not yet released, views included. */
  liveTensors: number;
  /** Native values (OrtValue, tf.Tensor) alive behind them. */
  liveValues: number;
  /** Programs compiled and not yet released. */
  programs: number;
  /** Bytes of tensor storage alive; storage shared by views or wrapped from the caller counts once. */
  bytes: number;
  /** Tensors or programs that were garbage collected without `release()`: always 0 in correct code. */
  leaked: number;
}

/** Runs graphs on one device. */
export interface Engine {
  /** For example `onnxruntime 1.30.0 (koffi, cpu)`. */
  readonly name: string;
  readonly device: EngineDevice;
  /** Threads that share one operator. */
  readonly threads: number;
  /**
   * A tensor of this shape. Without `data` it is zero-filled; with `data` the typed array is wrapped WITHOUT a copy
   * on cpu (small arrays that live on the moving heap are copied: read results through `tensor.data`), and copied
   * to the device elsewhere. Throws EngineError where dtype, shape and data disagree.
   */
  tensor(dtype: EngineDType, dims: readonly number[], data?: EngineData): EngineTensor;
  /** Compiles a graph, or a ready ONNX model. Throws EngineError (code COMPILE_FAILED) with the cause. */
  compile(graph: Graph | Uint8Array, options?: CompileOptions): Promise<Program>;
  stats(): EngineStats;
  /** Waits for runs in flight, then releases every program and tensor. Idempotent. */
  close(): Promise<void>;
}

/** A tensor an engine can read and write. The caller that made or received it releases it. */
export interface EngineTensor {
  readonly dtype: EngineDType;
  readonly dims: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** Live host view, no copy. Throws EngineError on a device tensor (use `read`) and after release. */
  readonly data: EngineData;
  /** A copy of the elements on the host; waits for the device. */
  read(): Promise<EngineData>;
  /**
   * Overwrites all elements; a large copy does not block the event loop, so leave `src` alone until it is done. Rejects with
   * EngineError unless `src` has this type and size.
   */
  write(src: EngineData): Promise<void>;
  /**
   * A tensor over `dims` elements of this one's memory, from `elementOffset` (default 0): for example the first n rows
   * of a KV buffer. Releases on its own; keeps the memory alive.
   */
  view(dims: readonly number[], elementOffset?: number): EngineTensor;
  /** Idempotent. Memory goes when the last tensor over it is released and no run uses it. */
  release(): void;
}

/** A compiled graph. */
export interface Program {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * One run. `feeds` gives every input (parameters included) by name. `into` binds outputs to tensors the caller
   * holds; they may share memory with feeds, for example the very tensor of a feed, which updates it. The result is as
   * if all outputs were written after all inputs were read. No copy is made for that where the graph is known to allow
   * writing in place (elementwise updates, caches of attention); a ready ONNX model is always written in place, and
   * whether it allows that is the caller's to know. Other outputs come back freshly allocated, the caller's to release.
   * The reply holds every output by name.
   *
   * Never blocks the event loop. Runs may overlap, also of different programs; the engine queues them (see the
   * engine's README). Two runs in flight that write the same tensor, or one that writes what another reads, are a
   * mistake of the caller: the result is undefined. Rejects with EngineError (code INVALID_FEED) on a missing or
   * unknown name, wrong dtype or shape; with code RELEASED after `release`.
   */
  run(
    feeds: Record<string, EngineTensor>,
    into?: Record<string, EngineTensor>,
  ): Promise<Record<string, EngineTensor>>;
  /** Idempotent; runs already started finish first. */
  release(): void;
}
