/**
 * @file Names, shapes and initialisation of every weight of a model, as Hugging Face checkpoints name them, with the
 * family prefix (`bert.`, `transformer.`). Dense weights are [out, in] everywhere but in GPT-2, where they are [in, out].
 */
import type { DistilBertConfig, EncoderConfig, Gpt2Config, ModelConfig } from "./config.js";
import { ModelConfigError } from "./errors.js";

/** What the model is for, which decides its head. */
export type ModelTask =
  | "causal-lm"
  | "causal-lm-with-value"
  | "sequence-classification"
  | "masked-lm"
  | "encoder";

/** How a weight starts when it is not loaded. */
export type Init =
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" }
  /** Normal with mean 0; the row `zeroRow` (the padding token's embedding) stays 0. */
  | { readonly kind: "normal"; readonly std: number; readonly zeroRow?: number }
  /** Uniform in [-bound, bound]. */
  | { readonly kind: "uniform"; readonly bound: number }
  /** Sines and cosines of positions, as DistilBERT's `sinusoidal_pos_embds` asks. */
  | { readonly kind: "sinusoidal" };

/** One weight. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly init: Init;
}

/** Name prefix of a family in checkpoints of task models. */
export const FAMILY_PREFIX = {
  gpt2: "transformer.",
  bert: "bert.",
  roberta: "roberta.",
  distilbert: "distilbert.",
} as const;

/** All weights of a model for a task, in the order of the computation. Throws ModelConfigError for a task the family lacks. */
export function parameterSpecs(config: ModelConfig, task: ModelTask): ParameterSpec[] {
  if (config.modelType === "gpt2") {
    if (task === "causal-lm") return gpt2Specs(config);
    if (task === "causal-lm-with-value") return [...gpt2Specs(config), ...valueHeadSpecs(config)];
    throw new ModelConfigError(
      "model_type",
      "gpt2",
      `an encoder family (bert, roberta, distilbert) for ${task}`,
    );
  }
  if (task === "encoder") return encoderSpecs(config);
  if (task === "sequence-classification") return [...encoderSpecs(config), ...classifierSpecs(config)];
  if (task === "masked-lm") return [...encoderSpecs(config), ...maskedLmSpecs(config)];
  throw new ModelConfigError("model_type", config.modelType, `"gpt2" for ${task}`);
}

/** Number of scalars in all of `specs`. */
export function parameterCount(specs: readonly ParameterSpec[]): number {
  return specs.reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), 0);
}

/** Names of one transformer block of an encoder, where the families differ only in words. */
export function encoderLayerNames(config: EncoderConfig, layer: number) {
  if (config.modelType === "distilbert") {
    const base = `distilbert.transformer.layer.${layer}`;
    return {
      query: `${base}.attention.q_lin`,
      key: `${base}.attention.k_lin`,
      value: `${base}.attention.v_lin`,
      attentionOutput: `${base}.attention.out_lin`,
      attentionNorm: `${base}.sa_layer_norm`,
      inner: `${base}.ffn.lin1`,
      output: `${base}.ffn.lin2`,
      outputNorm: `${base}.output_layer_norm`,
    };
  }
  const base = `${config.modelType}.encoder.layer.${layer}`;
  return {
    query: `${base}.attention.self.query`,
    key: `${base}.attention.self.key`,
    value: `${base}.attention.self.value`,
    attentionOutput: `${base}.attention.output.dense`,
    attentionNorm: `${base}.attention.output.LayerNorm`,
    inner: `${base}.intermediate.dense`,
    output: `${base}.output.dense`,
    outputNorm: `${base}.output.LayerNorm`,
  };
}

/** Names of a classifier's two dense layers: what maps the first hidden row on, and what gives the logits. */
export function classifierNames(config: EncoderConfig): { dense: string; logits: string } {
  switch (config.modelType) {
    case "bert":
      return { dense: "bert.pooler.dense", logits: "classifier" };
    case "roberta":
      return { dense: "classifier.dense", logits: "classifier.out_proj" };
    case "distilbert":
      return { dense: "pre_classifier", logits: "classifier" };
  }
}

/** Names of a masked language model's head: the dense layer, its LayerNorm, and the bias of the logits. */
export function maskedLmNames(config: EncoderConfig): { dense: string; norm: string; bias: string } {
  switch (config.modelType) {
    case "bert":
      return {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        bias: "cls.predictions.bias",
      };
    case "roberta":
      return { dense: "lm_head.dense", norm: "lm_head.layer_norm", bias: "lm_head.bias" };
    case "distilbert":
      return { dense: "vocab_transform", norm: "vocab_layer_norm", bias: "vocab_projector.bias" };
  }
}

/** Name of the weight [V, D] that gives a masked language model's logits: the word embedding, unless the config unties it. */
export function maskedLmOutputName(config: EncoderConfig): string {
  if (config.json.tie_word_embeddings !== false) {
    return `${FAMILY_PREFIX[config.modelType]}embeddings.word_embeddings.weight`;
  }
  return {
    bert: "cls.predictions.decoder.weight",
    roberta: "lm_head.decoder.weight",
    distilbert: "vocab_projector.weight",
  }[config.modelType];
}

