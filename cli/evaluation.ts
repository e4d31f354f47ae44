/** @file The before/after comparison as the terminal shows it. */
import type { EvaluateResponse } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { printable, table } from "./output.js";

const number = (value: number, digits = 4) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

/** Table of variants, two sample answers, and where the files are. */
export function comparisonText(reply: EvaluateResponse): string {
  const cells = [
    ["policy", "BERTScore P", "R", "F1", "± 95 %", "reward", "± 95 %", "tokens"],
    ...reply.variants.map((v) => [
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
  const samples = reply.rows
    .slice(0, 2)
    .flatMap((row) => [
      "",
      `question: ${oneLine(row.question)}`,
      `  reference answer: ${oneLine(row.answer)}`,
      ...row.responses.map((response, v) => `  ${reply.variants[v]?.name}: ${oneLine(response)}`),
    ]);
  return [
    `Before and after, over ${reply.rows.length} rows:`,
    "",
    table(cells),
    ...samples,
    "",
    `all rows: ${reply.csvPath}`,
    `samples:  ${reply.markdownPath}`,
    `report:   ${reply.reportPath}`,
  ].join("\n");
}

function oneLine(text: string): string {
  return printable(text.replace(/\s+/g, " ").trim());
}
