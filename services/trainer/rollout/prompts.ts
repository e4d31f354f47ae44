/**
 * @file Rows of the dataset → prompts: template, control token, ids, seeds. Pure but for the tokenizer handed in.
 */
import { fillTemplate, Rng } from "../../../lib/dataset/index.js";
import type { PpoRunConfig } from "../run-config.js";
import type { QaRow } from "./rows.js";
import type { PromptSample } from "./sample.js";

/** The part of the run file that shapes prompts. */
export type PromptConfig = Pick<PpoRunConfig, "seed" | "data" | "control" | "generation" | "ppo">;

/** Turns text into ids, without special tokens. */
export type Encode = (text: string) => readonly number[];

/**
 * Builds one prompt. The control token stands before the whole prompt (its ids before the prompt's ids, as the
 * seed system trained) or inside the template before the question (as it evaluated).
 */
export function buildPrompt(
  template: string,
  question: string,
  control: string,
  placement: "prompt" | "question",
  encode: Encode,
): { text: string; ids: number[] } {
  const fill = (value: string) => fillTemplate(template, { question: value });
  if (control === "") {
    const text = fill(question);
    return { text, ids: [...encode(text)] };
  }
  if (placement === "question") {
    const text = fill(control + question);
    return { text, ids: [...encode(text)] };
  }
  const text = fill(question);
  return { text: control + text, ids: [...encode(control), ...encode(text)] };
}

/** The prompts of batch `batch` (from 0): a function of run seed, batch and row alone, so a resumed run repeats them. */
export function buildBatch(
  config: PromptConfig,
  batch: number,
  rows: readonly QaRow[],
  encode: Encode,
): PromptSample[] {
  const draw = Rng.from(config.seed, "control", batch);
  const { tokens, placement } = config.control;
  return rows.map((row, index) => {
    const bad = tokens.length === 2 && draw.int(2) === 1;
    const control = tokens.length === 2 ? (tokens[bad ? 1 : 0] as string) : "";
    const { text, ids } = buildPrompt(config.data.template, row.question, control, placement, encode);
    return {
      index,
      ...row,
      control,
      sign: bad ? -1 : 1,
      prompt: text,
      promptIds: ids,
      seed: sampleSeed(config.seed, batch, index),
      maxNewTokens: newTokens(config, row),
    };
  });
}

/** 53-bit seed of one sample, derived from (run, batch, sample) and never from the order of arrival. */
export function sampleSeed(runSeed: number, batch: number, index: number): bigint {
  return BigInt(Rng.from(runSeed, "generate", batch, index).int(2 ** 32));
}

/** Most new tokens of a row: the limit of the run file, or the notebook's habit: words of question and answer, plus 1. */
export function newTokens(config: Pick<PromptConfig, "generation" | "ppo">, row: QaRow): number {
  if (config.ppo.newTokens === "config") return config.generation.maxNewTokens;
  const words = (text: string) => text.split(/\s+/u).filter((word) => word !== "").length;
  return words(row.question) + words(row.answer) + 1;
}
