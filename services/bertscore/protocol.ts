/**
 * @file What the front process and the model worker of the BERTScore service say to each other.
 */
import type { BertScore } from "./matching.js";

/** What the worker is started with. */
export interface WorkerConfig {
  /** Hugging Face directory of the encoder. */
  model: string;
  device: "cpu" | "cuda" | "webgpu";
  /** Threads of one operator; default: all cores. */
  threads?: number;
  /** True: numbers of a sentence do not depend on what is run with it; each run has one thread, and as many go on side by side. */
  batchInvariant?: boolean;
  /** Bytes of embeddings kept between calls. */
  cacheBytes: number;
  /** Layer to compile before the first call; the default layer of the service. */
  layer?: number;
}

/** What the worker says about its model once it is loaded. */
export interface EncoderFacts {
  /** Name of the directory. */
  name: string;
  family: string;
  weightVersion: number;
  digest: string;
  parameterCount: number;
  /** Longest sentence in tokens, special tokens included; longer ones are cut. */
  maxTokens: number;
  vocabSize: number;
  /** Number of transformer blocks; layers 0 to this can be compared. */
  layerCount: number;
  /** Ids of the tokens that wrap a sentence; they weigh 0 unless idf is on. */
  wrapper: { cls?: number; sep?: number };
  /** Whether a space before the first word is asked for: bert_score does so for RoBERTa only. */
  prefixSpaceMatters: boolean;
  device: string;
  engine: string;
}

/** Asks the worker for token ids; the reply is a TokenizedSentence for each sentence. */
export interface TokenizeCall {
  sentences: string[];
  addPrefixSpace: boolean;
}

/** Token ids of one sentence, special tokens included. */
export interface TokenizedSentence {
  ids: Int32Array;
  /** Whether it was cut to the model's length. */
  truncated: boolean;
}

/** Token ids of a sentence and the weight of each. */
export interface WeightedSentence {
  ids: Int32Array;
  weights: Float32Array;
}

/** A candidate, what it is compared with, and at which layers. */
export interface ScoreItem {
  candidate: WeightedSentence;
  references: WeightedSentence[];
  layers: number[];
  /** Whether the reply shall hold the similarity matrix (of the first reference and layer). */
  explain: boolean;
}

/** Asks the worker for scores; the reply is an ItemScore for each item. */
export interface ScoreCall {
  items: ScoreItem[];
}

/** Raw scores of one item, or why there are none. */
export type ItemScore =
  | {
      /** The best over the references, for each of the item's layers. */
      scores: BertScore[];
      explanation?: Explanation;
    }
  | { nonFinite: { tokens: number; layer: number } };

/** How the tokens of one pair match. */
export interface Explanation {
  /** Cosines, [candidate, reference] row-major. */
  similarity: Float32Array;
  /** For each candidate token, its best match and the cosine with it. */
  candidateMatch: Int32Array;
  candidateBest: Float64Array;
  /** For each reference token, its best match and the cosine with it. */
  referenceMatch: Int32Array;
  referenceBest: Float64Array;
}

/** Asks the worker for the text of single tokens; the reply is a string for each id. */
export interface DecodeTokensCall {
  ids: Int32Array;
}
