/** @file Rows into training examples: question/answer text for the language model, labelled text for the classifier. Pure. */
import { fillTemplate, Rng } from "../../../lib/dataset/index.js";
import type { Tokenizer } from "../../../lib/tokenizer/index.js";
import type { LabelledExample } from "../learner/classification-task.js";
import { IGNORED_LABEL } from "../learner/labels.js";
import type { TextExample } from "../learner/next-token-task.js";
import type { QaRow } from "../rollout/rows.js";
import type { SftRunConfig } from "../run-config.js";

/**
 * One text per row: the template filled, the end-of-sequence token behind it, cut to `maxTokens`. With `lossOn: answer`
 * the ids before the answer are not learned. A prefix (or none) is drawn per row.
 */
export function textExamples(
  config: Pick<SftRunConfig, "template" | "lossOn" | "prefixes" | "maxTokens" | "seed">,
  rows: readonly QaRow[],
  tokenizer: Tokenizer,
): TextExample[] {
  const { eos } = tokenizer.specialIds;
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).ids;
  const draw = Rng.from(config.seed, "prefixes");
  const cut = config.template.indexOf("{answer}");
  // the space before the answer belongs to its first token
  const head = config.template.slice(0, cut).trimEnd();
  const tail = config.template.slice(head.length);
  return rows.map((row) => {
    const choice = draw.int(config.prefixes.length + 1);
    const prefix = choice === 0 ? "" : (config.prefixes[choice - 1] as string);
    const before = [...(prefix === "" ? [] : encode(prefix)), ...encode(fillTemplate(head, { ...row }))];
    const after = [...encode(fillTemplate(tail, { ...row })), ...(eos === undefined ? [] : [eos])];
    const ids = [...before, ...after].slice(0, config.maxTokens);
    if (config.lossOn === "all") return { ids };
    return { ids, labels: ids.map((id, t) => (t < before.length ? IGNORED_LABEL : id)) };
  });
}

/** A labelled text of the reward model's rows. */
export interface LabelledText {
  readonly text: string;
  readonly label: string;
}

/** The labels of rows in the order of their index: numbers by value, else by name. */
export function labelsOf(rows: readonly LabelledText[]): string[] {
  const labels = [...new Set(rows.map(({ label }) => label))];
  const numeric = labels.every((label) => /^\d+$/.test(label));
  return labels.sort((a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en")));
}

/** Labels as a model's config names them: LABEL_0, LABEL_1 for numbers, else the names themselves. */
export function labelNames(labels: readonly string[]): string[] {
  const counted = labels.every((label, i) => label === String(i));
  return counted ? labels.map((_, i) => `LABEL_${i}`) : [...labels];
}

/** One example per row, wrapped in the tokenizer's special tokens and cut to `maxTokens`. */
export function labelledExamples(
  rows: readonly LabelledText[],
  labels: readonly string[],
  tokenizer: Tokenizer,
  maxTokens: number,
): LabelledExample[] {
  return rows.map(({ text, label }) => {
    const { ids, typeIds } = tokenizer.encode(text, { maxLength: maxTokens });
    return { ids, typeIds, label: labels.indexOf(label) };
  });
}

/** Rows for training and rows held out, chosen by seed. */
export function holdOut<T>(rows: readonly T[], share: number, seed: number): { train: T[]; heldOut: T[] } {
  const order = Rng.from(seed, "held-out").shuffle(rows.map((_, i) => i));
  const count = Math.round(rows.length * share);
  const out = new Set(order.slice(0, count));
  return { train: rows.filter((_, i) => !out.has(i)), heldOut: rows.filter((_, i) => out.has(i)) };
}
