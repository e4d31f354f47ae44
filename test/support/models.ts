/**
 * @file The tiny models of these tests: a policy and a classifier of one layer, made by the trainer's own supervised runs from rows of
 * examples/faq. Made once, when a test first asks for them, and removed when the test process ends.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunState, TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { readRows } from "../../lib/dataset/index.js";
import { awaitRun } from "./runs.js";
import { Sandbox } from "./sandbox.js";

/** Directories of the models, and the rows that they come from. */
export interface TinyModels {
  /** GPT-2, 1 layer, 64 wide. */
  readonly policy: string;
  /** BERT, 1 layer, 48 wide: label 1 for answers that say something, 0 for curt ones. */
  readonly reward: string;
  /** Question/answer rows. */
  readonly train: string;
  readonly test: string;
}

const EXAMPLES = join(packageRoot(), "examples", "faq");
/** An answer of more words says something; the curt ones of the examples have one to four. */
const CURT_WORDS = 8;

let made: Promise<TinyModels> | undefined;

/** The tiny models. */
export function tinyModels(): Promise<TinyModels> {
  made ??= make();
  return made;
}

async function make(): Promise<TinyModels> {
  const directory = mkdtempSync(join(tmpdir(), "rlhf-tiny-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const train = join(EXAMPLES, "train.csv");
  const rows = await readRows(train, { answer: "text" });
  const labels = rows.slice(0, 300).map(({ answer }) => ({
    response: answer,
    label: answer.split(" ").length > CURT_WORDS ? 1 : 0,
  }));
  writeFileSync(join(directory, "labels.jsonl"), labels.map((row) => JSON.stringify(row)).join("\n"));
  const common = { seed: 1, threads: 1, maxTokens: 64, batchSize: 16, checkpoint: { every: 1000 } };
  const size = { heads: 4, positions: 96, layers: 1, tokenizer: { vocabSize: 600 } };
  const sandbox = new Sandbox();
  try {
    const trainer = await sandbox.serve("trainer", ["--runs-dir", directory, "--max-runs", "2"]);
    const client = sandbox.client(TrainerService, trainer.address);
    const run = async (runId: string, config: object) => {
      await client.startRun({ config: JSON.stringify({ ...common, ...config }), runId });
      const end = await awaitRun(client, runId);
      assert.equal(end.state, RunState.FINISHED, `${runId}: ${end.reason}`);
      return end.modelDirectory;
    };
    const [policy, reward] = await Promise.all([
      run("policy", {
        kind: "sft",
        init: { ...size, width: 64 },
        data: { train, maxRows: 200 },
        epochs: 16,
        optimizer: { learningRate: 4e-3, schedule: "cosine", warmupSteps: 10 },
      }),
      run("reward", {
        kind: "reward",
        init: { ...size, family: "bert", width: 48 },
        data: { train: join(directory, "labels.jsonl") },
        epochs: 2,
        optimizer: { learningRate: 2e-3, schedule: "linear", warmupSteps: 10 },
      }),
    ]);
    return { policy, reward, train, test: join(EXAMPLES, "test.csv") };
  } finally {
    await sandbox.close();
  }
}
