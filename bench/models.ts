/**
 * @file Models of real size with random weights, as Hugging Face directories: speed does not depend on what a model has learned,
 * so nothing is downloaded. Made once, kept in the benchmark folder.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { loadCheckpoint, saveCheckpoint } from "../lib/checkpoint/index.js";
import {
  type Gpt2Config,
  initParameters,
  type ModelTask,
  parameterSpecs,
  parseModelConfig,
} from "../lib/models/index.js";
import type { BenchOptions } from "./bench.js";
import { type Family, tokenizerFiles } from "./words.js";

/** The models of the suite. */
export type ModelName = "gpt2" | "classifier" | "classifier-1-layer" | "roberta-base" | "roberta-large";

interface Recipe {
  readonly family: Family;
  readonly task: ModelTask;
  readonly full: Readonly<Record<string, unknown>>;
  readonly quick: Readonly<Record<string, unknown>>;
}

const SEED = 1;

const gpt2 = {
  model_type: "gpt2",
  architectures: ["GPT2LMHeadModel"],
  activation_function: "gelu_new",
  layer_norm_epsilon: 1e-5,
  initializer_range: 0.02,
  tie_word_embeddings: true,
};

const bert = {
  model_type: "bert",
  architectures: ["BertForSequenceClassification"],
  hidden_act: "gelu",
  layer_norm_eps: 1e-12,
  initializer_range: 0.02,
  max_position_embeddings: 512,
  type_vocab_size: 2,
  pad_token_id: 0,
  id2label: { 0: "LABEL_0", 1: "LABEL_1" },
  label2id: { LABEL_0: 0, LABEL_1: 1 },
};

const roberta = {
  model_type: "roberta",
  architectures: ["RobertaModel"],
  hidden_act: "gelu",
  layer_norm_eps: 1e-5,
  initializer_range: 0.02,
  max_position_embeddings: 514,
  type_vocab_size: 1,
  bos_token_id: 0,
  pad_token_id: 1,
  eos_token_id: 2,
};

const sizes = (layers: number, width: number, heads: number, vocab: number) => ({
  num_hidden_layers: layers,
  hidden_size: width,
  num_attention_heads: heads,
  intermediate_size: 4 * width,
  vocab_size: vocab,
});

const gpt2Sizes = (n_layer: number, n_embd: number, n_head: number, vocab_size: number) => ({
  n_layer,
  n_embd,
  n_head,
  vocab_size,
  n_positions: 1024,
  bos_token_id: vocab_size - 1,
  eos_token_id: vocab_size - 1,
});

const RECIPES: Record<ModelName, Recipe> = {
  gpt2: {
    family: "gpt2",
    task: "causal-lm",
    full: { ...gpt2, ...gpt2Sizes(12, 768, 12, 50_257) },
    quick: { ...gpt2, ...gpt2Sizes(2, 32, 4, 600) },
  },
  classifier: {
    family: "bert",
    task: "sequence-classification",
    full: { ...bert, ...sizes(12, 768, 12, 30_522) },
    quick: { ...bert, ...sizes(2, 32, 4, 600) },
  },
  "classifier-1-layer": {
    family: "bert",
    task: "sequence-classification",
    full: { ...bert, ...sizes(1, 128, 2, 30_522) },
    quick: { ...bert, ...sizes(1, 32, 4, 600) },
  },
  "roberta-base": {
    family: "roberta",
    task: "encoder",
    full: { ...roberta, ...sizes(12, 768, 12, 50_265) },
    quick: { ...roberta, ...sizes(2, 32, 4, 600) },
  },
  "roberta-large": {
    family: "roberta",
    task: "encoder",
    full: { ...roberta, ...sizes(24, 1024, 16, 50_265) },
    quick: { ...roberta, ...sizes(3, 32, 4, 600) },
  },
};

/** The config.json of a model of the suite. */
export function modelJson(
  name: ModelName,
  { quick }: Pick<BenchOptions, "quick">,
): Readonly<Record<string, unknown>> {
  return quick ? RECIPES[name].quick : RECIPES[name].full;
}

/** Where a model lies; the name changes with its recipe, so that an old one is never taken for it. */
export function modelDirectory(name: ModelName, options: Pick<BenchOptions, "quick" | "folder">): string {
  const recipe = JSON.stringify([modelJson(name, options), SEED]);
  const digest = createHash("sha256").update(recipe).digest("hex").slice(0, 8);
  return join(options.folder, "models", `${name}${options.quick ? "-quick" : ""}-${digest}`);
}

/** Makes sure that a model is there. `say` hears of one that has to be made first. */
export async function prepareModel(
  name: ModelName,
  options: Pick<BenchOptions, "quick" | "folder">,
  say: (text: string) => void,
): Promise<string> {
  const directory = modelDirectory(name, options);
  if (existsSync(join(directory, "config.json"))) return directory; // written as a whole or not at all
  say(`making ${name} with random weights`);
  await mkdir(join(options.folder, "models"), { recursive: true });
  const { family, task } = RECIPES[name];
  const json = modelJson(name, options);
  const config = parseModelConfig(json);
  const specs = parameterSpecs(config, task);
  const values = initParameters(specs, SEED);
  const tensors = new Map(
    specs.map(({ name, shape }) => [name, { shape: [...shape], data: values.get(name)! }]),
  );
  const files = tokenizerFiles(family, config.vocabSize);
  await saveCheckpoint(directory, { config: json as never, tensors, files: { ...files } });
  return directory;
}

/** The suite's GPT-2 with a value head: config, and weights by name. */
export async function loadGpt2(
  directory: string,
): Promise<{ config: Gpt2Config; weights: Map<string, Float32Array> }> {
  const checkpoint = await loadCheckpoint(directory, (json) =>
    parameterSpecs(parseModelConfig(json), "causal-lm"),
  );
  const config = parseModelConfig(checkpoint.config) as Gpt2Config;
  const head = parameterSpecs(config, "causal-lm-with-value").filter(
    ({ name }) => !checkpoint.tensors.has(name),
  );
  return { config, weights: new Map([...checkpoint.tensors, ...initParameters(head, SEED)]) };
}
