/**
 * @file From classifier logits to label scores, as transformers' text-classification pipeline does it.
 * In: the logits of one text, one per label. Out: one score per label, in label order. Pure.
 */

/** softmax over the labels, sigmoid of each, or the logits themselves. */
export type ScoreFunction = "softmax" | "sigmoid" | "none";

/** What the model's config says about its labels. */
export interface LabelFacts {
  labels: readonly string[];
  problemType?: "regression" | "single_label_classification" | "multi_label_classification";
}

/**
 * The function the pipeline picks when the caller names none: none for regression, sigmoid for several labels at once or
 * exactly one label, softmax otherwise.
 */
export function defaultScoreFunction({ labels, problemType }: LabelFacts): ScoreFunction {
  if (problemType === "regression") return "none";
  if (problemType === "multi_label_classification" || labels.length === 1) return "sigmoid";
  return "softmax";
}

/** Scores of one text, in float64; softmax subtracts the row maximum first. */
export function labelScores(logits: ArrayLike<number>, scoreFunction: ScoreFunction): Float64Array {
  const scores = Float64Array.from(logits);
  if (scoreFunction === "sigmoid") return scores.map(sigmoid);
  if (scoreFunction === "none") return scores;
  const max = Math.max(...scores);
  const exps = scores.map((logit) => Math.exp(logit - max));
  const sum = exps.reduce((total, value) => total + value, 0);
  return exps.map((value) => value / sum);
}

/** 1 / (1 + exp(-x)), without overflow for large negative x. */
function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}
