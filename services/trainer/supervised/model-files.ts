/**
 * @file The model that a supervised run starts from: a directory, or new weights of a given size with a tokenizer that is
 * loaded or trained on the run's own texts.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type JsonObject, loadCheckpoint, TOKENIZER_FILES } from "../../../lib/checkpoint/index.js";
import {
  initParameters,
  type ModelConfig,
  type ModelTask,
  parameterSpecs,
  parseModelConfig,
} from "../../../lib/models/index.js";
import {
  loadTokenizer,
  type Tokenizer,
  type TokenizerFiles,
  tokenizerFromFiles,
  trainBpe,
  trainWordPiece,
} from "../../../lib/tokenizer/index.js";
import type { EncoderRunConfig, SftRunConfig } from "../run-config.js";

/** A model about to be trained, and what it takes to save it. */
export interface StartingModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly weights: Map<string, Float32Array>;
  /** Shape of each weight. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly weightVersion: number;
  /** config.json. */
  readonly json: JsonObject;
  readonly generationConfig: JsonObject | undefined;
  /** The tokenizer's files by name. */
  readonly files: Readonly<Record<string, string | object>>;
}

type Init = NonNullable<SftRunConfig["init"]>;
type EncoderInit = NonNullable<EncoderRunConfig["init"]>;

