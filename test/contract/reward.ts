/** @file The reward service under the contract. */
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { type Call, contract, golden } from "./contract.js";

type Methods = (typeof RewardService)["method"];

const MODEL = golden("bert-tiny-classifier");
const TEXTS = ["thank you, that helps", "no", "we open at nine on weekdays", "😀", ""];
const LONG = "word ".repeat(2000);

const score =
  (request: Parameters<Parameters<Call<Methods>>[0]["score"]>[0]): Call<Methods> =>
  (client) =>
    client.score(request);

export const rewardContract = contract<Methods>({
  service: "reward",
  desc: RewardService,
  args: () => ["--model", MODEL],
  wrong: {
    "no texts": { field: "texts", call: score({ texts: [] }) },
    "more texts than a request may hold": { field: "texts", call: score({ texts: Array(257).fill("a") }) },
    "second texts for some": { field: "text_pairs", call: score({ texts: ["a", "b"], textPairs: ["c"] }) },
    "a label that the model does not have": {
      field: "label",
      call: score({ texts: ["a"], label: "nobody" }),
    },
    "a text longer than the model, uncut": { field: "texts[1]", call: score({ texts: ["a", LONG] }) },
    "a text of megabytes": {
      field: "texts[0]",
      call: score({ texts: ["a".repeat(300 * 1024)], truncate: true }),
    },
  },
  unmet: {}, // its weights never change, and no request demands any
  unknown: { "another model": score({ texts: ["a"], model: "another" }) },
  full: {
    args: () => ["--model", MODEL, "--queue-items", "1", "--batch-delay", "1s"],
    calls: () => TEXTS.map((text) => score({ texts: [text] })),
  },
  loading: { args: (model) => ["--model", model], call: score({ texts: ["a"] }) },
  async info(client) {
    const { model, server } = await client.getInfo({});
    return { weights: model?.weights, server };
  },
  limits: [
    "max_tokens",
    "max_items",
    "max_text_bytes",
    "max_batch_items",
    "max_queue_items",
    "max_queue_tokens",
  ],
  replies: { Score: async (client) => [(await client.score({ texts: ["a"] })).weights] },
  order: {
    Score: async (client) => {
      const ask = async (texts: readonly string[]) =>
        (await client.score({ texts: [...texts] })).results.map(({ scores }) => scores[0]?.logit);
      return [await ask(TEXTS), (await ask(TEXTS.toReversed())).toReversed()];
    },
  },
});
