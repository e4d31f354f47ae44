/**
 * @file The loop of all supervised stages: epochs over examples in a seeded order, a held-out loss now and then, checkpoints
 * that a resumed run goes on from with the same numbers.
 */

import { availableParallelism } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { saveCheckpoint } from "../../../lib/checkpoint/index.js";
import { Rng } from "../../../lib/dataset/index.js";
import { createEngine } from "../../../lib/engine/index.js";
import { withSpan } from "../../../lib/telemetry/index.js";
import { RunInterrupted } from "../errors.js";
import type { HostParameter } from "../learner/parameter-store.js";
import { SupervisedLearner, type SupervisedTask } from "../learner/supervised-learner.js";
import { MODEL_FOLDER, readOptimizer, writeOptimizer } from "../loop/policy-checkpoint.js";
import type { EncoderRunConfig, RewardRunConfig, SftRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import type { StartingModel } from "./model-files.js";

const stateSchema = z.object({
  kind: z.literal("supervised"),
  optimizer: z.object({ step: z.number().int(), scheduleStep: z.number().int() }),
  metricsBytes: z.number().int(),
});

/** What a supervised stage hands to the loop. A source is what a row of the data became; what a step learns of it is an example. */
export interface SupervisedStage<Source, Example> {
  /** Names its metrics: `sft/loss`. */
  readonly name: "sft" | "classifier" | "mlm";
  readonly model: StartingModel;
  readonly task: SupervisedTask<Example>;
  readonly train: readonly Source[];
  /** The example of a source in one step; `rng` is a stream of that step and place alone. */
  readonly draw: (source: Source, rng: Rng) => Example;
  readonly heldOut: readonly Example[];
  /** Tokens of a source, for tokens per second. */
  readonly tokens: (source: Source) => number;
}

/** Steps of a run: epochs over the examples, rounded up. */
export function stepsOf(
  { epochs, batchSize }: { epochs: number; batchSize: number },
  examples: number,
): number {
  return Math.max(1, Math.ceil((epochs * examples) / batchSize));
}

/** The examples of step `step` (from 1): consecutive slices of each epoch's own order. A function of seed and step alone. */
export function batchOf<Example>(
  examples: readonly Example[],
  batchSize: number,
  seed: number,
  step: number,
): Example[] {
  const size = Math.min(batchSize, examples.length);
  const first = (step - 1) * size;
  return Array.from({ length: size }, (_, i) => {
    const at = first + i;
    return examples[
      orderOf(examples.length, seed, Math.floor(at / examples.length))[at % examples.length] as number
    ];
  }) as Example[];
}

/** Trains to the end. Throws RunInterrupted on request, LearnerNonFiniteError where the loss is not finite. */
export async function runSupervised<Source, Example>(
  context: RunContext<SftRunConfig | RewardRunConfig | EncoderRunConfig>,
  stage: SupervisedStage<Source, Example>,
): Promise<RunResult> {
  const { config, resumeFrom } = context;
  const { model, name } = stage;
  const totalSteps = stepsOf(config, stage.train.length);
  const { schedule, warmupSteps, ...optimizer } = config.optimizer;
  const engine = await createEngine({
    device: config.device,
    intraOpThreads: config.threads ?? availableParallelism(),
    spin: false,
  });
  let learner: SupervisedLearner<Example> | undefined;
  try {
    const active = await SupervisedLearner.create(engine, stage.task, model.weights, {
      ...optimizer,
      schedule: { kind: schedule, warmupSteps, totalSteps },
    });
    learner = active;
    if (resumeFrom) {
      const state = stateSchema.parse(resumeFrom.state);
      await active.importState(await readOptimizer(resumeFrom.folder, state.optimizer));
    }
    context.running(totalSteps);
    for (let step = (resumeFrom?.step ?? 0) + 1; step <= totalSteps; step++) {
      context.signal.throwIfAborted();
      const last = step === totalSteps;
      const checkpointDue = last || step % config.checkpoint.every === 0;
      await withSpan(
        "rlhf.train.step",
        { parent: "root", attributes: { "rlhf.run": context.id } },
        async () => {
          const started = performance.now();
          const batch = batchOf(stage.train, config.batchSize, config.seed, step);
          const examples = batch.map((source, i) =>
            stage.draw(source, Rng.from(config.seed, "draw", step, i)),
          );
          const result = await active.step(examples, `step ${step}`);
          const seconds = (performance.now() - started) / 1000;
          const heldOut =
            checkpointDue && stage.heldOut.length > 0 ? await active.evaluate(stage.heldOut) : undefined;
          context.step(step, {
            [`${name}/loss`]: result.loss,
            [`${name}/grad_norm`]: result.gradNorm,
            [`${name}/learning_rate`]: result.learningRate,
            ...(heldOut ? { [`${name}/test_loss`]: heldOut.loss } : {}),
            ...(heldOut?.means.accuracy === undefined
              ? {}
              : { [`${name}/accuracy`]: heldOut.means.accuracy }),
            "time/step": seconds,
            "time/tokens_per_second": batch.reduce((sum, source) => sum + stage.tokens(source), 0) / seconds,
          });
        },
      );
      const how = last ? undefined : context.requested();
      if (checkpointDue || how) await checkpoint(context, active, model, step);
      if (how) throw new RunInterrupted(how);
    }
    const directory = join(context.directory, "model");
    await saveStarted(directory, model, await active.readWeights());
    return { modelDirectory: directory };
  } finally {
    await learner?.release();
    await engine.close();
  }
}

async function checkpoint<Example>(
  context: RunContext,
  learner: SupervisedLearner<Example>,
  model: StartingModel,
  step: number,
): Promise<void> {
  const state = await learner.exportState();
  await context.checkpoints.save(
    step,
    {
      kind: "supervised",
      optimizer: { step: state.step, scheduleStep: state.scheduleStep },
      metricsBytes: context.metricsBytes(),
    },
    async (folder) => {
      await saveStarted(join(folder, MODEL_FOLDER), model, await learner.readWeights());
      await writeOptimizer(folder, state);
    },
    context.bestScore(),
  );
}

/** Saves trained weights with the files of the model they started from; weights that the task left alone are kept. */
async function saveStarted(
  directory: string,
  model: StartingModel,
  learned: ReadonlyMap<string, HostParameter>,
): Promise<void> {
  const tensors = new Map(learned);
  const { weights, json, generationConfig, files, weightVersion } = model;
  for (const [name, data] of weights) {
    if (!tensors.has(name))
      tensors.set(name, { shape: [...(model.shapes.get(name) ?? [data.length])], data });
  }
  await saveCheckpoint(directory, {
    config: json,
    ...(generationConfig ? { generationConfig } : {}),
    tensors,
    weightVersion,
    files,
  });
}

const orders = new Map<string, number[]>();

/** The order of an epoch; the newest two are kept, since consecutive steps ask for the same. */
function orderOf(count: number, seed: number, epoch: number): number[] {
  const key = `${count}/${seed}/${epoch}`;
  const known = orders.get(key);
  if (known) return known;
  const order = Rng.from(seed, "examples", epoch).shuffle(Array.from({ length: count }, (_, i) => i));
  if (orders.size >= 2) orders.delete(orders.keys().next().value as string);
  orders.set(key, order);
  return order;
}
