/**
 * @file The bidirectional transformer encoder (BERT arXiv:1810.04805, RoBERTa arXiv:1907.11692, DistilBERT
 * arXiv:1910.01108), written once for all three: the families differ in names, positions and token types only.
 * In: ids and positions [B, T]. Out: the hidden state after any number of layers, [B, T, H].
 * The same functions serve for inference and under `gradients`. B rows, T tokens, H width, A heads, d = H / A.
 */
import {
  add,
  Graph,
  gather,
  layerNorm,
  linear,
  matmul,
  slice,
  softmax,
  type Tensor,
} from "../graph/index.js";
import { activation } from "./activations.js";
import type { EncoderConfig } from "./config.js";
import { encoderLayerNames, FAMILY_PREFIX } from "./parameters.js";

/** What an encoder reads; `encoderFeeds` makes the arrays. */
export interface EncoderInputs {
  /** [B, T] int64. */
  readonly inputIds: Tensor;
  /** [B, T] int64, as the family counts positions. */
  readonly positionIds: Tensor;
  /** [B, T] int64, segments; only for BERT. */
  readonly tokenTypeIds?: Tensor;
  /** [B, 1, 1, T] added to attention scores: 0 on tokens, the lowest float32 on padding. Leave out where nothing is padded. */
  readonly attentionBias?: Tensor;
}

/** Declares an encoder's inputs under the names that `encoderFeeds` uses. */
export function encoderInputs(graph: Graph, config: EncoderConfig): EncoderInputs {
  const ids = (name: string) => graph.input(name, "int64", ["batch", "time"]);
  return {
    inputIds: ids("input_ids"),
    positionIds: ids("position_ids"),
    tokenTypeIds: config.modelType === "bert" ? ids("token_type_ids") : undefined,
    attentionBias: graph.input("attention_bias", "float32", ["batch", 1, 1, "time"]),
  };
}

/** Graph of an encoder. Outputs `hidden.{L}` [B, T, H] for each of `layers`: the state after L blocks, 0 the embedding. */
export function encoderGraph(config: EncoderConfig, layers: readonly number[]): Graph {
  const graph = new Graph(`${config.modelType}-encoder`);
  const states = encoderStates(config, encoderInputs(graph, config), Math.max(...layers));
  for (const layer of layers) graph.output(`hidden.${layer}`, states[layer]);
  return graph;
}

/** Hidden states after 0 … `layers` blocks, each [B, T, H]. */
export function encoderStates(
  config: EncoderConfig,
  inputs: EncoderInputs,
  layers = config.layers,
): Tensor[] {
  if (!Number.isInteger(layers) || layers < 0 || layers > config.layers) {
    throw new RangeError(`layer: expected 0 to ${config.layers}, got ${layers}`);
  }
  const states = [embeddings(config, inputs)];
  for (let layer = 0; layer < layers; layer++) {
    const x = states[layer];
    states.push(block(config, layer, x, x, inputs.attentionBias));
  }
  return states;
}

/** The last layer's state of the first token only, [B, 1, H]: all that a classifier reads, so no other row is computed. */
export function encoderFirstRow(config: EncoderConfig, inputs: EncoderInputs): Tensor {
  const last = config.layers - 1;
  const x = encoderStates(config, inputs, last)[last];
  return block(config, last, slice(x, 1, { start: 0, end: 1 }), x, inputs.attentionBias);
}

/** word + position (+ token type), then LayerNorm. */
function embeddings(config: EncoderConfig, { inputIds, positionIds, tokenTypeIds }: EncoderInputs): Tensor {
  const base = `${FAMILY_PREFIX[config.modelType]}embeddings`;
  const table = (name: string, rows: number) =>
    inputIds.graph.parameter(`${base}.${name}.weight`, [rows, config.hiddenSize]);
  let x = add(
    gather(table("word_embeddings", config.vocabSize), inputIds),
    gather(table("position_embeddings", config.positions), positionIds),
  );
  if (config.modelType !== "distilbert") {
    const types = table("token_type_embeddings", config.typeVocabSize);
    // RoBERTa's tokenizer gives no types, but its model still adds row 0 to every token
    x = add(x, tokenTypeIds ? gather(types, tokenTypeIds) : slice(types, 0, { start: 0, end: 1 }));
  }
  return norm(config, `${base}.LayerNorm`, x);
}

/** One block. `query` [B, Q, H] are the rows to compute, `x` [B, T, H] the rows they attend to. */
function block(
  config: EncoderConfig,
  layer: number,
  query: Tensor,
  x: Tensor,
  bias: Tensor | undefined,
): Tensor {
  const names = encoderLayerNames(config, layer);
  const { hiddenSize: h, innerSize } = config;
  const context = attention(
    config,
    dense(names.query, query, h),
    dense(names.key, x, h),
    dense(names.value, x, h),
    bias,
  );
  const y = norm(config, names.attentionNorm, add(dense(names.attentionOutput, context, h), query));
  const inner = activation(config.activation, dense(names.inner, y, innerSize));
  return norm(config, names.outputNorm, add(dense(names.output, inner, h), y));
}

/** softmax(q·kᵀ / √d + bias)·v in each head; q [B, Q, H], k and v [B, T, H] → [B, Q, H]. */
function attention(config: EncoderConfig, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | undefined): Tensor {
  const d = config.hiddenSize / config.heads;
  const heads = (x: Tensor) => x.reshape([x.dim(0), x.dim(1), config.heads, d]).transpose([0, 2, 1, 3]); // [B, A, T, d]
  const scores = matmul(heads(q), heads(k), { transB: true, alpha: 1 / Math.sqrt(d) }); // [B, A, Q, T]
  const weights = softmax(bias ? add(scores, bias) : scores);
  const context = matmul(weights, heads(v)).transpose([0, 2, 1, 3]); // [B, Q, A, d]
  return context.reshape([q.dim(0), q.dim(1), config.hiddenSize]);
}

/** x·Wᵀ + b with W [out, in] under `name`.weight. */
export function dense(name: string, x: Tensor, out: number): Tensor {
  const weight = x.graph.parameter(`${name}.weight`, [out, Number(x.dim(-1))]);
  return linear(x, weight, x.graph.parameter(`${name}.bias`, [out]), { transB: true });
}

function norm(config: EncoderConfig, name: string, x: Tensor): Tensor {
  const weight = x.graph.parameter(`${name}.weight`, [config.hiddenSize]);
  const bias = x.graph.parameter(`${name}.bias`, [config.hiddenSize]);
  return layerNorm(x, weight, bias, { eps: config.layerNormEps });
}
