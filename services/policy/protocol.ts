/**
 * @file What the front process and the model worker of the policy service say to each other.
 */
import type { DecoderLimits, DecoderStats } from "./generation/decoder.js";
import type { PolicyModelFacts } from "./model/policy-model.js";
import type { VersionDemand, WeightsIdentity } from "./model/weight-store.js";
import type { GenerationDefaults, RequestedOptions } from "./sampling/options.js";
import type { FinishReason } from "./sampling/stop-rules.js";
import type { ScorerLimits } from "./scoring/scorer.js";

/** What the worker is started with. */
export interface WorkerConfig {
  /** Hugging Face directory. */
  model: string;
  device: "cpu" | "cuda" | "webgpu";
  /** Threads of one operator; default: all cores. */
  threads?: number;
  decoder: DecoderLimits;
  scorer: ScorerLimits;
  /** Earlier versions kept for rollback. */
  keepVersions: number;
  /** Sets of weights in memory at most. */
  maxHeld: number;
  /** Where new weights come from. Absent: they never change by themselves. */
  bus?: {
    /** nats://host:4222 or file:/directory. */
    url: string;
    run: string;
  };
  /** Whether nothing may change the weights. */
  pinned: boolean;
  telemetry: {
    instance: string;
    traceFile?: string;
    logLevel: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  };
  /** What a worker that follows another must hold before it answers. The front process changes it as weights change. */
  resume: {
    /** Least version. */
    version: number;
    /** Checkpoint that was loaded by hand last, if the version came from one. */
    loaded?: LoadCall;
  };
}

/** What the worker says about itself once it is loaded. */
export interface PolicyFacts extends PolicyModelFacts {
  /** What a request gets that leaves options out. */
  defaults: GenerationDefaults;
  weights: WeightsStatus;
}

/** A prompt: text or ids. */
export interface PromptCall {
  text?: string;
  ids?: number[];
  /** Its own seed. */
  seed?: bigint;
}

/** Asks the worker for continuations. Events are GenerateEvents if `stream`; the reply is a GenerateReply. */
export interface GenerateCall {
  prompts: PromptCall[];
  options: RequestedOptions;
  /** Seed of prompts without their own. */
  seed: bigint;
  demand: VersionDemand;
  /** Whether tokens are sent as they are chosen. */
  stream: boolean;
}

/** One generated sequence. */
export interface SequenceReply {
  promptIndex: number;
  returnIndex: number;
  ids: number[];
  text: string;
  logprobs: Float32Array;
  finish: FinishReason;
  promptIds: number[];
  seed: bigint;
}

/** One chosen token. */
export interface TokenEvent {
  promptIndex: number;
  returnIndex: number;
  id: number;
  /** Text that the token completes. */
  text: string;
  logprob: number;
}

/** What one run gave a request. */
export interface GenerateEvent {
  tokens: TokenEvent[];
  /** Sequences that ended. */
  ended: SequenceReply[];
  weights: WeightsIdentity;
}

/** The whole of a request. */
export interface GenerateReply {
  /** By prompt, then return index; empty if they were streamed. */
  sequences: SequenceReply[];
  weights: WeightsIdentity;
  queueMs: number;
  tokenizeMs: number;
  modelMs: number;
  firstTokenMs: number;
  promptTokens: number;
  generatedTokens: number;
}

/** Asks the worker for log-probabilities; the reply is a ScoreOutcome. */
export interface LogProbsCall {
  sequences: { ids: number[]; start: number }[];
  entropy: boolean;
  distribution: boolean;
  demand: VersionDemand;
}

/** Asks the worker to load a checkpoint and serve it. */
export interface LoadCall {
  directory: string;
  version?: number;
  digest?: string;
  /** Version that must be serving. */
  expectVersion?: number;
}

/** Asks the worker to serve a held version again. */
export interface RollbackCall {
  version: number;
}

/** State of the weights; also the value of the worker's event "weights", sent whenever it changes. */
export interface WeightsStatus {
  serving: WeightsIdentity;
  /** In memory, newest first. */
  held: WeightsIdentity[];
  load: {
    state: "none" | "loading" | "serving" | "failed";
    version: number;
    error: string;
    ms: number;
  };
  /** The checkpoint that was loaded by hand last, if it serves. */
  loaded?: LoadCall;
}

/** Value of the worker's event "stats", sent while it works. */
export interface WorkerStats extends DecoderStats {
  /** Sequences that wait to be scored. */
  scoring: number;
  engine: { liveTensors: number; bytes: number };
}
