/**
 * @file score: texts of 64 tokens through a BERT base classifier, in process and through a reward server.
 */
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { createClient } from "../../lib/rpc/index.js";
import { Classifier } from "../../services/reward/classifier.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { blockFlops } from "../flops.js";
import { timeRuns } from "../measure.js";
import { modelJson } from "../models.js";
import { Services } from "../services.js";
import { median } from "../statistics.js";
import { knownWords, sentence } from "../words.js";

/** Texts of a batch, each of `tokens` tokens, wrapper included. */
function textsOf(bench: Bench, batch: number): string[] {
  const known = knownWords("bert", Number(modelJson("classifier", bench).vocab_size));
  const rng = Rng.from(4, "score", batch);
  return Array.from({ length: batch }, () => sentence(rng, tokensOf(bench) - 2, { known }));
}

const tokensOf = (bench: Bench) => sized(bench, 64, 8);
const batchesOf = (bench: Bench) => sized(bench, [1, 32], [1, 4]);
const caseOf = (bench: Bench, batch: number) => `batch ${batch}, ${tokensOf(bench)} tokens`;

/** Scoring. */
export const score: Benchmark = {
  name: "score",
  title: "texts of 64 tokens through a BERT base classifier, tokenizing included",
  models: ["classifier"],
  async run(bench) {
    const direct = await inProcess(bench);
    const remote = await throughServer(bench);
    for (const [i, batch] of batchesOf(bench).entries()) {
      const added = remote[i] / direct[i] - 1;
      const name = caseOf(bench, batch);
      bench.row({ case: name, metric: "time added by gRPC", unit: "%", samples: [100 * added] });
    }
  },
  peer: (bench) => ({
    script: "score.py",
    input: {
      model: bench.model("classifier"),
      cases: batchesOf(bench).map((batch) => ({ name: caseOf(bench, batch), texts: textsOf(bench, batch) })),
      runs: bench.runs ?? sized(bench, 7, 1),
    },
  }),
};

/** Median seconds of each batch size. */
async function inProcess(bench: Bench): Promise<number[]> {
  const { device, threads } = bench;
  const classifier = await Classifier.load({ model: bench.model("classifier"), device, threads });
  const { flops } = flopsOf(bench);
  try {
    return await measure(bench, "throughput", flops, async (texts) => {
      await classifier.logits(texts.map((text) => classifier.tokenize({ text }, false)));
    });
  } finally {
    await classifier.close();
  }
}

async function throughServer(bench: Bench): Promise<number[]> {
  const services = new Services(bench, "score");
  try {
    const { address } = await services.start("reward", ["--model", bench.model("classifier")]);
    const client = createClient(RewardService, address, { deadlineMs: 60_000, retry: false });
    services.onStop(async () => client.close());
    return await measure(bench, "throughput through gRPC", undefined, async (texts) => {
      const { results } = await client.score({ texts });
      if (results.length !== texts.length) throw new Error(`score: ${results.length} results`);
    });
  } finally {
    await services.stop();
  }
}

async function measure(
  bench: Bench,
  metric: string,
  flops: number | undefined,
  work: (texts: string[]) => Promise<void>,
): Promise<number[]> {
  const medians: number[] = [];
  for (const batch of batchesOf(bench)) {
    bench.say(`${metric}, batch ${batch}`);
    const texts = textsOf(bench, batch);
    const runs = bench.runs ?? sized(bench, batch === 1 ? 60 : 9, 2);
    const seconds = await timeRuns({ warmup: sized(bench, 3, 1), runs }, () => work(texts));
    medians.push(median(seconds));
    const samples = seconds.map((time) => batch / time);
    bench.row({ case: caseOf(bench, batch), metric, unit: "texts/s", samples, ...(flops ? { flops } : {}) });
  }
  return medians;
}

/** Operations of one text; the classifier needs only one row of the last block, which is not taken off. */
function flopsOf(bench: Bench): { flops: number } {
  const json = modelJson("classifier", bench);
  const sizes = {
    layers: Number(json.num_hidden_layers),
    hiddenSize: Number(json.hidden_size),
    innerSize: Number(json.intermediate_size),
    vocabSize: 0,
  };
  return { flops: blockFlops(sizes, tokensOf(bench)) };
}
