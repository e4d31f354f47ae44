/**
 * @file Reads a Hugging Face `config.json` into one vocabulary for all families. Defaults and aliases are those of
 * transformers; what we would compute differently (another kind of position embedding, an unknown activation, a decoder
 * made of BERT) is refused by key.
 */
import { ACTIVATIONS, type ActivationName } from "./activation-names.js";
import { ConfigReader, type JsonObject } from "./config-reader.js";
import { ModelConfigError } from "./errors.js";

/** How a classifier's labels relate, as `problem_type` says. */
export type ProblemType = "regression" | "single_label_classification" | "multi_label_classification";

/** What every family has. */
interface CommonConfig {
  /** V: rows of the word embedding. */
  readonly vocabSize: number;
  /** D: width of the hidden state. */
  readonly hiddenSize: number;
  /** Number of transformer blocks. */
  readonly layers: number;
  /** A: attention heads; D is a multiple of it. */
  readonly heads: number;
  /** I: width of the feed-forward layer. */
  readonly innerSize: number;
  /** Rows of the position embedding. */
  readonly positions: number;
  readonly activation: ActivationName;
  readonly layerNormEps: number;
  /** Standard deviation of random weights. */
  readonly initializerRange: number;
  /** Names of the classifier's labels by index. */
  readonly labels: readonly string[];
  readonly problemType?: ProblemType;
  readonly bosTokenId?: number;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId?: number;
  readonly architectures: readonly string[];
  /** The file as read, for writing it out again. */
  readonly json: JsonObject;
}

/** GPT-2: pre-LayerNorm, causal, tied output layer. */
export interface Gpt2Config extends CommonConfig {
  readonly modelType: "gpt2";
  readonly scaleAttnWeights: boolean;
  readonly scaleAttnByInverseLayerIdx: boolean;
}

/** BERT: post-LayerNorm, bidirectional, token types. */
export interface BertConfig extends CommonConfig {
  readonly modelType: "bert";
  readonly typeVocabSize: number;
}

/** RoBERTa: BERT's encoder with positions counted from the pad id. */
export interface RobertaConfig extends CommonConfig {
  readonly modelType: "roberta";
  readonly typeVocabSize: number;
  /** p: positions of real tokens start at p + 1. */
  readonly padTokenId: number;
}

/** DistilBERT: BERT's encoder without token types, under other names. */
export interface DistilBertConfig extends CommonConfig {
  readonly modelType: "distilbert";
}

/** A bidirectional encoder of any family. */
export type EncoderConfig = BertConfig | RobertaConfig | DistilBertConfig;

/** Any model we can build. */
export type ModelConfig = Gpt2Config | EncoderConfig;

/** Families by their `model_type`. */
export const MODEL_TYPES = ["gpt2", "bert", "roberta", "distilbert"] as const;

/** Each layer and label is an object here: a damaged file must not ask for more than memory holds. */
const MAX_LAYERS = 1000;
const MAX_LABELS = 100_000;

/** Parses the content of `config.json`. Throws ModelConfigError naming the key. */
export function parseModelConfig(json: unknown): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new ModelConfigError("(file)", json, "a JSON object");
  }
  const reader = new ConfigReader(json as JsonObject);
  const modelType = reader.json.model_type;
  if (modelType === "gpt2") return parseGpt2(reader);
  if (modelType === "bert") return parseBert(reader);
  if (modelType === "roberta") return parseRoberta(reader);
  if (modelType === "distilbert") return parseDistilBert(reader);
  throw new ModelConfigError(
    "model_type",
    modelType,
    `one of ${MODEL_TYPES.map((t) => `"${t}"`).join(", ")}`,
  );
}

/** Parses the config of an encoder (BERT, RoBERTa, DistilBERT); GPT-2 is refused. */
export function parseEncoderConfig(json: unknown): EncoderConfig {
  const config = parseModelConfig(json);
  if (config.modelType === "gpt2") {
    throw new ModelConfigError("model_type", "gpt2", 'one of "bert", "roberta", "distilbert"');
  }
  return config;
}

/**
 * The longest input in tokens, special tokens included. RoBERTa's positions start behind the pad id, so it holds
 * `pad_token_id + 1` tokens fewer than its table has rows.
 */
export function maxTokens(config: ModelConfig): number {
  return config.modelType === "roberta" ? config.positions - (config.padTokenId + 1) : config.positions;
}

function parseGpt2(reader: ConfigReader): Gpt2Config {
  reader.require("add_cross_attention", false);
  const hiddenSize = reader.integer(["n_embd", "hidden_size"], 768);
  const heads = reader.integer(["n_head", "num_attention_heads"], 12);
  requireDivisible("n_head", heads, hiddenSize);
  return {
    modelType: "gpt2",
    ...common(reader, { vocabSize: 50257 }),
    hiddenSize,
    heads,
    layers: reader.integer(["n_layer", "num_hidden_layers"], 12, MAX_LAYERS),
    innerSize: reader.integer("n_inner", 4 * hiddenSize),
    positions: reader.integer(["n_positions", "max_position_embeddings"], 1024),
    activation: reader.oneOf("activation_function", ACTIVATIONS, "gelu_new"),
    layerNormEps: reader.positive("layer_norm_epsilon", 1e-5),
    scaleAttnWeights: reader.boolean("scale_attn_weights", true),
    scaleAttnByInverseLayerIdx: reader.boolean("scale_attn_by_inverse_layer_idx", false),
    bosTokenId: reader.tokenId("bos_token_id") ?? 50256,
    eosTokenIds: "eos_token_id" in reader.json ? reader.tokenIds("eos_token_id") : [50256],
    padTokenId: reader.tokenId("pad_token_id"),
  };
}

