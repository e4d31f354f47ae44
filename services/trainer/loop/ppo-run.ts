/**
 * @file A PPO run from its run file to the tuned model: checks, servers, learner, weights bus, then the loop.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { PromptDataset } from "../../../lib/dataset/index.js";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { openWeightsBus } from "../../../lib/weights/index.js";
import { RunFailedError } from "../errors.js";
import type { HostParameter } from "../learner/parameter-store.js";
import { type QaRow, readQaRows } from "../rollout/rows.js";
import type { PpoRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { PolicyRoster } from "../servers/policy-roster.js";
import { RunServers } from "../servers/servers.js";
import { StallWatch } from "../stalls/stall-watch.js";
import { type LearnedModel, saveModel } from "./policy-checkpoint.js";
import { PpoLoop } from "./ppo-loop.js";
import { Publisher } from "./publishing.js";
import { tokenPieces } from "./recorded-experience.js";
import { RolloutStage, type RolloutStageOptions } from "./rollout-stage.js";
import { openRunLearner } from "./run-learner.js";

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
  const policy = await openRunLearner(engine, config, resumeFrom);
  const { learner, folder, resumed } = policy;
  const tokenizer = await loadTokenizer(folder);
  const busUrl =
    config.weights.bus === "auto" ? `file:${join(context.directory, "weights")}` : config.weights.bus;
  const bus = await openWeightsBus(busUrl, { run: context.id, model: "policy" });
  try {
    const { data, ppo, seed, weights } = config;
    const dataset = new PromptDataset(rows, { template: data.template, batchSize: ppo.batchSize, seed });
    if (resumed) dataset.seek(resumed.cursor);
    const { signal } = context;
    const stalls = new StallWatch({ warnMs: config.stalls.warnMs, log: context.log });
    const warn: RolloutStageOptions["warn"] = (message, fields) => context.log("warn", message, fields);
    const { timeoutMs } = weights;
    const roster = new PolicyRoster({ servers, timeoutMs, signal, say: context.log });
    const publisher = new Publisher(
      { bus, roster, timeoutMs, signal, stalls, warn },
      { version: policy.weightVersion, digest: policy.servedDigest },
    );
    context.published(await publisher.begin(() => learner.readWeights(), context.publishedBefore));
    context.running(config.batches, busUrl.replace(/:.*/s, ""));
    const describe = (values: ReadonlyMap<string, HostParameter>, step: number): LearnedModel => ({
      ...policy.files,
      weights: values,
      weightVersion: policy.firstVersion + step, // the same whatever the run went through on the way
    });
    const stage = new RolloutStage({
      config,
      servers,
      policies: () => roster.serving,
      vocabSize: policy.vocabSize,
      stalls,
      signal,
      warn,
    });
    const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).ids;
    const pieces = (ids: readonly number[]) => tokenPieces(tokenizer, ids);
    const parts = {
      context,
      dataset,
      encode,
      pieces,
      learner,
      threads: engine.threads,
      firstVersion: policy.firstVersion,
      publisher,
      stage,
      stalls,
      describe,
    };
    await new PpoLoop(parts, resumed).run();
    const directory = join(context.directory, "model");
    await saveModel(directory, describe(await learner.readWeights(), config.batches));
    return { modelDirectory: directory };
  } finally {
    await bus.close();
    await learner.release();
  }
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
