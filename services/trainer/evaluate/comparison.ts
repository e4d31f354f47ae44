/**
 * @file The before/after comparison: variants side by side as a terminal table, CSV and Markdown. Pure.
 */
import { bootstrapMean, type IntSource, meanOf } from "./statistics.js";

/** One response of one variant, scored. */
export interface ScoredResponse {
  readonly response: string;
  readonly tokens: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  /** Classifier reward; NaN where the run has no classifier. */
  readonly reward: number;
}

/** One row of the comparison: a question, and what each variant answered. */
export interface ComparisonRow {
  readonly question: string;
  readonly answer: string;
  /** In the order of the comparison's names. */
  readonly responses: readonly ScoredResponse[];
}

/** Means of one variant over all rows. */
export interface VariantSummary {
  readonly name: string;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly reward: number;
  readonly f1Ci95: number;
  readonly rewardCi95: number;
  readonly tokens: number;
}

/** Summarises each variant; `names[v]` belongs to `rows[i].responses[v]`. */
export function summarise(
  names: readonly string[],
  rows: readonly ComparisonRow[],
  rng: IntSource,
): VariantSummary[] {
  return names.map((name, v) => {
    const of = (key: "precision" | "recall" | "f1" | "reward" | "tokens") =>
      rows.map((row) => row.responses[v]?.[key] ?? Number.NaN);
    const f1 = bootstrapMean(of("f1"), rng);
    const reward = bootstrapMean(of("reward"), rng);
    return {
      name,
      precision: meanOf(of("precision")),
      recall: meanOf(of("recall")),
      f1: f1.mean,
      reward: reward.mean,
      f1Ci95: f1.ci95,
      rewardCi95: reward.ci95,
      tokens: meanOf(of("tokens")),
    };
  });
}

const number = (value: number, digits = 4) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

/** Header and cells of the summary, for any table. */
export function summaryCells(variants: readonly VariantSummary[]): string[][] {
  return [
    ["policy", "BERTScore P", "R", "F1", "± 95 %", "reward", "± 95 %", "tokens"],
    ...variants.map((v) => [
      v.name,
      number(v.precision),
      number(v.recall),
      number(v.f1),
      number(v.f1Ci95),
      number(v.reward),
      number(v.rewardCi95),
      number(v.tokens, 1),
    ]),
  ];
}

/** Summary and rows as Markdown. */
export function toMarkdown(
  title: string,
  variants: readonly VariantSummary[],
  rows: readonly ComparisonRow[],
): string {
  const line = (cells: readonly string[]) => `| ${cells.map(markdownCell).join(" | ")} |`;
  const [header = [], ...body] = summaryCells(variants);
  const samples = rows
    .slice(0, 20)
    .flatMap((row) => [
      "",
      `**${markdownCell(row.question)}**`,
      "",
      `* reference answer: ${markdownCell(row.answer)}`,
      ...row.responses.map(
        (response, v) =>
          `* ${markdownCell(variants[v]?.name ?? "")} (F1 ${number(response.f1)}, reward ${number(response.reward)}): ${markdownCell(response.response)}`,
      ),
    ]);
  return [
    `# ${title}`,
    "",
    line(header),
    line(header.map((_, i) => (i === 0 ? ":--" : "--:"))),
    ...body.map(line),
    "",
    `Means over ${rows.length} rows; intervals by bootstrap.`,
    "",
    "## Samples",
    ...samples,
    "",
  ].join("\n");
}

/** Every row and variant as CSV (RFC 4180). */
export function toCsv(variants: readonly VariantSummary[], rows: readonly ComparisonRow[]): string {
  const header = [
    "question",
    "answer",
    "policy",
    "response",
    "precision",
    "recall",
    "f1",
    "reward",
    "tokens",
  ];
  const lines = rows.flatMap((row) =>
    row.responses.map((r, v) => [
      row.question,
      row.answer,
      variants[v]?.name ?? "",
      r.response,
      ...[r.precision, r.recall, r.f1, r.reward, r.tokens].map((value) =>
        Number.isFinite(value) ? String(value) : "",
      ),
    ]),
  );
  return `${[header, ...lines].map((cells) => cells.map(csvCell).join(",")).join("\r\n")}\r\n`;
}

/** One CSV cell: quoted where it must be; a leading = + - @ of a text gets an apostrophe so that no sheet runs it. */
function csvCell(text: string): string {
  const safe = /^[=+@\t\r]|^-(?!\d)/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Text inside a Markdown table or list: one line, nothing that is read as markup. */
function markdownCell(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .trim()
    .replace(/[\\`*_{}[\]<>|#]/g, (character) => `\\${character}`);
}