function parseBert(reader: ConfigReader): BertConfig {
  return {
    modelType: "bert",
    ...bertLike(reader),
    padTokenId: reader.tokenId("pad_token_id") ?? 0,
    bosTokenId: reader.tokenId("bos_token_id"),
    eosTokenIds: reader.tokenIds("eos_token_id"),
  };
}

function parseRoberta(reader: ConfigReader): RobertaConfig {
  const config: RobertaConfig = {
    modelType: "roberta",
    ...bertLike(reader),
    padTokenId: reader.tokenId("pad_token_id") ?? 1,
    bosTokenId: reader.tokenId("bos_token_id") ?? 0,
    eosTokenIds: "eos_token_id" in reader.json ? reader.tokenIds("eos_token_id") : [2],
  };
  if (maxTokens(config) < 1) {
    throw new ModelConfigError(
      "max_position_embeddings",
      config.positions,
      `more than pad_token_id + 1 = ${config.padTokenId + 1}`,
    );
  }
  return config;
}

/** The keys that BERT and RoBERTa share, with the same class defaults. */
function bertLike(reader: ConfigReader) {
  reader.require("position_embedding_type", "absolute");
  reader.require("is_decoder", false);
  reader.require("add_cross_attention", false);
  const hiddenSize = reader.integer("hidden_size", 768);
  const heads = reader.integer("num_attention_heads", 12);
  requireDivisible("num_attention_heads", heads, hiddenSize);
  return {
    ...common(reader, { vocabSize: 30522 }),
    hiddenSize,
    heads,
    layers: reader.integer("num_hidden_layers", 12, MAX_LAYERS),
    innerSize: reader.integer("intermediate_size", 3072),
    positions: reader.integer("max_position_embeddings", 512),
    typeVocabSize: reader.integer("type_vocab_size", 2),
    activation: reader.oneOf("hidden_act", ACTIVATIONS, "gelu"),
    layerNormEps: reader.positive("layer_norm_eps", 1e-12),
  };
}

function parseDistilBert(reader: ConfigReader): DistilBertConfig {
  const hiddenSize = reader.integer(["dim", "hidden_size"], 768);
  const heads = reader.integer(["n_heads", "num_attention_heads"], 12);
  requireDivisible("n_heads", heads, hiddenSize);
  return {
    modelType: "distilbert",
    ...common(reader, { vocabSize: 30522 }),
    hiddenSize,
    heads,
    layers: reader.integer(["n_layers", "num_hidden_layers"], 6, MAX_LAYERS),
    innerSize: reader.integer("hidden_dim", 3072),
    positions: reader.integer("max_position_embeddings", 512),
    activation: reader.oneOf("activation", ACTIVATIONS, "gelu"),
    layerNormEps: 1e-12, // fixed in DistilBERT's code, whatever the file says
    padTokenId: reader.tokenId("pad_token_id") ?? 0,
    bosTokenId: reader.tokenId("bos_token_id"),
    eosTokenIds: reader.tokenIds("eos_token_id"),
  };
}

function common(reader: ConfigReader, defaults: { vocabSize: number }) {
  return {
    vocabSize: reader.integer("vocab_size", defaults.vocabSize),
    initializerRange: reader.positive("initializer_range", 0.02),
    labels: parseLabels(reader),
    problemType: parseProblemType(reader),
    architectures: reader.strings("architectures"),
    json: reader.json,
  };
}

/** `id2label` with its string keys in numeric order; two labels LABEL_0 and LABEL_1 (or `num_labels` of them) when absent. */
function parseLabels(reader: ConfigReader): string[] {
  const map = reader.json.id2label ?? undefined;
  if (map === undefined) {
    return Array.from({ length: reader.integer("num_labels", 2, MAX_LABELS) }, (_, i) => `LABEL_${i}`);
  }
  const accepted = "an object of label names under the keys 0 to n - 1";
  if (typeof map !== "object" || Array.isArray(map)) throw new ModelConfigError("id2label", map, accepted);
  const entries = Object.entries(map as JsonObject).map(([id, label]) => [Number(id), label] as const);
  entries.sort(([a], [b]) => a - b);
  if (entries.length === 0 || entries.some(([id, label], i) => id !== i || typeof label !== "string")) {
    throw new ModelConfigError("id2label", map, accepted);
  }
  return entries.map(([, label]) => label as string);
}

function parseProblemType(reader: ConfigReader): ProblemType | undefined {
  if ((reader.json.problem_type ?? undefined) === undefined) return undefined;
  const types = ["regression", "single_label_classification", "multi_label_classification"] as const;
  return reader.oneOf("problem_type", types, "single_label_classification");
}

function requireDivisible(key: string, heads: number, hiddenSize: number): void {
  if (hiddenSize % heads !== 0)
    throw new ModelConfigError(key, heads, `a divisor of the hidden size ${hiddenSize}`);
}
