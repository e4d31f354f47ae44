/** @file Requests that a policy server must refuse, with the field that must be named, and the limits of requests. */
import { type Check, must, ofBytes } from "../check.js";
import { mustRefuse } from "../target.js";
import { generation, greedy, type Init, type PolicyTarget, sampling, wholeSequences } from "./target.js";

type Case = readonly [id: string, what: string, field: string, request: (target: PolicyTarget) => Init];

/** Changes of a Generate that make it wrong. */
const GENERATE: readonly Case[] = [
  ["empty", "a call without prompts is refused, naming prompts", "prompts", () => ({ prompts: [] })],
  ["no-input", "a prompt without text or ids is refused, naming it", "prompts[0]", () => ({ prompts: [{}] })],
  [
    "token-id",
    "an id outside the vocabulary is refused, naming its place",
    "prompts[0].tokens.ids[1]",
    ({ info }) => ({ prompts: [idsPrompt([0, info?.model?.vocabSize ?? 2 ** 31])] }),
  ],
  [
    "too-long",
    "a prompt with no room for what is to be generated is refused, naming it",
    "prompts[0]",
    ({ info }) => ({ prompts: [idsPrompt(Array(info?.model?.maxTokens ?? 2 ** 16).fill(0))] }),
  ],
  [
    "temperature",
    "temperature 0 is refused, naming it",
    "options.temperature",
    () => sampling({ temperature: 0 }),
  ],
  ["top-p", "top_p above 1 is refused, naming it", "options.top_p", () => sampling({ topP: 1.5 })],
  ["top-k", "a negative top_k is refused, naming it", "options.top_k", () => sampling({ topK: -1 })],
  [
    "penalty",
    "repetition_penalty 0 is refused, naming it",
    "options.repetition_penalty",
    () => sampling({ repetitionPenalty: 0 }),
  ],
  [
    "new-tokens",
    "max_new_tokens 0 is refused, naming it",
    "options.max_new_tokens",
    () => ({ options: { maxNewTokens: 0 } }),
  ],
  [
    "sequences",
    "several sequences without do_sample are refused, naming num_return_sequences",
    "options.num_return_sequences",
    () => ({ options: { numReturnSequences: 2, doSample: false } }),
  ],
];

/** LogProbs that are wrong. */
const LOGPROBS: readonly Case[] = [
  [
    "logprobs-empty",
    "LogProbs without sequences is refused, naming sequences",
    "sequences",
    () => ({ sequences: [] }) as Init,
  ],
  [
    "logprobs-short",
    "a sequence of one id, of which none can be scored, is refused, naming it",
    "sequences[0].tokens",
    () => ({ sequences: [{ tokens: { ids: [0] } }] }) as Init,
  ],
  [
    "logprobs-start",
    "a start beyond the sequence is refused, naming it",
    "sequences[0].start",
    () => ({ sequences: [{ tokens: { ids: [0, 0, 0] }, start: 3 }] }) as Init,
  ],
  [
    "logprobs-token-id",
    "an id outside the vocabulary is refused by LogProbs too, naming its place",
    "sequences[0].tokens.ids[2]",
    ({ info }) => ({ sequences: [{ tokens: { ids: [0, 0, info?.model?.vocabSize ?? 2 ** 31] } }] }) as Init,
  ],
];

/** Checks of refusals and of the limits of requests. */
export const refusalChecks: readonly Check<PolicyTarget>[] = [
  ...GENERATE.map(([name, what, field, change]) => ({
    id: `errors/${name}`,
    what,
    async run(target: PolicyTarget) {
      const request = { ...generation(["a"], greedy(2)), ...change(target) } as never;
      await mustRefuse(target.policy.generate(request), name, "INVALID_ARGUMENT", field);
    },
  })),
  ...LOGPROBS.map(([name, what, field, request]) => ({
    id: `errors/${name}`,
    what,
    async run(target: PolicyTarget) {
      await mustRefuse(target.policy.logProbs(request(target) as never), name, "INVALID_ARGUMENT", field);
    },
  })),
  {
    id: "errors/stream",
    what: "GenerateStream refuses what Generate refuses, before its first event, naming request.options.top_p",
    async run(target) {
      const request = { ...generation(["a"], {}), ...sampling({ topP: 1.5 }) } as never;
      let events = 0;
      const read = async () => {
        for await (const _ of target.policy.generateStream({ request })) events++;
      };
      await mustRefuse(read(), "a stream with top_p 1.5", "INVALID_ARGUMENT", "request.options.top_p");
      must(events === 0, `${events} events came before the refusal`);
    },
  },
  {
    id: "limits/items",
    what: "limits[max_prompts] prompts are accepted, one more is refused, naming prompts",
    async run(target) {
      const most = target.neededLimit("max_prompts");
      const prompts = Array(Math.min(most, target.limit("max_sequences") ?? most)).fill("a");
      await target.generate(prompts, greedy(1));
      const request = generation(Array(most + 1).fill("a"), greedy(1)) as never;
      await mustRefuse(target.policy.generate(request), `${most + 1} prompts`, "INVALID_ARGUMENT", "prompts");
    },
  },
  {
    id: "limits/scored",
    what: "limits[max_prompts] sequences are scored, one more is refused, naming sequences",
    async run(target) {
      const most = target.neededLimit("max_prompts");
      const [ids] = (await wholeSequences(target)) as [number[]];
      const sequences = Array(most).fill({ tokens: { ids: ids.slice(0, 3) } });
      const { results } = await target.policy.logProbs({ sequences });
      must(results.length === most, `${most} sequences gave ${results.length} results`);
      const call = target.policy.logProbs({ sequences: [...sequences, sequences[0]] });
      await mustRefuse(call, `${most + 1} sequences`, "INVALID_ARGUMENT", "sequences");
    },
  },
  {
    id: "limits/sequences",
    what: "prompts times num_return_sequences above limits[max_sequences] are refused, naming the latter",
    async run(target) {
      const most = target.neededLimit("max_sequences");
      const options = { ...sampling({ numReturnSequences: most + 1, maxNewTokens: 1 }).options };
      const call = target.policy.generate(generation(["a"], options) as never);
      await mustRefuse(call, `${most + 1} sequences`, "INVALID_ARGUMENT", "options.num_return_sequences");
    },
  },
  {
    id: "limits/stop-strings",
    what: "limits[max_stop_strings] stop strings are accepted, one more is refused, naming stop_strings",
    async run(target) {
      const most = target.neededLimit("max_stop_strings");
      const stopStrings = Array.from({ length: most }, (_, i) => `never ${i}`);
      await target.generate(["a"], { ...greedy(1), stopStrings });
      const options = { ...greedy(1), stopStrings: [...stopStrings, "one more"] };
      const call = target.policy.generate(generation(["a"], options) as never);
      await mustRefuse(call, `${most + 1} stop strings`, "INVALID_ARGUMENT", "options.stop_strings");
    },
  },
  {
    id: "limits/text",
    what: "a prompt above limits[max_text_bytes] is refused, naming it",
    async run(target) {
      const most = target.neededLimit("max_text_bytes");
      const call = target.policy.generate(generation([ofBytes(most + 1)], greedy(1)) as never);
      await mustRefuse(call, `a prompt of ${most + 1} bytes`, "INVALID_ARGUMENT", "prompts[0]");
    },
  },
];

function idsPrompt(ids: readonly number[]) {
  return { input: { case: "tokens", value: { ids } } };
}
