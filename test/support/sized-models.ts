/**
 * @file Models of a chosen size with random weights, for tests in which a step must take a while: what a model has learned does not matter
 * there. Made once each, removed when the test process ends.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tokenizerFiles } from "../../bench/words.js";
import { saveCheckpoint } from "../../lib/checkpoint/index.js";
import { initParameters, parameterSpecs, parseModelConfig } from "../../lib/models/index.js";

/** Size of a model. */
export interface ModelSize {
  readonly layers: number;
  readonly width: number;
}

const HEADS = 4;
const VOCABULARY = 1000;
const POSITIONS = 256;
const SEED = 1;

const made = new Map<string, Promise<string>>();
let folder: string | undefined;

/** Directory of a GPT-2. */
export function sizedPolicy(size: ModelSize): Promise<string> {
  return modelOf("gpt2", size);
}

/** Directory of a BERT with a classifier of two labels. */
export function sizedClassifier(size: ModelSize): Promise<string> {
  return modelOf("bert", size);
}

function modelOf(family: "gpt2" | "bert", size: ModelSize): Promise<string> {
  const name = `${family}-${size.layers}x${size.width}`;
  const known = made.get(name) ?? make(name, family, size);
  made.set(name, known);
  return known;
}

async function make(name: string, family: "gpt2" | "bert", size: ModelSize): Promise<string> {
  if (folder === undefined) {
    const created = mkdtempSync(join(tmpdir(), "rlhf-sized-"));
    process.once("exit", () => rmSync(created, { recursive: true, force: true }));
    folder = created;
  }
  const json = family === "gpt2" ? gpt2Config(size) : bertConfig(size);
  const specs = parameterSpecs(
    parseModelConfig(json),
    family === "gpt2" ? "causal-lm" : "sequence-classification",
  );
  const values = initParameters(specs, SEED);
  const tensors = new Map(
    specs.map(({ name, shape }) => [name, { shape: [...shape], data: values.get(name) as Float32Array }]),
  );
  const directory = join(folder, name);
  const files = { ...tokenizerFiles(family, VOCABULARY) };
  await saveCheckpoint(directory, { config: json as never, tensors, files });
  return directory;
}

function gpt2Config({ layers, width }: ModelSize) {
  return {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
    initializer_range: 0.1,
    tie_word_embeddings: true,
    n_layer: layers,
    n_embd: width,
    n_head: HEADS,
    vocab_size: VOCABULARY,
    n_positions: POSITIONS,
    bos_token_id: VOCABULARY - 1,
    eos_token_id: VOCABULARY - 1,
  };
}

function bertConfig({ layers, width }: ModelSize) {
  return {
    model_type: "bert",
    architectures: ["BertForSequenceClassification"],
    hidden_act: "gelu",
    layer_norm_eps: 1e-12,
    initializer_range: 0.1,
    num_hidden_layers: layers,
    hidden_size: width,
    num_attention_heads: HEADS,
    intermediate_size: 4 * width,
    vocab_size: VOCABULARY,
    max_position_embeddings: 512,
    type_vocab_size: 2,
    pad_token_id: 0,
    id2label: { 0: "LABEL_0", 1: "LABEL_1" },
    label2id: { LABEL_0: 0, LABEL_1: 1 },
  };
}
