/**
 * @file ppo-batch: whole batches of PPO on GPT-2 small with a BERT base classifier: 32 rows of a question/answer file, from prompt to
 * published weights, as processes on loopback. Profile `notebook` is 128 optimizer steps on one row each; `default` is 4 epochs of
 * minibatches of 8.
 */
import type { Gpt2Config } from "../../lib/models/index.js";
import { parseModelConfig } from "../../lib/models/index.js";
import { loadTokenizer } from "../../lib/tokenizer/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { blockFlops, generationFlops, logitFlops } from "../flops.js";
import { HealthProbe } from "../health-probe.js";
import { modelJson } from "../models.js";
import { TrainerRun } from "../trainer-run.js";
import { knownWords } from "../words.js";
import { type QaRow, qaRows, raggedLengths } from "../workload.js";
import { REPETITION_PENALTY } from "./generate.js";
import { addHealthRows } from "./health.js";

type Profile = "notebook" | "default";

/** Control tokens of the run; both take as many of the policy's tokens. */
const CONTROL = ["[good]", "[poor]"];

/** Between two health checks of a service: rarely enough to cost the batch nothing. */
const PROBE_MS = 200;

/** The phases of a batch, and the metric of the run that times each. */
const PHASES: readonly (readonly [phase: string, metric: string])[] = [
  ["whole batch", "time/batch"],
  ["generate", "time/generate"],
  ["score", "time/score"],
  ["reference", "time/reference"],
  ["learn", "time/learn"],
  ["publish", "time/publish"],
];

const rowsIn = (bench: Bench) => sized(bench, 32, 4);
const lengthsOf = (bench: Bench) => raggedLengths(rowsIn(bench), sized(bench, 1, 0.4));
const runsOf = (bench: Bench) => bench.runs ?? sized(bench, 3, 1);

/** PPO options; both profiles generate as many tokens as the file says, so that the work is known. */
function ppoOptions(bench: Bench, profile: Profile): Record<string, unknown> {
  const common = {
    profile,
    batchSize: rowsIn(bench),
    newTokens: "question-and-answer-words",
    eosStops: false,
  };
  if (profile === "notebook") return common;
  // random weights move far at first: nothing may end a step early
  return {
    ...common,
    minibatchSize: sized(bench, 8, 2),
    epochs: 4,
    earlyStopping: false,
    ratioThreshold: null,
  };
}

/** A batch of PPO. */
export const ppoBatch: Benchmark = {
  name: "ppo-batch",
  title: "a batch of PPO: 32 rows, mean 23 prompt and 60 new tokens, GPT-2 small, BERT base reward",
  models: ["gpt2", "classifier"],
  rounds: 1,
  async run(bench) {
    for (const profile of ["notebook", "default"] as const) await runProfile(bench, profile);
  },
  peer: (bench) => ({
    script: "ppo_batch.py",
    input: {
      model: bench.model("gpt2"),
      classifier: bench.model("classifier"),
      lengths: lengthsOf(bench),
      repetitionPenalty: REPETITION_PENALTY,
      profiles: { notebook: { epochs: 4 }, default: { epochs: 4, minibatchSize: sized(bench, 8, 2) } },
      forwardBatchSize: sized(bench, 16, 2),
      runs: 1,
    },
  }),
};

async function runProfile(bench: Bench, profile: Profile): Promise<void> {
  const runs = runsOf(bench);
  const run = new TrainerRun(bench, {
    name: `ppo-batch-${profile}`,
    rows: await rowsOf(bench),
    batches: 1 + runs,
    config: {
      ppo: ppoOptions(bench, profile),
      control: { tokens: CONTROL },
      generation: { doSample: true, topK: 1, repetitionPenalty: REPETITION_PENALTY },
    },
  });
  const config = parseModelConfig(modelJson("gpt2", bench)) as Gpt2Config;
  const steps: Readonly<Record<string, number>>[] = [];
  let probe: HealthProbe | undefined;
  try {
    for await (const step of run.steps()) {
      bench.say(`${profile}: batch ${steps.length + 1} of ${1 + runs}, ${step["time/batch"].toFixed(1)} s`);
      steps.push(step);
      probe ??= new HealthProbe(run.services.running, PROBE_MS);
    }
    const measured = steps.slice(1); // the first batch starts everything up
    const flops = batchFlops(bench, config, profile);
    for (const [metric, name] of PHASES) {
      const samples = measured.map((step) => step[name]);
      const work = flops[metric];
      bench.row({
        case: profile,
        metric,
        unit: "s",
        samples,
        ...(work === undefined ? {} : { flops: work }),
      });
    }
    addHealthRows(bench, profile, await probe!.stop());
    probe = undefined;
  } finally {
    await probe?.stop().catch(() => {});
    await run.services.stop();
  }
}

async function rowsOf(bench: Bench): Promise<QaRow[]> {
  const tokenizer = await loadTokenizer(bench.model("gpt2"));
  const known = knownWords("gpt2", Number(modelJson("gpt2", bench).vocab_size));
  const overhead = Math.max(
    ...CONTROL.map((token) => tokenizer.encode(token, { addSpecialTokens: false }).ids.length),
  );
  return qaRows(lengthsOf(bench), { tokenizer, known, overhead });
}

/** Operations by phase; scoring is left out of the whole, because its tokens depend on what is generated. */
function batchFlops(bench: Bench, config: Gpt2Config, profile: Profile): Record<string, number> {
  const lengths = lengthsOf(bench);
  const total = (of: (prompt: number, newTokens: number) => number) =>
    lengths.reduce((sum, { prompt, newTokens }) => sum + of(prompt, newTokens), 0);
  // the notebook trains on the query and its copy inside the response, and reports the entropy of every position
  const notebook = profile === "notebook";
  const response = (prompt: number, newTokens: number) => newTokens + (notebook ? prompt : 0);
  const sequence = (prompt: number, newTokens: number) => prompt + response(prompt, newTokens);
  const forward = total((q, g) => blockFlops(config, sequence(q, g)) + logitFlops(config, response(q, g)));
  const entropy = notebook ? total((q) => logitFlops(config, q)) : 0; // at the positions that the loss does not need
  const generate = total((q, g) => generationFlops(config, q, g));
  const learn = forward + 4 * (3 * forward + entropy); // old log-probabilities once, then 4 epochs
  return { generate, reference: forward, learn, "whole batch": generate + forward + learn };
}
