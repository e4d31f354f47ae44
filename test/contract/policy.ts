/** @file The policy service under the contract. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GenerateRequestSchema } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import {
  type GenerateRequest,
  type GenerateStreamResponse,
  PolicyService,
} from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import type { Client } from "../../lib/rpc/index.js";
import { type Call, contract, golden } from "./contract.js";

type Methods = (typeof PolicyService)["method"];
type Request = MessageInitShape<typeof GenerateRequestSchema>;
type Options = NonNullable<Request["options"]>;

const MODEL = golden("gpt2-tiny");
const PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]];
const tokens = (ids: readonly number[]) => ({ input: { case: "tokens" as const, value: { ids: [...ids] } } });
const text = (value: string) => ({ input: { case: "text" as const, value } });
/** No weights of this version were ever published. */
const NOT_HELD = 9n;

const generate =
  (request: Request): Call<Methods> =>
  (client) =>
    client.generate(request);
const withOptions = (options: Options) => generate({ prompts: [tokens([5])], options });
const logProbs =
  (sequences: { tokens: { ids: number[] }; start?: number }[], more: object = {}): Call<Methods> =>
  (client) =>
    client.logProbs({ sequences, ...more });

async function streamed(client: Client<Methods>, request: Request): Promise<GenerateStreamResponse[]> {
  const events: GenerateStreamResponse[] = [];
  for await (const event of client.generateStream({ request: request as GenerateRequest }))
    events.push(event);
  return events;
}

export const policyContract = contract<Methods>({
  service: "policy",
  desc: PolicyService,
  args: () => ["--model", MODEL, "--pinned"],
  wrong: {
    "no prompts": { field: "prompts", call: generate({ prompts: [] }) },
    "a prompt that says nothing": { field: "prompts[1]", call: generate({ prompts: [tokens([5]), {}] }) },
    "an empty text": { field: "prompts[0].text", call: generate({ prompts: [text("")] }) },
    "no ids": { field: "prompts[0].tokens.ids", call: generate({ prompts: [tokens([])] }) },
    "an id outside the vocabulary": {
      field: "prompts[1].tokens.ids[1]",
      call: generate({ prompts: [tokens([5]), tokens([5, 1e6])] }),
    },
    "more ids than the model has positions": {
      field: "prompts[0].tokens.ids",
      call: generate({ prompts: [tokens(Array(200).fill(5))] }),
    },
    "nothing to generate": { field: "options.max_new_tokens", call: withOptions({ maxNewTokens: 0 }) },
    "a temperature of 0": { field: "options.temperature", call: withOptions({ temperature: 0 }) },
    "a temperature that is no number": {
      field: "options.temperature",
      call: withOptions({ temperature: Number.NaN }),
    },
    "a top_k below 0": { field: "options.top_k", call: withOptions({ topK: -1 }) },
    "a top_p above 1": { field: "options.top_p", call: withOptions({ topP: 1.5 }) },
    "a repetition penalty of 0": {
      field: "options.repetition_penalty",
      call: withOptions({ repetitionPenalty: 0 }),
    },
    "several sequences without sampling": {
      field: "options.num_return_sequences",
      call: withOptions({ numReturnSequences: 3 }),
    },
    "an end token outside the vocabulary": {
      field: "options.eos_token_ids[0]",
      call: withOptions({ eosTokenIds: [1e6] }),
    },
    "an empty stop string": { field: "options.stop_strings[0]", call: withOptions({ stopStrings: [""] }) },
    "a version below 0": {
      field: "weight_version",
      call: generate({ prompts: [tokens([5])], weightVersion: -1n }),
    },
    "a wrong option in a stream": {
      field: "request.options.top_p",
      call: (client) => streamed(client, { prompts: [tokens([5])], options: { topP: 0 } }),
    },
    "no sequences to score": { field: "sequences", call: logProbs([]) },
    "a sequence of one id": { field: "sequences[0].tokens.ids", call: logProbs([{ tokens: { ids: [5] } }]) },
    "a start behind the end": {
      field: "sequences[1].start",
      call: logProbs([{ tokens: { ids: [5, 6] } }, { tokens: { ids: [5, 6] }, start: 2 }]),
    },
  },
  unmet: {
    "a version that is not held, of Generate": generate({
      prompts: [tokens([5])],
      weightVersion: NOT_HELD,
    }),
    "a least version above the one held, of Generate": generate({
      prompts: [tokens([5])],
      minWeightVersion: NOT_HELD,
    }),
    "a version that is not held, of GenerateStream": (client) =>
      streamed(client, { prompts: [tokens([5])], weightVersion: NOT_HELD }),
    "a version that is not held, of LogProbs": logProbs([{ tokens: { ids: [5, 6] } }], {
      weightVersion: NOT_HELD,
    }),
    "a least version above the one held, of LogProbs": logProbs([{ tokens: { ids: [5, 6] } }], {
      minWeightVersion: NOT_HELD,
    }),
  },
  unknown: {},
  full: {
    args: () => ["--model", MODEL, "--pinned", "--max-rows", "1", "--queue-sequences", "1"],
    calls: () =>
      Array.from({ length: 12 }, () =>
        generate({ prompts: [tokens([5])], options: { maxNewTokens: 100, ignoreEos: true } }),
      ),
  },
  loading: { args: (model) => ["--model", model, "--pinned"], call: withOptions({ maxNewTokens: 1 }) },
  async info(client) {
    const { model, server } = await client.getInfo({});
    return { weights: model?.weights, server };
  },
  limits: [
    "max_tokens",
    "max_prompts",
    "max_sequences",
    "max_text_bytes",
    "max_stop_strings",
    "max_rows",
    "max_queue_sequences",
    "max_queue_tokens",
  ],
  replies: {
    Generate: async (client) => [(await client.generate({ prompts: [tokens([5])] })).weights],
    "every event of GenerateStream": async (client) =>
      (await streamed(client, { prompts: [tokens([5]), tokens([6])] })).map(({ weights }) => weights),
    LogProbs: async (client) => [
      (await client.logProbs({ sequences: [{ tokens: { ids: [5, 6] } }] })).weights,
    ],
  },
  order: {
    Generate: async (client) => {
      const ask = async (prompts: readonly number[][]) => {
        const { sequences } = await client.generate({
          prompts: prompts.map(tokens),
          options: { maxNewTokens: 4 },
        });
        return sequences.map(({ promptTokens, tokens }) => [promptTokens?.ids, tokens?.ids].join(" → "));
      };
      return [await ask(PROMPTS), (await ask(PROMPTS.toReversed())).toReversed()];
    },
    LogProbs: async (client) => {
      const sequences = PROMPTS.map((ids) => ({ tokens: { ids: [...ids, 20] } }));
      const ask = async (given: typeof sequences) => {
        const { results } = await client.logProbs({ sequences: given });
        return results.map(({ logprobs }) => {
          const { buffer, byteOffset, byteLength } = Buffer.from(logprobs?.data ?? new Uint8Array());
          return [...new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))].at(-1);
        });
      };
      return [await ask(sequences), (await ask(sequences.toReversed())).toReversed()];
    },
  },
});
