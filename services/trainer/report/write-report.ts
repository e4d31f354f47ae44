/**
 * @file Gathers what a report shows and writes it: `evaluation/report.html` of the run's directory.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { Rng } from "../../../lib/dataset/index.js";
import { buildVersion } from "../../../lib/rpc/server-info.js";
import type { ComparisonRow, VariantSummary } from "../evaluate/comparison.js";
import type { PpoRunConfig } from "../run-config.js";
import { writeFileAtomic } from "../runs/files.js";
import { readJournal } from "../runs/journal.js";
import type { RunRecord } from "../runs/record.js";
import type { RunServers } from "../servers/servers.js";
import { differencesToReference } from "./differences.js";
import { explainOne } from "./explain.js";
import { describeModels } from "./identities.js";
import { reportPage } from "./page.js";

/** What was evaluated. */
export interface EvaluatedRun {
  readonly record: RunRecord;
  readonly directory: string;
  readonly config: PpoRunConfig;
  readonly servers: RunServers;
  readonly variants: readonly VariantSummary[];
  readonly rows: readonly ComparisonRow[];
  readonly seed: number;
  readonly signal: AbortSignal;
}

/** Writes the report into the run's `evaluation` folder, which must exist. Returns its path. */
export async function writeReport(run: EvaluatedRun): Promise<string> {
  const { record, directory, config, servers, variants, rows, seed, signal } = run;
  const names = variants.map(({ name }) => name);
  const [models, explanation, files] = await Promise.all([
    describeModels(config, servers, signal),
    explainOne(config, servers, variants, rows, signal),
    digestsOf([
      join(directory, "run.yaml"),
      config.data.train,
      config.data.test ?? "",
      join(directory, "model", "model.safetensors"),
    ]),
  ]);
  const path = join(directory, "evaluation", "report.html");
  const page = reportPage({
    run: record.id,
    startedAt: record.startedAt,
    createdAt: new Date().toISOString(),
    steps: record.step,
    variants,
    rows,
    differences: differencesToReference(names, rows, Rng.from(seed, "paired-bootstrap")),
    metrics: readJournal(join(directory, "metrics.jsonl")) as Record<string, number | null>[],
    explanation,
    models,
    files,
    config: stringify(config),
    facts: {
      "published weights": record.weights
        ? `version ${record.weights.version}, ${record.weights.digest}`
        : "none",
      "PPO profile": config.ppo.profile,
      seed: String(seed),
      rows: `${rows.length} of ${config.data.test ?? config.data.train}`,
      "rlhf-mesh": buildVersion(),
      "Node.js": `${process.version}, ${process.platform} ${process.arch}`,
    },
    repeat: [
      `rlhf eval ${record.id} --rows ${rows.length} --seed ${seed}   # this comparison once more`,
      "rlhf train run.yaml   # the run, from the run file below; leave out addresses of servers that were started for it",
    ],
  });
  writeFileAtomic(path, page);
  return path;
}

async function digestsOf(paths: readonly string[]): Promise<{ path: string; sha256: string }[]> {
  const there = [...new Set(paths)].filter((path) => path !== "" && existsSync(path));
  return Promise.all(
    there.map(async (path) => {
      const hash = createHash("sha256");
      for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
      return { path, sha256: hash.digest("hex") };
    }),
  );
}
