/** @file Training of an encoder (`rlhf train-encoder`): masked language modelling on the texts of a table's columns. */
import { join } from "node:path";
import { Rng, readRows } from "../../../lib/dataset/index.js";
import { maxTokens } from "../../../lib/models/index.js";
import { RunFailedError } from "../errors.js";
import { maskedLanguageTask } from "../learner/masked-language-task.js";
import { MODEL_FOLDER } from "../loop/policy-checkpoint.js";
import type { EncoderRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { holdOut } from "./examples.js";
import { maskingVocabulary, maskTokens } from "./masking.js";
import { loadModel, newEncoder } from "./model-files.js";
import { runSupervised } from "./supervised-loop.js";

/** Trains an encoder to its end. */
export async function runEncoder(context: RunContext<EncoderRunConfig>): Promise<RunResult> {
  const { config, resumeFrom } = context;
  const { seed, maskFraction } = config;
  const all = await readTexts(config.data, config.data.train);
  const split = config.data.test
    ? { train: all, heldOut: await readTexts(config.data, config.data.test) }
    : holdOut(all, config.data.heldOut, seed);
  const folder = resumeFrom ? join(resumeFrom.folder, MODEL_FOLDER) : config.model;
  const { init } = config;
  const model =
    folder === undefined && init
      ? await newEncoder(init, () => all, seed)
      : await loadModel(folder ?? "", "masked-lm", seed);
  const { tokenizer, config: shape } = model;
  if (shape.modelType === "gpt2") {
    throw new RunFailedError(
      "WRONG_MODEL",
      `model: ${folder} holds a gpt2, expected a bert, roberta or distilbert`,
    );
  }
  const vocabulary = maskingVocabulary(tokenizer);
  if (!vocabulary) {
    const where = config.model ? `model: ${folder}` : `init.tokenizer: ${init?.tokenizer}`;
    throw new RunFailedError("NO_MASK_TOKEN", `${where} has a tokenizer without a mask token, expected one`);
  }
  const maxLength = Math.min(config.maxTokens, maxTokens(shape));
  const encode = (text: string) => tokenizer.encode(text, { maxLength }).ids;
  const read = new Set(split.train);
  return runSupervised(context, {
    name: "mlm",
    model,
    task: maskedLanguageTask(shape),
    train: split.train.map(encode),
    draw: (ids, rng) => maskTokens(ids, vocabulary, maskFraction, rng),
    // the same tokens are hidden at every evaluation, in texts that training never reads
    heldOut: split.heldOut
      .filter((text) => !read.has(text))
      .map((text, i) =>
        maskTokens(encode(text), vocabulary, maskFraction, Rng.from(seed, "held-out mask", i)),
      ),
    tokens: (ids) => ids.length,
  });
}

/** The texts of the columns, each once, in the order of their first row. */
async function readTexts(data: EncoderRunConfig["data"], file: string): Promise<string[]> {
  const { textColumns, maxRows } = data;
  const rows = await readRows(file, Object.fromEntries(textColumns.map((column) => [column, "text"])));
  return [
    ...new Set(rows.slice(0, maxRows).flatMap((row) => textColumns.map((column) => String(row[column])))),
  ];
}
