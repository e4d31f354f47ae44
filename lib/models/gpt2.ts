/**
 * @file GPT-2 (openai/gpt-2 src/model.py; transformers models/gpt2/modeling_gpt2.py): the decoder, its tied output
 * layer and TRL's value head, written once. In: token ids [B, T]. Out: hidden states [B, T, D], logits [..., V], values.
 * The same block serves training, scoring and generation; only where keys and values come from differs.
 * B rows, T tokens, D width, A heads, d = D / A, V vocabulary. Weights are [in, out]. Dropout is not applied.
 */
import {
  type Dim,
  type Graph,
  gather,
  layerNorm,
  linear,
  matmul,
  range,
  type Tensor,
} from "../graph/index.js";
import { activation } from "./activations.js";
import type { Gpt2Config } from "./config.js";

/** What the decoder reads. */
export interface Gpt2Inputs {
  /** [B, T] int64; of packed rows [N]. */
  readonly inputIds: Tensor;
  /** As `inputIds`; default 0, 1, 2, … in every row. Rows padded on the left need them, and so do packed ones. */
  readonly positionIds?: Tensor;
  /** Where rows are fed without padding; hidden states are [N, D] then. */
  readonly packed?: PackedRows;
  /**
   * [B, 1, 1, T] float32 added to attention scores: 0 on tokens, the lowest float32 on padding. Leave out where rows
   * are padded on the right only: there causality already hides padding from every token.
   */
  readonly attentionBias?: Tensor;
  /**
   * How the blocks' matrices lie: `in-out` as in checkpoints (default); `out-in` as transposed copies, which are parameters named by
   * `gpt2TransposedName`. A product of few rows reads each weight once for little work, and along the rows of [out, in] it reads
   * memory in order: 32 rows of GPT-2 small take 0.74 of the time, 8 rows 0.64.
   */
  readonly matrices?: Gpt2Matrices;
}

/**
 * Rows of different lengths one after another, N tokens in all: nothing is computed for padding except in attention, whose share of the work
 * is small for rows of hundreds of tokens.
 */
export interface PackedRows {
  /** [B, T] int64: the token (0 … N − 1) at each place of each row; where a row has ended, any token. */
  readonly tokens: Tensor;
  /** [N] int64: row · T + position of each token. */
  readonly places: Tensor;
}

/** Inputs of a graph over packed rows: `input_ids`, `position_ids`, `token_places` [N], `row_tokens` [B, T], all int64. */
export function packedInputs(graph: Graph): Gpt2Inputs {
  return {
    inputIds: graph.input("input_ids", "int64", ["inputs"]),
    positionIds: graph.input("position_ids", "int64", ["inputs"]),
    packed: {
      tokens: graph.input("row_tokens", "int64", ["batch", "time"]),
      places: graph.input("token_places", "int64", ["inputs"]),
    },
  };
}

/** How a block's four matrices lie. */
export type Gpt2Matrices = "in-out" | "out-in";

/** Name of the transposed copy of a block's matrix, a parameter of graphs whose `matrices` are `out-in`. */
export function gpt2TransposedName(name: string): string {
  return `${name}.T`;
}

/** Attention of one block: queries, keys and values side by side, [B, T, 3·D] → [B, T, D]. */
export type Gpt2Attention = (qkv: Tensor, layer: number) => Tensor;

/** Added to the score of a key that a query must not see; −∞ would give NaN in a row that sees nothing. */
const LOWEST = -3.4028234663852886e38;

/** The last hidden state, after the final LayerNorm: [B, T, D], of packed rows [N, D]. */
export function gpt2Hidden(config: Gpt2Config, inputs: Gpt2Inputs): Tensor {
  return gpt2States(config, inputs)[config.layers];
}

/**
 * Hidden states as transformers exposes them, each [B, T, D]: entry 0 the embedding, entry i the output of block i,
 * except that the last one is after the final LayerNorm.
 */
export function gpt2States(config: Gpt2Config, inputs: Gpt2Inputs): Tensor[] {
  const { inputIds, packed } = inputs;
  const bias = causalBias(inputIds.graph, (packed?.tokens ?? inputIds).dim(1), inputs.attentionBias);
  const attention: Gpt2Attention = (qkv, layer) => denseAttention(config, qkv, layer, bias);
  return gpt2Layers(config, inputs, packed ? inRows(packed, attention) : attention);
}

/**
 * Attention over packed rows: the only place where the tokens of a row meet, hence the only one where rows are laid out. What stands behind a
 * row's end is hidden from its tokens by causality, and what comes out there is dropped.
 */
function inRows(packed: PackedRows, attention: Gpt2Attention): Gpt2Attention {
  return (qkv, layer) => {
    const rows = attention(gather(qkv, packed.tokens), layer); // [B, T, D]
    return gather(rows.reshape([-1, rows.dim(-1)]), packed.places);
  };
}

/** As `gpt2States`, with the caller's attention. */
export function gpt2Layers(config: Gpt2Config, inputs: Gpt2Inputs, attention: Gpt2Attention): Tensor[] {
  const states = [embeddings(config, inputs)];
  for (let layer = 0; layer < config.layers; layer++) {
    states.push(block(config, layer, states[layer], attention, inputs.matrices ?? "in-out"));
  }
  states[config.layers] = norm(config, "transformer.ln_f", states[config.layers]);
  return states;
}

