/**
 * @file GPT-2 as a scorer of given tokens: log-probabilities at chosen places only, so that logits are computed where they
 * are read and nowhere else. Rows are padded on the right; a row scores the same alone and in any batch.
 */
import { Graph, gather, type Tensor, tokenLogprobs } from "../graph/index.js";
import type { Gpt2Config } from "./config.js";
import { type Gpt2Matrices, gpt2Hidden, gpt2Logits, valueHead } from "./gpt2.js";

/** What a scoring graph gives besides log-probabilities. */
export interface Gpt2ScoringOptions {
  /** Entropy of each distribution. */
  readonly entropy?: boolean;
  /** The whole log-distributions. */
  readonly distribution?: boolean;
  /** The value head's estimate; needs its weights. */
  readonly values?: boolean;
  /** How the blocks' matrices lie; default `in-out`. */
  readonly matrices?: Gpt2Matrices;
}

/**
 * Inputs: `input_ids` [batch, time] int64; `places` [count] int64, each row · time + position: the token at that place
 * has been read and the next one is scored; `targets` [count] int64, the tokens that followed.
 * Outputs, in nats: `logprobs` [count]; if asked for, `entropy` [count], `distribution` [count, V] (log-softmax),
 * `values` [count].
 */
export function gpt2ScoringGraph(config: Gpt2Config, options: Gpt2ScoringOptions = {}): Graph {
  const graph = new Graph("gpt2-scoring");
  const inputIds = graph.input("input_ids", "int64", ["batch", "time"]);
  const places = graph.input("places", "int64", ["count"]);
  const targets = graph.input("targets", "int64", ["count"]);
  const states = gpt2Hidden(config, { inputIds, matrices: options.matrices });
  const hidden = selectRows(config, states, places); // [count, D]
  const logits = gpt2Logits(config, hidden);
  if (options.entropy || options.distribution) {
    const logp = logits.logSoftmax(-1);
    graph.output("logprobs", logp.gatherElements(targets.unsqueeze(-1), -1).squeeze(-1));
    if (options.entropy) graph.output("entropy", logp.exp().mul(logp).reduceSum([-1]).neg());
    if (options.distribution) graph.output("distribution", logp);
  } else {
    graph.output("logprobs", tokenLogprobs(logits, targets));
  }
  if (options.values) graph.output("values", valueHead(config, hidden));
  return graph;
}

/** Hidden states [B, T, D] at places [count], each row · T + position → [count, D]. */
export function selectRows(config: Gpt2Config, hidden: Tensor, places: Tensor): Tensor {
  return gather(hidden.reshape([-1, config.hiddenSize]), places);
}
