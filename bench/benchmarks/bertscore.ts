/**
 * @file bertscore: pairs of sentences of 45 words through RoBERTa base and large, at the layers that bert_score compares, in
 * process. Every run gets new sentences and nothing is kept between runs, so each sentence is encoded.
 */
import { Rng } from "../../lib/dataset/index.js";
import { SentenceEncoder } from "../../services/bertscore/sentence-encoder.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { blockFlops } from "../flops.js";
import { timeRuns } from "../measure.js";
import { type ModelName, modelJson } from "../models.js";
import { knownWords, sentence } from "../words.js";

/** Share of words outside the vocabulary: with it a word has 1.3 tokens on average, as English has. */
const UNKNOWN = 0.3;

interface Case {
  readonly model: ModelName;
  readonly layer: number;
}

const casesOf = (bench: Bench): Case[] => [
  { model: "roberta-base", layer: sized(bench, 10, 1) },
  { model: "roberta-large", layer: sized(bench, 17, 2) },
];

const caseName = ({ model, layer }: Case) => `${model}, layer ${layer}`;

/** Pairs [candidate, reference] of one run. */
function pairsOf(bench: Bench, run: number): [string, string][] {
  const [pairs, words] = sized(bench, [128, 45], [4, 5]);
  const known = knownWords("roberta", Number(modelJson("roberta-base", bench).vocab_size));
  const rng = Rng.from(5, "bertscore", run + 10);
  const text = () => sentence(rng, words, { known, unknown: UNKNOWN });
  return Array.from({ length: pairs }, () => [text(), text()]);
}

const runsOf = (bench: Bench) => bench.runs ?? sized(bench, 3, 1);

/** BERTScore. */
export const bertscore: Benchmark = {
  name: "bertscore",
  title: "BERTScore of 128 pairs of 45 words, tokenizing and matching included",
  models: ["roberta-base", "roberta-large"],
  async run(bench) {
    for (const each of casesOf(bench)) await runCase(bench, each);
  },
  peer: (bench) => ({
    script: "bertscore.py",
    input: {
      cases: casesOf(bench).map((each) => ({
        name: caseName(each),
        model: bench.model(each.model),
        layer: each.layer,
      })),
      // the warm-up and then one set of pairs for each run
      runs: Array.from({ length: 1 + runsOf(bench) }, (_, run) => pairsOf(bench, run - 1)),
    },
  }),
};

async function runCase(bench: Bench, each: Case): Promise<void> {
  bench.say(caseName(each));
  const { device, threads } = bench;
  const json = modelJson(each.model, bench);
  const width = Number(json.hidden_size);
  const sizes = { layers: each.layer, hiddenSize: width, innerSize: 4 * width, vocabSize: 0 };
  const encoder = await SentenceEncoder.load({
    model: bench.model(each.model),
    device,
    threads,
    cacheBytes: 0,
    layer: each.layer,
  });
  const work: { pairs: number; flops: number }[] = [];
  try {
    const seconds = await timeRuns({ warmup: 1, runs: runsOf(bench) }, async (run) => {
      let flops = 0;
      const weighted = (text: string) => {
        const { ids } = encoder.tokenize(text, true);
        flops += blockFlops(sizes, ids.length);
        const weights = new Float32Array(ids.length).fill(1, 1, -1); // wrapper tokens weigh nothing
        return { ids, weights };
      };
      const items = pairsOf(bench, run).map(([candidate, reference]) => ({
        candidate: weighted(candidate),
        references: [weighted(reference)],
        layers: [each.layer],
        explain: false,
      }));
      const scores = await encoder.score(items);
      if (scores.some((item) => !("scores" in item))) throw new Error("bertscore: a score is not finite");
      if (run >= 0) work.push({ pairs: items.length, flops: flops / items.length });
    });
    const samples = seconds.map((time, run) => work[run].pairs / time);
    const flops = work.reduce((sum, one) => sum + one.flops, 0) / work.length;
    bench.row({ case: caseName(each), metric: "throughput", unit: "pairs/s", samples, flops });
  } finally {
    await encoder.close();
  }
}
