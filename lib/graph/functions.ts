/**
 * @file Formulas made of ops that more than one model or loss needs.
 */
import type { Tensor } from "./tensor.js";

/** Σ x·mask / Σ mask over everything; mask is 0 or 1 of x's shape. Without any 1 it is 0/0 = NaN. */
export function maskedMean(x: Tensor, mask: Tensor): Tensor {
  return x.mul(mask).reduceSum().div(mask.reduceSum());
}

/** log p(id) under softmax of the logits: logits [..., V], ids [...] int64 → [...]. */
export function tokenLogprobs(logits: Tensor, ids: Tensor): Tensor {
  const chosen = logits.gatherElements(ids.unsqueeze(-1), -1).squeeze(-1);
  return chosen.sub(logits.logSumExp([-1]));
}

/** Entropy in nats of softmax of the logits [..., V] → [...]. */
export function entropyFromLogits(logits: Tensor): Tensor {
  const logp = logits.logSoftmax(-1);
  return logp.exp().mul(logp).reduceSum([-1]).neg();
}

/**
 * Mean of −log p(label) over the labels that are not `ignoreIndex` (default −100): logits [..., V], labels [...]
 * int64 → []. Without any such label it is 0/0 = NaN, as in PyTorch.
 */
export function crossEntropy(logits: Tensor, labels: Tensor, { ignoreIndex = -100 } = {}): Tensor {
  const kept = labels.equal(ignoreIndex).not();
  const logprobs = tokenLogprobs(logits, kept.where(labels, 0)); // an ignored label reads entry 0, then counts 0
  return maskedMean(logprobs, kept.cast(logits.dtype)).neg();
}

/** log(1 + eˣ) without overflow. */
export function softplus(x: Tensor): Tensor {
  return x.relu().add(x.abs().neg().exp().add(1).log());
}

/** x · sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return x.mul(x.sigmoid());
}

/** √Σ over all tensors of Σ x²: the global norm that gradient clipping compares with its limit. */
export function globalNorm(tensors: readonly Tensor[]): Tensor {
  return tensors
    .map((t) => t.mul(t).reduceSum())
    .reduce((a, b) => a.add(b))
    .sqrt();
}