function encoderSpecs(config: EncoderConfig): ParameterSpec[] {
  const { hiddenSize: d, innerSize, initializerRange: std } = config;
  const embeddings = `${FAMILY_PREFIX[config.modelType]}embeddings`;
  const specs: ParameterSpec[] = [
    embedding(`${embeddings}.word_embeddings.weight`, config.vocabSize, d, std, config.padTokenId),
    config.modelType === "distilbert" && usesSinusoids(config)
      ? {
          name: `${embeddings}.position_embeddings.weight`,
          shape: [config.positions, d],
          init: { kind: "sinusoidal" },
        }
      : embedding(
          `${embeddings}.position_embeddings.weight`,
          config.positions,
          d,
          std,
          config.modelType === "roberta" ? config.padTokenId : undefined,
        ),
  ];
  if (config.modelType !== "distilbert") {
    specs.push(embedding(`${embeddings}.token_type_embeddings.weight`, config.typeVocabSize, d, std));
  }
  specs.push(...norm(`${embeddings}.LayerNorm`, d));
  for (let layer = 0; layer < config.layers; layer++) {
    const names = encoderLayerNames(config, layer);
    specs.push(
      ...dense(names.query, d, d, std),
      ...dense(names.key, d, d, std),
      ...dense(names.value, d, d, std),
      ...dense(names.attentionOutput, d, d, std),
      ...norm(names.attentionNorm, d),
      ...dense(names.inner, innerSize, d, std),
      ...dense(names.output, d, innerSize, std),
      ...norm(names.outputNorm, d),
    );
  }
  return specs;
}

function classifierSpecs(config: EncoderConfig): ParameterSpec[] {
  const { hiddenSize: d, initializerRange: std, labels } = config;
  const names = classifierNames(config);
  return [...dense(names.dense, d, d, std), ...dense(names.logits, labels.length, d, std)];
}

function maskedLmSpecs(config: EncoderConfig): ParameterSpec[] {
  const { hiddenSize: d, vocabSize, initializerRange: std } = config;
  const names = maskedLmNames(config);
  const specs: ParameterSpec[] = [
    ...dense(names.dense, d, d, std),
    ...norm(names.norm, d),
    { name: names.bias, shape: [vocabSize], init: { kind: "zeros" } },
  ];
  if (config.json.tie_word_embeddings === false) {
    specs.push(embedding(maskedLmOutputName(config), vocabSize, d, std));
  }
  return specs;
}

function gpt2Specs(config: Gpt2Config): ParameterSpec[] {
  const { hiddenSize: d, innerSize, initializerRange: std, layers } = config;
  const projectionStd = std / Math.sqrt(2 * layers); // residual branches start smaller the deeper the model
  const specs: ParameterSpec[] = [
    embedding("transformer.wte.weight", config.vocabSize, d, std),
    embedding("transformer.wpe.weight", config.positions, d, std),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const base = `transformer.h.${layer}`;
    specs.push(
      ...norm(`${base}.ln_1`, d),
      ...conv1d(`${base}.attn.c_attn`, d, 3 * d, std),
      ...conv1d(`${base}.attn.c_proj`, d, d, projectionStd),
      ...norm(`${base}.ln_2`, d),
      ...conv1d(`${base}.mlp.c_fc`, d, innerSize, std),
      ...conv1d(`${base}.mlp.c_proj`, innerSize, d, projectionStd),
    );
  }
  specs.push(...norm("transformer.ln_f", d));
  // tied by default: the output layer is then the embedding itself
  if (config.json.tie_word_embeddings === false) {
    specs.push(embedding("lm_head.weight", config.vocabSize, d, std));
  }
  return specs;
}

/** TRL's value head: one linear output, started as PyTorch starts a Linear of width D. */
function valueHeadSpecs({ hiddenSize: d }: Gpt2Config): ParameterSpec[] {
  const init: Init = { kind: "uniform", bound: 1 / Math.sqrt(d) };
  return [
    { name: "v_head.summary.weight", shape: [1, d], init },
    { name: "v_head.summary.bias", shape: [1], init },
  ];
}

function embedding(name: string, rows: number, width: number, std: number, zeroRow?: number): ParameterSpec {
  return { name, shape: [rows, width], init: { kind: "normal", std, zeroRow } };
}

/** A Linear: weight [out, in]. */
function dense(name: string, out: number, inputs: number, std: number): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [out, inputs], init: { kind: "normal", std } },
    { name: `${name}.bias`, shape: [out], init: { kind: "zeros" } },
  ];
}

/** GPT-2's Conv1D: weight [in, out]. */
function conv1d(name: string, inputs: number, out: number, std: number): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [inputs, out], init: { kind: "normal", std } },
    { name: `${name}.bias`, shape: [out], init: { kind: "zeros" } },
  ];
}

function norm(name: string, width: number): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [width], init: { kind: "ones" } },
    { name: `${name}.bias`, shape: [width], init: { kind: "zeros" } },
  ];
}

function usesSinusoids(config: DistilBertConfig): boolean {
  return config.json.sinusoidal_pos_embds === true;
}
