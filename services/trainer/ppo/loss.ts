/**
 * @file The PPO loss (arXiv:1707.06347) as a graph: clipped policy ratio and clipped value error over the response tokens.
 * In: hidden states [..., D] of the policy, and what is fixed since the rollout, [N] over all response tokens of the minibatch.
 * Out: losses, and per token what the statistics need. There is no padding among the N tokens, so a mean over them is TRL's
 * masked mean over the minibatch, and with one sample its mean over that sample.
 */
import type { Graph, Tensor } from "../../../lib/graph/index.js";
import { tokenLogprobs } from "../../../lib/graph/index.js";
import type { PpoOptions } from "./options.js";

/** The parts of the policy that the loss is put on. */
export interface PpoLossModel {
  /** Last hidden states, [..., D]. */
  readonly hidden: Tensor;
  /** D. */
  readonly width: number;
  /** Hidden rows [..., D] → logits [..., V]. */
  logits(hidden: Tensor): Tensor;
  /** Hidden rows [..., D] → values [...]. */
  values(hidden: Tensor): Tensor;
}

/** Options that change the graph. */
export type PpoLossOptions = Pick<
  PpoOptions,
  "clipRange" | "clipRangeValue" | "valueCoef" | "valueHeadDropout" | "entropyScope"
>;

/**
 * Inputs that the graph gets: `places` [N] int64 (which hidden state each response token was chosen at), `labels` [N] int64
 * (the tokens), `old_logprobs`, `old_values`, `advantages`, `returns` [N]; with value-head dropout `value_dropout` [N, D], the
 * inverted mask; with entropy over all positions `entropy_places` [M] int64.
 * Outputs: `policy_loss`, `value_loss` [], `logprobs`, `values`, `ratio` [N], `entropy` [N] or [M].
 */
export function ppoLoss(
  graph: Graph,
  model: PpoLossModel,
  options: PpoLossOptions,
): { loss: Tensor; outputs: Record<string, Tensor> } {
  const perToken = (name: string) => graph.input(name, "float32", ["tokens"]);
  const places = graph.input("places", "int64", ["tokens"]);
  const labels = graph.input("labels", "int64", ["tokens"]);
  const rows = model.hidden.reshape([-1, model.width]);
  const hidden = rows.gather(places); // [N, D]
  const logits = model.logits(hidden); // [N, V]
  const logprobs = tokenLogprobs(logits, labels);
  const values = model.values(
    options.valueHeadDropout === 0
      ? hidden
      : hidden.mul(graph.input("value_dropout", "float32", ["tokens", model.width])),
  );

  const ratio = logprobs.sub(perToken("old_logprobs")).exp();
  const policyLoss = policyLossOf(ratio, perToken("advantages"), options.clipRange);
  const valueLoss = valueLossOf(values, perToken("old_values"), perToken("returns"), options.clipRangeValue);
  const loss = policyLoss.add(valueLoss.mul(options.valueCoef));

  const entropyLogits =
    options.entropyScope === "response"
      ? logits
      : model.logits(rows.gather(graph.input("entropy_places", "int64", ["positions"])));
  return {
    loss,
    outputs: {
      policy_loss: policyLoss,
      value_loss: valueLoss,
      logprobs,
      values,
      ratio,
      entropy: entropyOf(entropyLogits),
    },
  };
}

/** mean_t max(−Â·ratio, −Â·clip(ratio, 1 − ε, 1 + ε)); ratio and advantages [N] → []. */
export function policyLossOf(ratio: Tensor, advantages: Tensor, clipRange: number): Tensor {
  const gain = advantages.neg();
  return gain
    .mul(ratio)
    .maximum(gain.mul(ratio.clip(1 - clipRange, 1 + clipRange)))
    .reduceMean();
}

/** ½·mean_t max((u − R)², (ū − R)²), with ū the value kept within ± ε_v of the rollout's; all [N] → []. */
export function valueLossOf(values: Tensor, oldValues: Tensor, returns: Tensor, clipRange: number): Tensor {
  const bounded = values.minimum(oldValues.add(clipRange)).maximum(oldValues.sub(clipRange));
  const squaredError = (prediction: Tensor) => {
    const error = prediction.sub(returns);
    return error.mul(error);
  };
  return squaredError(values).maximum(squaredError(bounded)).reduceMean().mul(0.5);
}

/** logsumexp(z) − Σ softmax(z)·z per row: logits [..., V] → [...]. Shares the softmax with the gradient of the logprobs. */
export function entropyOf(logits: Tensor): Tensor {
  return logits.logSumExp([-1]).sub(logits.softmax(-1).mul(logits).reduceSum([-1]));
}