/** Logits of the next token: hidden [..., D] → [..., V], by the embedding itself unless the config unties them. */
export function gpt2Logits(config: Gpt2Config, hidden: Tensor): Tensor {
  const name = gpt2OutputName(config);
  const weight = hidden.graph.parameter(name, [config.vocabSize, config.hiddenSize]);
  return matmul(hidden, weight, { transB: true });
}

/** Name of the output layer's weight [V, D]. */
export function gpt2OutputName(config: Gpt2Config): string {
  return config.json.tie_word_embeddings === false ? "lm_head.weight" : "transformer.wte.weight";
}

/** TRL's value head, one linear output: hidden [..., D] → [...]. Dropout is not applied. */
export function valueHead(config: Gpt2Config, hidden: Tensor): Tensor {
  const weight = hidden.graph.parameter("v_head.summary.weight", [1, config.hiddenSize]);
  const bias = hidden.graph.parameter("v_head.summary.bias", [1]);
  return linear(hidden, weight, bias, { transB: true }).squeeze(-1);
}

/** Factor on query · key in one block. */
export function attentionScale(config: Gpt2Config, layer: number): number {
  const scale = config.scaleAttnWeights ? 1 / Math.sqrt(config.hiddenSize / config.heads) : 1;
  return config.scaleAttnByInverseLayerIdx ? scale / (layer + 1) : scale;
}

/** [B, T, D] → [B, A, T, d]: head h owns columns h·d to h·d + d − 1. */
export function splitHeads(config: Gpt2Config, x: Tensor): Tensor {
  const d = config.hiddenSize / config.heads;
  return x.reshape([x.dim(0), x.dim(1), config.heads, d]).transpose([0, 2, 1, 3]);
}

/** [B, A, T, d] → [B, T, D]. */
export function mergeHeads(config: Gpt2Config, x: Tensor): Tensor {
  return x.transpose([0, 2, 1, 3]).reshape([x.dim(0), x.dim(2), config.hiddenSize]);
}

/** softmax(q·kᵀ·scale + bias)·v in each head; bias broadcasts to [B, A, T, K]. */
export function attend(config: Gpt2Config, layer: number, qkv: readonly Tensor[], bias: Tensor): Tensor {
  const [q, k, v] = qkv; // [B, A, T, d], [B, A, K, d] twice
  const scores = matmul(q, k, { transB: true, alpha: attentionScale(config, layer) });
  return mergeHeads(config, matmul(scores.add(bias).softmax(-1), v));
}

function denseAttention(config: Gpt2Config, qkv: Tensor, layer: number, bias: Tensor): Tensor {
  const heads = qkv.split(-1, 3).map((x) => splitHeads(config, x));
  return attend(config, layer, heads, bias);
}

/** 0 where key ≤ query, else the lowest float32: [T, T], or [B, 1, T, T] together with a padding bias. */
function causalBias(graph: Graph, time: Dim, padding: Tensor | undefined): Tensor {
  const positions = range(graph, time);
  const seen = positions.unsqueeze(0).lessOrEqual(positions.unsqueeze(1)); // [query, key]
  const causal = seen.where(graph.constant(0), LOWEST);
  return padding ? causal.add(padding) : causal;
}

/** Token and position embeddings. */
function embeddings(config: Gpt2Config, { inputIds, positionIds }: Gpt2Inputs): Tensor {
  const { graph } = inputIds;
  const tokens = graph.parameter("transformer.wte.weight", [config.vocabSize, config.hiddenSize]);
  const positions = graph.parameter("transformer.wpe.weight", [config.positions, config.hiddenSize]);
  const at = positionIds ?? range(graph, inputIds.dim(1));
  return gather(tokens, inputIds).add(gather(positions, at));
}

/** One pre-LayerNorm block. */
function block(
  config: Gpt2Config,
  layer: number,
  x: Tensor,
  attention: Gpt2Attention,
  matrices: Gpt2Matrices,
): Tensor {
  const { hiddenSize, innerSize } = config;
  const base = `transformer.h.${layer}`;
  const dense = (name: string, input: Tensor, out: number) => conv1d(`${base}.${name}`, input, out, matrices);
  const qkv = dense("attn.c_attn", norm(config, `${base}.ln_1`, x), 3 * hiddenSize);
  const attended = dense("attn.c_proj", attention(qkv, layer), hiddenSize);
  const y = x.add(attended);
  const inner = dense("mlp.c_fc", norm(config, `${base}.ln_2`, y), innerSize);
  return y.add(dense("mlp.c_proj", activation(config.activation, inner), hiddenSize));
}

/** x·W + b with W [in, out] under `name`.weight: GPT-2's Conv1D, the transpose of a Linear. */
function conv1d(name: string, x: Tensor, out: number, matrices: Gpt2Matrices): Tensor {
  const { graph } = x;
  const inputs = Number(x.dim(-1));
  const bias = graph.parameter(`${name}.bias`, [out]);
  if (matrices === "in-out") return linear(x, graph.parameter(`${name}.weight`, [inputs, out]), bias);
  const transposed = graph.parameter(gpt2TransposedName(`${name}.weight`), [out, inputs]);
  return linear(x, transposed, bias, { transB: true });
}

function norm(config: Gpt2Config, name: string, x: Tensor): Tensor {
  const weight = x.graph.parameter(`${name}.weight`, [config.hiddenSize]);
  const bias = x.graph.parameter(`${name}.bias`, [config.hiddenSize]);
  return layerNorm(x, weight, bias, { eps: config.layerNormEps });
}
