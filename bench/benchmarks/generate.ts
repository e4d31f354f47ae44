/**
 * @file generate: greedy generation with repetition penalty by GPT-2 small, in process and through a policy server.
 */
import { FinishReason, PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import type { Gpt2Config } from "../../lib/models/index.js";
import { createClient } from "../../lib/rpc/index.js";
import { Decoder } from "../../services/policy/generation/decoder.js";
import { PolicyModel } from "../../services/policy/model/policy-model.js";
import { WeightStore } from "../../services/policy/model/weight-store.js";
import { resolveOptions } from "../../services/policy/sampling/options.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { generationFlops } from "../flops.js";
import { timeRuns } from "../measure.js";
import { modelJson } from "../models.js";
import { Services } from "../services.js";
import { raggedLengths, randomIds } from "../workload.js";

/** The notebook's penalty: a token that occurred is all but banned. */
export const REPETITION_PENALTY = 10;

interface Case {
  readonly name: string;
  readonly rows: readonly { readonly prompt: readonly number[]; readonly newTokens: number }[];
}

function casesOf(bench: Bench): Case[] {
  const vocab = Number(modelJson("gpt2", bench).vocab_size);
  const [prompt, newTokens] = sized(bench, [20, 60], [5, 4]);
  const rng = Rng.from(3, "generate");
  const rows = (lengths: readonly { prompt: number; newTokens: number }[]) =>
    lengths.map((row) => ({ prompt: randomIds(rng, row.prompt, vocab), newTokens: row.newTokens }));
  const even = (count: number) => rows(Array.from({ length: count }, () => ({ prompt, newTokens })));
  const most = sized(bench, 32, 4);
  return [
    { name: `batch 1, ${prompt}+${newTokens} tokens`, rows: even(1) },
    { name: `batch ${most}, ${prompt}+${newTokens} tokens`, rows: even(most) },
    { name: `batch ${most}, ragged`, rows: rows(raggedLengths(most, sized(bench, 1, 0.1))) },
  ];
}

const tokensOf = ({ rows }: Case) => rows.reduce((sum, { newTokens }) => sum + newTokens, 0);

/** Generation. */
export const generate: Benchmark = {
  name: "generate",
  title: `greedy generation by GPT-2 small, repetition penalty ${REPETITION_PENALTY}`,
  models: ["gpt2"],
  async run(bench) {
    await inProcess(bench);
    await throughServer(bench);
  },
  peer: (bench) => ({
    script: "generate.py",
    input: {
      model: bench.model("gpt2"),
      cases: casesOf(bench),
      repetitionPenalty: REPETITION_PENALTY,
      runs: bench.runs ?? sized(bench, 2, 1),
    },
  }),
};

async function inProcess(bench: Bench): Promise<void> {
  const { device, threads, runs = sized(bench, 3, 1) } = bench;
  const directory = bench.model("gpt2");
  const { model, checkpoint } = await PolicyModel.load({ model: directory, device, intraOpThreads: threads });
  const store = new WeightStore({});
  store.swap({ version: 0, digest: checkpoint.digest, tensors: await model.upload(checkpoint.tensors) });
  const limits = {
    maxRows: 64,
    maxCacheBytes: 2 ** 32,
    maxPromptTokens: 1024,
    maxWaiting: 1024,
    maxWaitingTokens: 2 ** 20,
  };
  const noText = () => new Uint8Array();
  const decoder = new Decoder(model.engine, model, store, model.geometry(), limits, noText);
  const bounds = { vocabSize: model.facts.vocabSize, maxTokens: model.facts.maxTokens };
  const options = { repetitionPenalty: REPETITION_PENALTY, ignoreEos: true };
  try {
    for (const each of casesOf(bench)) {
      bench.say(each.name);
      const sequences = each.rows.map(({ prompt, newTokens }, promptIndex) => ({
        promptIndex,
        returnIndex: 0,
        promptIds: prompt,
        options: resolveOptions({ ...options, maxNewTokens: newTokens }, {}, prompt.length, bounds),
        seed: 1n,
        ownSeed: false,
      }));
      const first: number[] = [];
      const seconds = await timeRuns({ warmup: 1, runs }, async (run) => {
        const outcome = await decoder.generate({ sequences, demand: {} });
        if (run >= 0) first.push(outcome.firstTokenMs);
      });
      addRows(bench, model.config, each, seconds);
      bench.row({ case: each.name, metric: "first token", unit: "ms", samples: first });
    }
  } finally {
    await decoder.close();
    store.close();
    await model.close();
  }
}

function addRows(bench: Bench, config: Gpt2Config, each: Case, seconds: readonly number[]): void {
  const tokens = tokensOf(each);
  const flops = each.rows.reduce(
    (sum, row) => sum + generationFlops(config, row.prompt.length, row.newTokens),
    0,
  );
  const samples = seconds.map((time) => tokens / time);
  bench.row({ case: each.name, metric: "throughput", unit: "tokens/s", samples, flops: flops / tokens });
}

async function throughServer(bench: Bench): Promise<void> {
  const { runs = sized(bench, 3, 1) } = bench;
  const services = new Services(bench, "generate");
  try {
    const { address } = await services.start("policy", ["--model", bench.model("gpt2"), "--pinned"]);
    const client = createClient(PolicyService, address, { deadlineMs: 600_000, retry: false });
    services.onStop(async () => client.close());
    const [, each] = casesOf(bench);
    bench.say(`${each.name} through gRPC`);
    const request = {
      prompts: each.rows.map(({ prompt }) => ({
        input: { case: "tokens" as const, value: { ids: [...prompt] } },
      })),
      options: {
        maxNewTokens: each.rows[0].newTokens,
        repetitionPenalty: REPETITION_PENALTY,
        ignoreEos: true,
      },
    };
    const seconds = await timeRuns({ warmup: 1, runs }, async () => {
      const { sequences } = await client.generate(request);
      const ended = sequences.every(({ finishReason }) => finishReason === FinishReason.LENGTH);
      if (!ended) throw new Error("generate: a sequence ended before its limit");
    });
    const samples = seconds.map((time) => tokensOf(each) / time);
    bench.row({ case: `${each.name}, gRPC`, metric: "throughput", unit: "tokens/s", samples });
  } finally {
    await services.stop();
  }
}
