/**
 * @file What the front process and the model worker of the reward service say to each other.
 */

/** What the worker is started with. */
export interface WorkerConfig {
  /** Hugging Face directory of the classifier. */
  model: string;
  device: "cpu" | "cuda" | "webgpu";
  /** Threads of one operator; default: all cores. */
  threads?: number;
  /** True: numbers of a text do not depend on what is run with it; each run has one thread, and as many go on side by side. */
  batchInvariant?: boolean;
}

/** What the worker says about its model once it is loaded. */
export interface ClassifierFacts {
  /** Name of the directory. */
  name: string;
  family: string;
  weightVersion: number;
  digest: string;
  parameterCount: number;
  /** Longest input in tokens, special tokens included. */
  maxTokens: number;
  vocabSize: number;
  labels: string[];
  problemType?: "regression" | "single_label_classification" | "multi_label_classification";
  device: string;
  engine: string;
}

/** A text, or two that are scored as a pair. */
export interface TextToScore {
  text: string;
  pair?: string;
}

/** Token ids of one text or pair. */
export interface TokenizedText {
  ids: Int32Array;
  /** Segment of each token. */
  typeIds: Uint8Array;
  /** Length before anything was cut. */
  fullLength: number;
}

/** Asks the worker for token ids; the reply is a TokenizedText for each text. */
export interface TokenizeCall {
  texts: TextToScore[];
  /** Whether a text may be cut to the model's length. */
  truncate: boolean;
}

/** Asks the worker for logits; the reply is one Float32Array of [labels] for each row. */
export interface LogitsCall {
  rows: { ids: Int32Array; typeIds: Uint8Array }[];
}
