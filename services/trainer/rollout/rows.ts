/** @file Question/answer rows of a run file's data section. */
import { readRows } from "../../../lib/dataset/index.js";
import type { PpoRunConfig } from "../run-config.js";

/** A question and its reference answer. */
export interface QaRow {
  readonly question: string;
  readonly answer: string;
}

/** Reads the rows of `data.train` (or `data.test`). Throws DatasetError naming file, row and column. */
export async function readQaRows(
  data: PpoRunConfig["data"],
  split: "train" | "test" = "train",
): Promise<QaRow[]> {
  const { questionColumn, answerColumn, maxRows } = data;
  const file = split === "test" ? (data.test ?? data.train) : data.train;
  const rows = await readRows(file, { [questionColumn]: "text", [answerColumn]: "text" });
  return rows.slice(0, maxRows).map((row) => ({
    question: String(row[questionColumn]),
    answer: String(row[answerColumn]),
  }));
}