/** Names of what a directory's model may lack: the head of another task, and what it is made of. */
const HEADS = [
  ...["v_head.", "classifier.", "pre_classifier.", "bert.pooler.", "score."],
  ...["cls.predictions.", "lm_head.dense.", "lm_head.layer_norm.", "lm_head.bias", "lm_head.decoder."],
  ...["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
];

/** How transformers calls an encoder with a head. */
const ARCHITECTURES = {
  "sequence-classification": "ForSequenceClassification",
  "masked-lm": "ForMaskedLM",
} as const;
const FAMILY_CLASS = { bert: "Bert", roberta: "Roberta", distilbert: "DistilBert" } as const;

/** A directory's model for `task`; weights that it lacks (a head) start at random. */
export async function loadModel(folder: string, task: ModelTask, seed: number): Promise<StartingModel> {
  const checkpoint = await loadCheckpoint(folder, (json) => parameterSpecs(parseModelConfig(json), task), {
    optional: HEADS,
  });
  const config = parseModelConfig(checkpoint.config);
  const missing = parameterSpecs(config, task).filter(({ name }) => !checkpoint.tensors.has(name));
  return {
    config,
    tokenizer: await loadTokenizer(folder),
    weights: new Map([...checkpoint.tensors, ...initParameters(missing, seed)]),
    shapes: shapesOf(config, task),
    weightVersion: checkpoint.weightVersion,
    json: namingHead(checkpoint.config, config, task),
    generationConfig: checkpoint.generationConfig,
    files: await tokenizerFiles(folder),
  };
}

/** A new GPT-2. `texts` train its tokenizer where none is named. */
export async function newGpt2(
  init: Init,
  texts: () => readonly string[],
  seed: number,
): Promise<StartingModel> {
  const { tokenizer, files } = await tokenizerOf(init, (vocabSize) =>
    trainBpe(texts(), { vocabSize, modelMaxLength: init.positions }),
  );
  const { eos, bos, pad } = tokenizer.specialIds;
  const json = {
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    activation_function: "gelu_new",
    n_embd: init.width,
    n_layer: init.layers,
    n_head: init.heads,
    n_positions: init.positions,
    vocab_size: tokenizer.vocabSize,
    initializer_range: 0.02,
    layer_norm_epsilon: 1e-5,
    tie_word_embeddings: true,
    bos_token_id: bos ?? null,
    eos_token_id: eos ?? null,
    pad_token_id: pad ?? null,
  };
  const generationConfig = {
    bos_token_id: bos ?? null,
    eos_token_id: eos ?? null,
    pad_token_id: pad ?? null,
  };
  return start(json, "causal-lm", tokenizer, files, seed, generationConfig);
}

/** A new classifier with `labels` labels. */
export async function newClassifier(
  init: EncoderInit,
  labels: readonly string[],
  texts: () => readonly string[],
  seed: number,
): Promise<StartingModel> {
  const { tokenizer, files } = await wordPieceOf(init, texts);
  const json = {
    ...encoderJson(init, tokenizer),
    problem_type: "single_label_classification",
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
  return start(json, "sequence-classification", tokenizer, files, seed);
}

/** A new encoder under a masked language model's head. */
export async function newEncoder(
  init: EncoderInit,
  texts: () => readonly string[],
  seed: number,
): Promise<StartingModel> {
  const { tokenizer, files } = await wordPieceOf(init, texts);
  return start(encoderJson(init, tokenizer), "masked-lm", tokenizer, files, seed);
}

/** config.json of a new encoder, before its head is named. */
function encoderJson(init: EncoderInit, tokenizer: Tokenizer): JsonObject {
  const shared = {
    vocab_size: tokenizer.vocabSize,
    max_position_embeddings: init.positions,
    initializer_range: 0.02,
    pad_token_id: tokenizer.specialIds.pad ?? 0,
    tie_word_embeddings: true,
  };
  return init.family === "bert"
    ? {
        model_type: "bert",
        hidden_size: init.width,
        num_hidden_layers: init.layers,
        num_attention_heads: init.heads,
        intermediate_size: 4 * init.width,
        hidden_act: "gelu",
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        ...shared,
      }
    : {
        model_type: "distilbert",
        dim: init.width,
        n_layers: init.layers,
        n_heads: init.heads,
        hidden_dim: 4 * init.width,
        activation: "gelu",
        ...shared,
      };
}

function wordPieceOf(init: EncoderInit, texts: () => readonly string[]) {
  return tokenizerOf(init, (vocabSize) =>
    trainWordPiece(texts(), { vocabSize, modelMaxLength: init.positions }),
  );
}

/** A configuration that names the head of `task`, for encoders; others stay as they are. */
function namingHead(json: JsonObject, { modelType }: ModelConfig, task: ModelTask): JsonObject {
  if (modelType === "gpt2" || (task !== "masked-lm" && task !== "sequence-classification")) return json;
  return { ...json, architectures: [`${FAMILY_CLASS[modelType]}${ARCHITECTURES[task]}`] };
}

function start(
  json: JsonObject,
  task: ModelTask,
  tokenizer: Tokenizer,
  files: StartingModel["files"],
  seed: number,
  generationConfig?: JsonObject,
): StartingModel {
  const config = parseModelConfig(json);
  const weights = initParameters(parameterSpecs(config, task), seed);
  return {
    config,
    tokenizer,
    weights,
    shapes: shapesOf(config, task),
    weightVersion: 0,
    json: namingHead(json, config, task),
    generationConfig,
    files,
  };
}

async function tokenizerOf(
  { tokenizer }: Pick<Init, "tokenizer">,
  train: (vocabSize: number) => TokenizerFiles,
): Promise<{ tokenizer: Tokenizer; files: StartingModel["files"] }> {
  if (typeof tokenizer === "string") {
    return { tokenizer: await loadTokenizer(tokenizer), files: await tokenizerFiles(tokenizer) };
  }
  const files = train(tokenizer.vocabSize);
  return { tokenizer: tokenizerFromFiles(files), files: { ...files } as Record<string, object> };
}

/** The tokenizer's files of a model directory, by name. */
export async function tokenizerFiles(folder: string): Promise<Record<string, string>> {
  const entries = await Promise.all(
    TOKENIZER_FILES.map(async (name) => {
      const text = await readFile(join(folder, name), "utf8").catch(() => undefined);
      return text === undefined ? [] : ([[name, text]] as const);
    }),
  );
  return Object.fromEntries(entries.flat());
}

function shapesOf(config: ModelConfig, task: ModelTask): Map<string, readonly number[]> {
  return new Map(parameterSpecs(config, task).map(({ name, shape }) => [name, shape]));
}
