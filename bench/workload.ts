/**
 * @file What benchmarks are fed: lengths, token ids and question/answer rows like those of the FAQ bot this project comes from
 * (10–65 prompt tokens, mean 23; 13–128 new tokens, mean 60). The same numbers in every run and for every peer.
 */
import { Rng } from "../lib/dataset/index.js";
import type { Tokenizer } from "../lib/tokenizer/index.js";
import { wordAt } from "./words.js";

const SEED = 7;

/** Prompt and new tokens of one row. */
export interface RowLengths {
  readonly prompt: number;
  readonly newTokens: number;
}

/** Lengths of a ragged batch: quantiles of a skewed distribution, so that any number of rows has the same spread. */
export function raggedLengths(rows: number, scale = 1): RowLengths[] {
  const order = Array.from({ length: rows }, (_, i) => i);
  Rng.from(SEED, "lengths").shuffle(order);
  return order.map((other, i) => {
    const [u, v] = [(i + 0.5) / rows, (other + 0.5) / rows];
    return {
      prompt: Math.round(scale * (10 + 13 * -Math.log(1 - u))),
      newTokens: Math.max(2, Math.round(scale * (13 + 115 * v ** 1.46))),
    };
  });
}

/** `count` token ids of a vocabulary. */
export function randomIds(rng: Rng, count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, () => rng.int(vocabSize));
}

/** Numbers near 0. */
export function randomValues(rng: Rng, count: number, scale: number, center = 0): Float32Array {
  return Float32Array.from({ length: count }, () => center + scale * rng.normal());
}

/** A row of the question/answer file. */
export interface QaRow {
  readonly question: string;
  readonly answer: string;
}

/**
 * Rows whose prompts have the lengths asked for (`overhead` tokens are added by the run itself, such as the control token), and whose
 * words of question and answer and one more make the new tokens, as the notebook counts.
 */
export function qaRows(
  lengths: readonly RowLengths[],
  { tokenizer, known, overhead }: { tokenizer: Tokenizer; known: number; overhead: number },
): QaRow[] {
  return lengths.map(({ prompt, newTokens }, row) => {
    const rng = Rng.from(SEED, "row", row);
    const word = () => wordAt(rng.int(known));
    const question = [word()];
    const tokens = () =>
      overhead + tokenizer.encode(question.join(" "), { addSpecialTokens: false }).ids.length;
    while (tokens() < prompt) question.push(word());
    const answer = Math.max(1, newTokens - 1 - question.length);
    return { question: question.join(" "), answer: Array.from({ length: answer }, word).join(" ") };
  });
}
