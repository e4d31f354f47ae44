/**
 * @file A PPO run from its run file to the tuned model: checks, servers, learner, weights bus, then the loop.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { loadCheckpoint } from "../../../lib/checkpoint/index.js";
import { PromptDataset } from "../../../lib/dataset/index.js";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { initParameters, parameterSpecs, parseModelConfig } from "../../../lib/models/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { openWeightsBus } from "../../../lib/weights/index.js";
import { RunFailedError } from "../errors.js";
import type { HostParameter } from "../learner/parameter-store.js";
import { learnerOptionsOf, PolicyLearner } from "../learner/policy-learner.js";
import { type QaRow, readQaRows } from "../rollout/rows.js";
import type { PpoRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { RunServers } from "../servers/servers.js";
import { StallWatch } from "../stalls/stall-watch.js";
import { type LearnedModel, MODEL_FOLDER, readOptimizer, saveModel } from "./policy-checkpoint.js";
import { PpoLoop } from "./ppo-loop.js";
import { ppoStateOf } from "./ppo-state.js";
import { Publisher } from "./publishing.js";
import { tokenPieces } from "./recorded-experience.js";
import { RolloutStage, type RolloutStageOptions } from "./rollout-stage.js";

/** Runs PPO to its end. Throws RunInterrupted on request, RunFailedError with a reason otherwise. */
export async function runPpo(context: RunContext<PpoRunConfig>): Promise<RunResult> {
  const { config } = context;
  checkServers(config);
  const rows = await readQaRows(config.data);
  if (rows.length < config.ppo.batchSize) {
    const why = `data.train has ${rows.length} rows, fewer than ppo.batchSize ${config.ppo.batchSize}`;
    throw new RunFailedError("TOO_FEW_ROWS", why);
  }
  const engine = await createEngine({
    device: config.device,
    intraOpThreads: config.threads ?? availableParallelism(),
    spin: false,
  });
  const servers = new RunServers(config);
  try {
    return await work(context, engine, servers, rows);
  } finally {
    servers.close();
    await engine.close();
  }
}

async function work(
  context: RunContext<PpoRunConfig>,
  engine: Engine,
  servers: RunServers,
  rows: readonly QaRow[],
): Promise<RunResult> {
  const { config, resumeFrom } = context;
  const resumed = resumeFrom && ppoStateOf(resumeFrom);
  const folder = resumeFrom ? join(resumeFrom.folder, MODEL_FOLDER) : config.model;
  const policy = await loadPolicy(folder, config.seed);
  const tokenizer = await loadTokenizer(folder);
  const learner = await PolicyLearner.create(engine, policy.modelConfig, policy.weights, {
    ppo: config.ppo,
    learner: {
      ...learnerOptionsOf(config.ppo),
      weightDecay: config.weightDecay,
      schedule: { kind: config.schedule, totalSteps: config.batches },
    },
  });
  const busUrl =
    config.weights.bus === "auto" ? `file:${join(context.directory, "weights")}` : config.weights.bus;
  const bus = await openWeightsBus(busUrl, { run: context.id, model: "policy" });
  try {
    const { data, ppo, seed, weights } = config;
    const dataset = new PromptDataset(rows, { template: data.template, batchSize: ppo.batchSize, seed });
    if (resumeFrom && resumed) {
      await learner.importState(await readOptimizer(resumeFrom.folder, resumed.optimizer));
      dataset.seek(resumed.cursor);
    }
    const { signal } = context;
    const stalls = new StallWatch({ warnMs: config.stalls.warnMs, log: context.log });
    const warn: RolloutStageOptions["warn"] = (message, fields) => context.log("warn", message, fields);
    const publisher = new Publisher(
      { bus, servers, timeoutMs: weights.timeoutMs, stalls, signal, warn },
      resumed?.weightVersion ?? policy.weightVersion,
    );
    await publisher.begin(() => learner.readWeights(), resumed?.digest ?? policy.servedDigest);
    context.running(config.batches, busUrl.replace(/:.*/s, ""));
    const describe = (values: ReadonlyMap<string, HostParameter>, weightVersion: number): LearnedModel => ({
      ...policy.files,
      weights: values,
      weightVersion,
      tokenizerFrom: folder,
    });
    const stage = new RolloutStage({
      config,
      servers,
      vocabSize: policy.modelConfig.vocabSize,
      stalls,
      signal,
      warn,
    });
    const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).ids;
    const pieces = (ids: readonly number[]) => tokenPieces(tokenizer, ids);
    const parts = { context, dataset, encode, pieces, learner, publisher, stage, stalls, describe };
    await new PpoLoop(parts, resumed).run();
    const directory = join(context.directory, "model");
    await saveModel(directory, describe(await learner.readWeights(), publisher.version));
    return { modelDirectory: directory };
  } finally {
    await bus.close();
    await learner.release();
  }
}

/** A policy with value head; a head that the directory lacks starts at random from the run's seed. */
async function loadPolicy(folder: string, seed: number) {
  const load = (task: "causal-lm" | "causal-lm-with-value") =>
    loadCheckpoint(folder, (json) => parameterSpecs(parseModelConfig(json), task), { optional: ["v_head."] });
  const checkpoint = await load("causal-lm-with-value");
  const modelConfig = parseModelConfig(checkpoint.config);
  if (modelConfig.modelType !== "gpt2") {
    throw new RunFailedError(
      "WRONG_MODEL",
      `model: ${folder} holds a ${modelConfig.modelType}, expected a gpt2`,
    );
  }
  const missing = parameterSpecs(modelConfig, "causal-lm-with-value").filter(
    ({ name }) => !checkpoint.tensors.has(name),
  );
  return {
    modelConfig,
    weights: new Map([...checkpoint.tensors, ...initParameters(missing, seed)]),
    weightVersion: checkpoint.weightVersion,
    /** What a policy server that loads the same directory reports: it reads no value head. */
    servedDigest: (await load("causal-lm")).digest,
    files: { config: checkpoint.config, generationConfig: checkpoint.generationConfig },
  };
}

function checkServers({ servers, rewards }: PpoRunConfig): void {
  const problems = (["policy", "reference"] as const)
    .filter((name) => servers[name].addresses.length === 0)
    .map((name) => `servers.${name}.addresses is empty`);
  for (const term of rewards) {
    if (term.type !== "classifier" && term.type !== "bertscore") continue;
    const service = term.type === "classifier" ? "reward" : "bertscore";
    if (term.addresses.length === 0 && servers[service].addresses.length === 0) {
      problems.push(
        `the ${term.type} term has no server: give addresses, or servers.${service}.addresses or .model`,
      );
    }
  }
  if (problems.length > 0) throw new RunFailedError("NO_SERVER", problems.join("; "));
}
