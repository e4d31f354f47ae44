import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/index.js";
import { createEngine } from "../../lib/engine/index.js";
import { rolloutMetrics, scalarsOf } from "./loop/batch-metrics.js";
import type { ScoredBatch, ScoredSample } from "./loop/rollout-stage.js";
import { RUN_METRICS, runMetricOf } from "./metrics-catalogue.js";
import { metricsPage } from "./metrics-page.js";
import { ppoOptionsSchema } from "./ppo/options.js";
import { PpoState } from "./ppo/state.js";
import { ppoStep } from "./ppo/step.js";
import { tinyBatch, tinyLearner } from "./ppo/testing/tiny-policy.js";
import { readJournal } from "./runs/journal.js";
import { RunManager } from "./runs/manager.js";
import { runEncoder } from "./supervised/encoder-run.js";
import { runReward } from "./supervised/reward-run.js";
import { runSft } from "./supervised/sft-run.js";

const root = packageRoot();

/** Metrics that a PPO step emits under a set of statistics. */
async function ppoMetrics(statistics: "trl-0.7.11" | "trl-0.2.1"): Promise<string[]> {
  const engine = await createEngine({ intraOpThreads: 1 });
  const options = ppoOptionsSchema.parse({ statistics, batchSize: 4, minibatchSize: 4, epochs: 1 });
  const learner = await tinyLearner(engine, options);
  try {
    const { samples } = await tinyBatch(engine, options);
    const { stats } = await ppoStep(
      learner,
      { samples: samples.map((sample) => ({ ...sample, weightVersion: 1 })), weightVersion: 1 },
      options,
      { state: new PpoState(options), order: (_epoch, count) => Array.from({ length: count }, (_, i) => i) },
    );
    return Object.keys(scalarsOf(stats));
  } finally {
    await learner.release();
    await engine.close();
  }
}

/** Metrics of a rollout with both control tokens and two terms. */
function rolloutNames(): string[] {
  const scored = (control: string) => ({
    sample: { responseIds: [1], control, finish: "eos", weightVersion: 1 },
    reward: { outcome: { kind: "scored", score: 1 }, terms: { classifier: 1, my_length2: 0.5 } },
  });
  const samples = [scored("[good]"), scored("[bad]")] as unknown as ScoredSample[];
  const batch: ScoredBatch = {
    samples,
    moments: {},
    seconds: { generate: 1, score: 1, reference: 1 },
    retries: 0,
  };
  const config = { control: { tokens: ["[good]", "[bad]"], placement: "prompt" as const } };
  return Object.keys(rolloutMetrics(config, batch, samples, 1));
}

/** Metrics of tiny runs of all supervised stages, as their metrics.jsonl has them. */
async function supervisedNames(folder: string): Promise<string[]> {
  const manager = new RunManager({
    runsDirectory: join(folder, "runs"),
    log: { info() {}, warn() {}, error() {} },
    runners: {
      ...{ sft: runSft, reward: runReward, encoder: runEncoder },
      ppo: async () => assert.fail("another kind of run"),
    },
  });
  writeFileSync(
    join(folder, "rows.csv"),
    "question,answer\nwhere is it?,it is here.\nwho is it?,it is ann.\n",
  );
  writeFileSync(join(folder, "labels.csv"), `response,label\n${"kind words,1\ngo away,0\n".repeat(5)}`);
  const size = "layers: 1, width: 16, heads: 2, positions: 32, tokenizer: { vocabSize: 320 }";
  const common = `threads: 1, epochs: 1, batchSize: 4, init: { ${size} }`;
  const files = {
    sft: `{ kind: sft, ${common}, data: { train: rows.csv, test: rows.csv } }`,
    reward: `{ kind: reward, ${common}, data: { train: labels.csv, heldOut: 0.2 } }`,
    encoder: `{ kind: encoder, ${common}, data: { train: rows.csv, heldOut: 0.3 } }`,
  };
  const names = new Set<string>();
  for (const [id, text] of Object.entries(files)) {
    manager.start(text, folder, id);
    const record = await manager.finished(id);
    assert.equal(record.state, "FINISHED", record.reason);
    for (const line of readJournal(join(folder, "runs", id, "metrics.jsonl"))) {
      for (const name of Object.keys(line as object)) if (name !== "step") names.add(name);
    }
  }
  return [...names];
}

/** Metric names that the trainer's sources spell out: what the loop adds around the parts above. */
function namesInSources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "testing" ? [] : namesInSources(path);
    if (!entry.name.endsWith(".ts") || /\.test\.ts$|^metrics-/.test(entry.name)) return [];
    const spelled =
      /"((?:env|rollout|objective|ppo|tokens|time|reward|sft|classifier|mlm|alarms?)\/[a-z0-9_/]+)"/g;
    return [...readFileSync(path, "utf8").matchAll(spelled)].map((match) => match[1] as string);
  });
}

/** Statistics that are vectors, which metrics.jsonl leaves out. */
const VECTORS = [
  "objective/kl_dist",
  "objective/logprobs",
  "objective/ref_logprobs",
  "ppo/policy/advantages",
  "ppo/policy/ratio",
  "tokens/queries_dist",
  "tokens/responses_dist",
];

describe("the metrics of a run", function () {
  this.timeout(120_000);
  let folder: string;
  let emitted: Set<string>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-metrics-"));
    emitted = new Set([
      ...(await ppoMetrics("trl-0.7.11")),
      ...(await ppoMetrics("trl-0.2.1")),
      ...rolloutNames(),
      ...(await supervisedNames(folder)),
      ...namesInSources(join(root, "services", "trainer")).filter((name) => !VECTORS.includes(name)),
    ]);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("that are emitted are all in the catalogue", () => {
    assert.ok(emitted.size > 50, `only ${emitted.size} found`);
    assert.deepEqual(
      [...emitted].filter((name) => runMetricOf(name) === undefined),
      [],
    );
  });

  it("that are in the catalogue are all emitted", () => {
    const missing = Object.keys(RUN_METRICS).filter((name) => !emitted.has(name) && !name.includes("{"));
    assert.deepEqual(missing, []);
    assert.ok(emitted.has("reward/my_length2"));
  });

  it("say what they are in a sentence, with a formula", () => {
    for (const [name, { says, formula }] of Object.entries(RUN_METRICS)) {
      assert.match(says, /^[A-Z].*\.$/, name);
      assert.ok(formula.length > 0, name);
    }
  });

  it("and every instrument stand in docs/metrics.md as the catalogues have them", () => {
    const page = readFileSync(join(root, "docs", "metrics.md"), "utf8");
    assert.equal(
      page,
      metricsPage(),
      "docs/metrics.md is behind: run `npm run build && node scripts/metrics-page.mjs`",
    );
  });
});
