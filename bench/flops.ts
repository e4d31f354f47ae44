/**
 * @file How many floating-point operations the work of a benchmark is: two per multiply-add of every matrix product, attention
 * without its causal half left out, padding not counted. Elementwise work is not counted. Pure.
 */

/** The sizes that count. */
export interface TransformerSizes {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly vocabSize: number;
}

/** Operations of the blocks over one sequence of `tokens`, of which the last `fresh` are computed (all, unless said). */
export function blockFlops(
  { layers, hiddenSize: d, innerSize }: TransformerSizes,
  tokens: number,
  fresh = tokens,
): number {
  const weights = 4 * d * d + 2 * d * innerSize;
  return layers * (2 * fresh * weights + 4 * fresh * tokens * d);
}

/** Operations of the output layer over `rows` positions. */
export function logitFlops({ hiddenSize, vocabSize }: TransformerSizes, rows: number): number {
  return 2 * rows * hiddenSize * vocabSize;
}

/** Forward pass over one sequence with logits at `logitRows` positions. */
export function forwardFlops(sizes: TransformerSizes, tokens: number, logitRows: number): number {
  return blockFlops(sizes, tokens) + logitFlops(sizes, logitRows);
}

/** Forward and backward pass: the backward pass is two products for each of the forward pass. */
export function trainingFlops(sizes: TransformerSizes, tokens: number, logitRows: number): number {
  return 3 * forwardFlops(sizes, tokens, logitRows);
}

/** Generation with a cache: the prompt once, then one token after another; logits once per new token. */
export function generationFlops(sizes: TransformerSizes, prompt: number, newTokens: number): number {
  let total = blockFlops(sizes, prompt) + logitFlops(sizes, newTokens);
  for (let t = 1; t < newTokens; t++) total += blockFlops(sizes, prompt + t, 1);
  return total;
}
