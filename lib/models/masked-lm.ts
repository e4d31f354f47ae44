/**
 * @file Masked language models over an encoder (BERT arXiv:1810.04805 §3.1): what the families put between a token's hidden state
 * and the logits over the vocabulary. One dense layer with the activation, LayerNorm, then the word embedding itself (unless the
 * config unties it) with a bias of its own. In: hidden rows [..., D]. Out: logits [..., V].
 */
import { gelu, layerNorm, linear, type Tensor } from "../graph/index.js";
import { activation } from "./activations.js";
import type { EncoderConfig } from "./config.js";
import { dense, type EncoderInputs, encoderStates } from "./encoder.js";
import { maskedLmNames, maskedLmOutputName } from "./parameters.js";

/** The hidden state that the head reads, [B, T, D]: that of the last layer. */
export function maskedLmHidden(config: EncoderConfig, inputs: EncoderInputs): Tensor {
  return encoderStates(config, inputs)[config.layers];
}

/** Logits over the vocabulary of hidden rows [..., D]; rows may be gathered before, so that only those asked for are computed. */
export function maskedLmLogits(config: EncoderConfig, hidden: Tensor): Tensor {
  const names = maskedLmNames(config);
  const { graph } = hidden;
  const { hiddenSize, vocabSize, layerNormEps } = config;
  const mapped = dense(names.dense, hidden, hiddenSize);
  // RoBERTa's head is gelu whatever the config's activation is
  const active = config.modelType === "roberta" ? gelu(mapped) : activation(config.activation, mapped);
  const weight = graph.parameter(`${names.norm}.weight`, [hiddenSize]);
  const bias = graph.parameter(`${names.norm}.bias`, [hiddenSize]);
  const features = layerNorm(active, weight, bias, { eps: layerNormEps });
  const output = graph.parameter(maskedLmOutputName(config), [vocabSize, hiddenSize]);
  return linear(features, output, graph.parameter(names.bias, [vocabSize]), { transB: true });
}
