/**
 * @file What benchmarks are fed: lengths, token ids and question/answer rows like those of the FAQ bot this project comes from
 * (10–65 prompt tokens, mean 23; 13–128 new tokens, mean 60). The same numbers in every run and for every peer.
 */
import { Rng } from "../lib/dataset/index.js";
import type { Tokenizer } from "../lib/tokenizer/index.js";
import { SHORT_WORDS, wordAt } from "./words.js";

const SEED = 7;

/** Prompt and new tokens of one row. */
export interface RowLengths {
  readonly prompt: number;
  readonly newTokens: number;
}

/**
 * Lengths of a ragged batch: quantiles of skewed distributions, so that any number of rows has the same spread. A row has more new
 * tokens than its question has words, as the notebook's rule asks, which counts question and answer.
 */
export function raggedLengths(rows: number, scale = 1): RowLengths[] {
  const quantiles = Array.from({ length: rows }, (_, i) => (i + 0.5) / rows);
  const prompts = quantiles.map((u) => Math.max(8, Math.round(scale * (10 + 13 * -Math.log(1 - u)))));
  const newTokens = quantiles.map((u) => Math.max(6, Math.round(scale * (13 + 115 * u ** 1.46))));
  Rng.from(SEED, "lengths").shuffle(newTokens);
  for (const [i, prompt] of prompts.entries()) {
    if (newTokens[i] >= prompt) continue;
    // trade with the shortest prompt that can do with fewer
    const other = prompts.findIndex((each, j) => newTokens[j] >= prompt && newTokens[i] >= each);
    if (other < 0) newTokens[i] = prompt;
    else [newTokens[i], newTokens[other]] = [newTokens[other], newTokens[i]];
  }
  return prompts.map((prompt, i) => ({ prompt, newTokens: newTokens[i] }));
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
    // without a space before it the first word is one token a syllable: two of them, so that lengths come out exactly
    const question = [wordAt(rng.int(Math.min(known, SHORT_WORDS)))];
    const tokens = () =>
      overhead + tokenizer.encode(question.join(" "), { addSpecialTokens: false }).ids.length;
    while (tokens() < prompt) question.push(word());
    const answer = Math.max(1, newTokens - 1 - question.length);
    return { question: question.join(" "), answer: Array.from({ length: answer }, word).join(" ") };
  });
}
