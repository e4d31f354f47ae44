/** @file Supervised fine-tuning (`rlhf sft`): next-token loss on question/answer rows. */
import { join } from "node:path";
import { fillTemplate } from "../../../lib/dataset/index.js";
import { RunFailedError } from "../errors.js";
import { nextTokenTask } from "../learner/next-token-task.js";
import { MODEL_FOLDER } from "../loop/policy-checkpoint.js";
import { readQaRows } from "../rollout/rows.js";
import type { SftRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { textExamples } from "./examples.js";
import { loadModel, newGpt2 } from "./model-files.js";
import { runSupervised } from "./supervised-loop.js";

/** Runs supervised fine-tuning to its end. */
export async function runSft(context: RunContext<SftRunConfig>): Promise<RunResult> {
  const { config, resumeFrom } = context;
  const rows = await readQaRows(config.data);
  const test = config.data.test ? await readQaRows(config.data, "test") : [];
  const folder = resumeFrom ? join(resumeFrom.folder, MODEL_FOLDER) : config.model;
  const { init } = config;
  const texts = () => rows.map((row) => config.prefixes.join("") + fillTemplate(config.template, { ...row }));
  const model =
    folder === undefined && init
      ? await newGpt2(init, texts, config.seed)
      : await loadModel(folder ?? "", "causal-lm", config.seed);
  if (model.config.modelType !== "gpt2") {
    throw new RunFailedError(
      "WRONG_MODEL",
      `model: ${folder} holds a ${model.config.modelType}, expected a gpt2`,
    );
  }
  const limits = { ...config, maxTokens: Math.min(config.maxTokens, model.config.positions) };
  return runSupervised(context, {
    name: "sft",
    model,
    task: nextTokenTask(model.config),
    train: textExamples(limits, rows, model.tokenizer),
    draw: (example) => example,
    heldOut: textExamples(limits, test.slice(0, 256), model.tokenizer),
    tokens: ({ ids }) => ids.length,
  });
}
