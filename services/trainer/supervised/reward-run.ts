/** @file Training of a reward model (`rlhf train-reward`): a classifier on text/label rows. */
import { join } from "node:path";
import { readRows } from "../../../lib/dataset/index.js";
import { maxTokens } from "../../../lib/models/index.js";
import { RunFailedError } from "../errors.js";
import { classificationTask } from "../learner/classification-task.js";
import { MODEL_FOLDER } from "../loop/policy-checkpoint.js";
import type { RewardRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { holdOut, type LabelledText, labelledExamples, labelNames, labelsOf } from "./examples.js";
import { loadModel, newClassifier } from "./model-files.js";
import { runSupervised } from "./supervised-loop.js";

/** Trains a classifier to its end. */
export async function runReward(context: RunContext<RewardRunConfig>): Promise<RunResult> {
  const { config, resumeFrom } = context;
  const all = await readLabelled(config.data, config.data.train);
  const labels = labelsOf(all);
  if (labels.length < 2) {
    throw new RunFailedError(
      "ONE_LABEL",
      `data.train: every row has the label ${labels[0]}, expected at least two labels`,
    );
  }
  const split = config.data.test
    ? { train: all, heldOut: await readLabelled(config.data, config.data.test) }
    : holdOut(all, config.data.heldOut, config.seed);
  const folder = resumeFrom ? join(resumeFrom.folder, MODEL_FOLDER) : config.model;
  const { init } = config;
  const model =
    folder === undefined && init
      ? await newClassifier(init, labelNames(labels), () => all.map(({ text }) => text), config.seed)
      : await loadModel(folder ?? "", "sequence-classification", config.seed);
  if (model.config.modelType === "gpt2") {
    throw new RunFailedError(
      "WRONG_MODEL",
      `model: ${folder} holds a gpt2, expected a bert, roberta or distilbert`,
    );
  }
  if (model.config.labels.length !== labels.length) {
    throw new RunFailedError(
      "WRONG_LABELS",
      `model: ${folder} has ${model.config.labels.length} labels, data.train has ${labels.length}: ${labels.join(", ")}`,
    );
  }
  const most = Math.min(config.maxTokens, maxTokens(model.config));
  const examples = (rows: readonly LabelledText[]) => labelledExamples(rows, labels, model.tokenizer, most);
  return runSupervised(context, {
    name: "classifier",
    model,
    task: classificationTask(model.config),
    train: examples(split.train),
    draw: (example) => example,
    heldOut: examples(split.heldOut),
    tokens: ({ ids }) => ids.length,
  });
}

async function readLabelled(data: RewardRunConfig["data"], file: string): Promise<LabelledText[]> {
  const { textColumn, labelColumn, maxRows } = data;
  const rows = await readRows(file, { [textColumn]: "text", [labelColumn]: "text" });
  return rows
    .slice(0, maxRows)
    .map((row) => ({ text: String(row[textColumn]), label: String(row[labelColumn]) }));
}
