/** @file The BERTScore service under the contract. */
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { type Call, contract, golden } from "./contract.js";

type Methods = (typeof BertScoreService)["method"];

const MODEL = golden("roberta-tiny");
const PAIR = { candidate: "a cat sat", references: ["the cat sat down"] };
const PAIRS = ["a cat", "we open at nine", "the saw hangs on the wall", "no"].map((candidate) => ({
  candidate,
  references: ["the cat sat down"],
}));

const score =
  (request: Parameters<Parameters<Call<Methods>>[0]["score"]>[0]): Call<Methods> =>
  (client) =>
    client.score(request);

export const bertscoreContract = contract<Methods>({
  service: "bertscore",
  desc: BertScoreService,
  args: () => ["--model", MODEL],
  wrong: {
    "no pairs": { field: "pairs", call: score({ pairs: [] }) },
    "a pair without a reference": {
      field: "pairs[1].references",
      call: score({ pairs: [PAIR, { candidate: "a", references: [] }] }),
    },
    "a candidate of megabytes": {
      field: "pairs[0].candidate",
      call: score({ pairs: [{ candidate: "a".repeat(300 * 1024), references: ["b"] }] }),
    },
    "a layer that the model does not have": {
      field: "options.layer",
      call: score({ pairs: [PAIR], options: { layer: 99 } }),
    },
    "a corpus for no idf": {
      field: "options.idf_corpus",
      call: score({ pairs: [PAIR], options: { idfCorpus: ["a"] } }),
    },
    "an explanation of every layer": {
      field: "options.all_layers",
      call: (client) => client.explain({ candidate: "a", reference: "b", options: { allLayers: true } }),
    },
  },
  unmet: { "rescaling without a baseline": score({ pairs: [PAIR], options: { rescale: true } }) },
  unknown: { "another model": score({ pairs: [PAIR], model: "another" }) },
  full: {
    args: () => ["--model", MODEL, "--queue-items", "1", "--batch-delay", "1s"],
    calls: () => PAIRS.map((pair) => score({ pairs: [pair] })),
  },
  loading: { args: (model) => ["--model", model], call: score({ pairs: [PAIR] }) },
  async info(client) {
    const { model, server } = await client.getInfo({});
    return { weights: model?.weights, server };
  },
  limits: [
    "max_tokens",
    "max_items",
    "max_references",
    "max_text_bytes",
    "max_batch_items",
    "max_queue_items",
    "max_queue_tokens",
  ],
  replies: {
    Score: async (client) => [(await client.score({ pairs: [PAIR] })).weights],
    Explain: async (client) => [(await client.explain({ candidate: "a", reference: "b" })).weights],
  },
  order: {
    Score: async (client) => {
      const ask = async (pairs: typeof PAIRS) =>
        (await client.score({ pairs })).results.map(({ score }) => score?.f1);
      return [await ask(PAIRS), (await ask(PAIRS.toReversed())).toReversed()];
    },
  },
});
