/**
 * @file `rlhf demo`: the whole loop on one machine in a few minutes. Makes a small GPT-2, a small BERT reward model and an
 * encoder for BERTScore from examples/faq, tunes the policy by PPO with all servers as processes, and compares before and after.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parse } from "yaml";
import { RunState } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { packageRoot } from "../../lib/config/index.js";
import { CliError, EXIT } from "../exit-codes.js";
import { provideNatsServer } from "../nats-package.js";
import { type Output, paint } from "../output.js";
import { formatSeconds } from "../progress.js";
import type { RunKindName } from "../run-file.js";
import { type TrainingOptions, TrainingSession } from "../training.js";

/** Options of the demo. */
export interface DemoOptions extends TrainingOptions {
  readonly seed: number;
  readonly batches?: number;
}

type Document = Record<string, unknown>;

/** Runs the demo. Throws CliError if a stage fails or is interrupted. */
export async function demo(options: DemoOptions, output: Output): Promise<void> {
  const started = performance.now();
  const examples = join(packageRoot(), "examples", "faq");
  const prefix = demoPrefix(resolve(options.runsDir));
  if (!options.nats) await provideNatsServer(output);
  const session = new TrainingSession(options, output);
  const stage = async (kind: RunKindName, what: string, change: (document: Document) => void) => {
    output.say();
    output.say(paint("bold", what));
    const document = parse(readFileSync(join(examples, `${kind}.yaml`), "utf8")) as Document;
    document.seed = options.seed;
    change(document);
    const run = await session.run({
      config: JSON.stringify(document),
      baseDirectory: examples,
      kind,
      runId: `${prefix}-${kind}`,
    });
    if (run.state !== RunState.FINISHED) throw new CliError(`run ${run.id} did not finish`, EXIT.interrupted);
    return run;
  };
  try {
    const policy = await stage("sft", "1. A small GPT-2 learns to answer questions", () => {});
    const reward = await stage("reward", "2. A small BERT learns which answers people would like", () => {});
    const encoder = await stage("encoder", "3. A small encoder learns the words, for BERTScore", () => {});
    const tuned = await stage("ppo", "4. PPO tunes the policy by calling the model servers", (document) => {
      document.model = policy.modelDirectory;
      document.servers = {
        ...(document.servers as Document),
        reward: { model: reward.modelDirectory },
        bertscore: {
          ...(document.servers as { bertscore?: Document }).bertscore,
          model: encoder.modelDirectory,
        },
      };
      if (options.batches !== undefined) document.batches = options.batches;
    });
    output.say();
    await session.evaluate(tuned.id);
    output.say();
    output.say(`run directory: ${tuned.directory}`);
    output.say(`tuned model:   ${tuned.modelDirectory}`);
    output.say(`took ${formatSeconds((performance.now() - started) / 1000)}`);
  } finally {
    await session.close();
  }
}

/** `demo-2026-11-24-10-20-30`: the four runs of one demo stand together in the list. */
function demoPrefix(runsDirectory: string): string {
  mkdirSync(runsDirectory, { recursive: true });
  const stamp = new Date()
    .toISOString()
    .replace(/\.\d+Z$/, "")
    .replace(/[:T]/g, "-");
  return `demo-${stamp}`;
}
