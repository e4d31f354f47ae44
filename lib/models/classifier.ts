/**
 * @file Sequence classifiers over an encoder: what the families put between the first token's state and the logits.
 * BERT: tanh pooler. RoBERTa: dense and tanh. DistilBERT: dense and relu. Then one linear layer, [B, labels].
 */
import { Graph, relu, type Tensor, tanh } from "../graph/index.js";
import type { EncoderConfig } from "./config.js";
import { dense, type EncoderInputs, encoderFirstRow, encoderInputs } from "./encoder.js";
import { classifierNames } from "./parameters.js";

/** Graph of a classifier. Output `logits` [B, labels]. */
export function classifierGraph(config: EncoderConfig): Graph {
  const graph = new Graph(`${config.modelType}-classifier`);
  graph.output("logits", classifierLogits(config, encoderInputs(graph, config)));
  return graph;
}

/** Logits of each row, [B, labels], for inference or to put a loss on. Dropout is not applied. */
export function classifierLogits(config: EncoderConfig, inputs: EncoderInputs): Tensor {
  const names = classifierNames(config);
  const first = encoderFirstRow(config, inputs); // [B, 1, H]
  const row = first.reshape([first.dim(0), config.hiddenSize]);
  const mapped = dense(names.dense, row, config.hiddenSize);
  const features = config.modelType === "distilbert" ? relu(mapped) : tanh(mapped);
  return dense(names.logits, features, config.labels.length);
}
