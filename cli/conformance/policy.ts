/**
 * @file Checks of a policy server: proto/rlhf/policy/v1. What a trainer relies on: seeds, log-probabilities, options, versions. Works
 * with any vocabulary: the ids it sends come from what the server itself generated.
 */
import {
  FinishReason,
  type GenerateRequest,
  type GenerateResponse,
  type GetInfoResponse,
  PolicyService,
  type Sequence,
  type TokenEvent,
} from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { ElementType, type Tensor } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import type { ClientOptions } from "../../lib/rpc/index.js";
import { type Check, largest, must, mustBeNear, needs } from "./check.js";
import { type Described, mustBeWeightsOf, mustNameWeights } from "./info.js";
import { mustRefuse, type Subject, Target } from "./target.js";

/** How far the sampler's log-probabilities and those of LogProbs may be apart, in nats. */
const SAMPLER = 1e-3;
/** How far log-probabilities of the same ids may be apart whatever shares the batch, in nats. */
const SAME = 1e-4;

/** Prompts of several lengths. */
const PROMPTS = [
  "question: when does the shop open?\nanswer:",
  "a",
  "The library is closed on Sundays and on public holidays, but",
  "Thank you",
];

type Init = { [K in keyof GenerateRequest]?: unknown };
type Options = Readonly<Record<string, unknown>>;

let made = 0;

/** What the checks that fit every service must know of this one. */
export const policySubject: Subject = {
  desc: PolicyService,
  probe: () => ({ method: "generate", request: generation(["a"], { maxNewTokens: 2 }) }),
  work: (size) => ({
    method: "generate",
    request: {
      ...generation(
        Array.from({ length: size }, (_, i) => `${++made} ${i}`),
        { maxNewTokens: WORK_TOKENS, ignoreEos: true, doSample: true },
      ),
      seed: BigInt(made),
    },
  }),
  itemsLimit: "max_prompts",
  queueLimit: "max_queue_sequences",
  runningLimit: "max_rows",
  refused: () => ({ method: "generate", request: generation(["a"], { doSample: true, topP: 2 }) }),
};

/** Tokens of each sequence of measured work; every causal model has room for them. */
const WORK_TOKENS = 64;

/** A policy server under test. */
export class PolicyTarget extends Target implements Described {
  constructor(
    address: string,
    options: ClientOptions,
    readonly info: GetInfoResponse | undefined,
  ) {
    super(address, policySubject, options, info?.server);
  }

  get policy() {
    return this.client(PolicyService);
  }

  /** Generates, and fails the check where the reply is not whole. */
  async generate(prompts: readonly string[], options: Options, more: Init = {}): Promise<GenerateResponse> {
    const reply = await this.policy.generate({ ...generation(prompts, options), ...more } as never);
    const each = Number(options.numReturnSequences ?? 1);
    must(
      reply.sequences.length === prompts.length * each,
      `${prompts.length} prompts with ${each} sequences each gave ${reply.sequences.length} sequences`,
    );
    for (const [i, sequence] of reply.sequences.entries()) {
      const place = [sequence.promptIndex, sequence.returnIndex];
      const expected = [Math.floor(i / each), i % each];
      must(
        place.join() === expected.join(),
        `sequences[${i}] is return ${place[1]} of prompt ${place[0]}; expected return ${expected[1]} of prompt ${expected[0]}`,
      );
    }
    return reply;
  }
}

/** Checks of Generate, GenerateStream, LogProbs and a policy server's GetInfo. */
export const policyChecks: readonly Check<PolicyTarget>[] = [
  {
    id: "info/vocabulary",
    what: "GetInfo names the vocabulary, the longest sequence, and ids that end one",
    async run({ info }) {
      must(info !== undefined, "the server has no GetInfo");
      const { vocabSize = 0, maxTokens = 0 } = info.model ?? {};
      must(vocabSize > 0, "model.vocab_size is 0");
      must(maxTokens > 0, "model.max_tokens is 0");
      must(
        info.eosTokenIds.every((id) => id < vocabSize),
        `eos_token_ids has an id above ${vocabSize - 1}`,
      );
      must((info.defaultOptions?.maxNewTokens ?? 0) > 0, "default_options.max_new_tokens is not set");
    },
  },
  {
    id: "generate/batch",
    what: "sequences come by prompt and return index, each with ids, log-probabilities, prompt and an end",
    async run(target) {
      const options = { maxNewTokens: 8, doSample: true, numReturnSequences: 2 };
      const { sequences } = await target.generate(PROMPTS, options, { seed: 1n });
      for (const [i, sequence] of sequences.entries()) mustBeWhole(target, sequence, `sequences[${i}]`, 8);
    },
  },
  {
    id: "generate/version",
    what: "Generate and LogProbs name version and digest of the weights that answered",
    async run(target) {
      const before = (await target.policy.getInfo({})).model?.weights?.version ?? 0n;
      const { weights, sequences } = await target.generate(["a"], { maxNewTokens: 2 });
      mustNameWeights(weights, "Generate: weights");
      const ids = idsOf(sequences[0] as Sequence);
      const scored = await target.policy.logProbs({ sequences: [{ tokens: { ids: [...ids, ...ids] } }] });
      mustNameWeights(scored.weights, "LogProbs: weights");
      const now = await target.policy.getInfo({});
      if (now.model?.weights?.version === before) mustBeWeightsOf(now, weights, "Generate: weights");
    },
  },
  {
    id: "generate/tokens",
    what: "a prompt of ids is read as it is, and comes back in prompt_tokens",
    async run(target) {
      const [text] = (await target.generate(PROMPTS.slice(0, 1), greedy(6))).sequences as [Sequence];
      const ids = text.promptTokens?.ids ?? [];
      const prompts = [{ input: { case: "tokens", value: { ids } } }];
      const [same] = (await target.generate([""], greedy(6), { prompts })).sequences as [Sequence];
      mustBeSame(same.promptTokens?.ids ?? [], ids, "prompt_tokens and the ids that were sent");
      mustBeSame(idsOf(same), idsOf(text), "ids after a prompt of text and of its ids");
    },
  },
  {
    id: "generate/greedy",
    what: "without do_sample the same prompt gives the same ids, alone and in a batch",
    async run(target) {
      const together = (await target.generate(PROMPTS, greedy(12))).sequences;
      for (const [i, prompt] of PROMPTS.entries()) {
        const [alone] = (await target.generate([prompt], greedy(12))).sequences;
        mustBeSame(
          idsOf(alone as Sequence),
          idsOf(together[i] as Sequence),
          `prompts[${i}] alone and in a batch`,
        );
      }
    },
  },
  {
    id: "generate/seed",
    what: "the same seed gives the same sequence, another seed another",
    async run(target) {
      const once = (seed: bigint) => target.generate(PROMPTS, sampled(16), { seed });
      const [first, again] = [await once(7n), await once(7n)];
      for (const [i, sequence] of first.sequences.entries()) {
        mustBeSame(idsOf(again.sequences[i] as Sequence), idsOf(sequence), `prompts[${i}] twice with seed 7`);
      }
      const others = await Promise.all([8n, 9n, 10n, 11n].map(once));
      must(
        others.some(({ sequences }) =>
          sequences.some((s, i) => `${idsOf(s)}` !== `${idsOf(first.sequences[i]!)}`),
        ),
        "five seeds gave the same sequences: the seed is not used",
      );
    },
  },
  {
    id: "generate/own-seed",
    what: "a prompt with its own seed gives the same sequence alone, in a batch and at any place in it",
    async run(target) {
      const seeded = (indices: readonly number[]) =>
        indices.map((i) => ({ input: { case: "text", value: PROMPTS[i] }, seed: BigInt(100 + i) }));
      const all = PROMPTS.map((_, i) => i);
      const at = async (indices: readonly number[]) =>
        (await target.generate(indices.map(String), sampled(12), { prompts: seeded(indices) })).sequences;
      const together = await at(all);
      const turned = await at(all.toReversed());
      for (const i of all) {
        const [alone] = await at([i]);
        mustBeSame(
          idsOf(alone as Sequence),
          idsOf(together[i] as Sequence),
          `prompts[${i}] alone and in a batch`,
        );
        const other = turned[PROMPTS.length - 1 - i] as Sequence;
        mustBeSame(idsOf(other), idsOf(together[i] as Sequence), `prompts[${i}] at another place`);
      }
    },
  },
  {
    id: "generate/returned-seed",
    what: "a request without a seed says which one it drew, and that one repeats it",
    async run(target) {
      const [drawn] = (await target.generate(["a"], sampled(12))).sequences as [Sequence];
      const [again] = (await target.generate(["a"], sampled(12), { seed: drawn.seed })).sequences as [
        Sequence,
      ];
      mustBeSame(idsOf(again), idsOf(drawn), `the sequence again with its seed ${drawn.seed}`);
      const [other] = (await target.generate(["a"], sampled(12))).sequences as [Sequence];
      must(other.seed !== drawn.seed, `two requests without a seed both drew ${drawn.seed}`);
    },
  },
  {
    id: "generate/length",
    what: "max_new_tokens, min_new_tokens and ignore_eos are kept",
    async run(target) {
      const eos = await thirdToken(target);
      const { sequences } = await target.generate(PROMPTS, { ...sampled(10), ignoreEos: true });
      for (const [i, sequence] of sequences.entries()) {
        must(
          idsOf(sequence).length === 10 && sequence.finishReason === FinishReason.LENGTH,
          `ignore_eos: sequences[${i}] has ${idsOf(sequence).length} of 10 ids, ${FinishReason[sequence.finishReason]}`,
        );
      }
      const options = { ...greedy(10), eosTokenIds: [eos], minNewTokens: 6 };
      const [least] = (await target.generate(PROMPTS.slice(0, 1), options)).sequences as [Sequence];
      must(idsOf(least).length >= 6, `min_new_tokens 6 gave ${idsOf(least).length} ids`);
      must(!idsOf(least).slice(0, 5).includes(eos), "min_new_tokens 6: an end-of-sequence id came before");
    },
  },
  {
    id: "generate/eos",
    what: "an id of eos_token_ids ends the sequence, as its last id",
    async run(target) {
      const eos = await thirdToken(target);
      const options = { ...greedy(12), eosTokenIds: [eos] };
      const [ended] = (await target.generate(PROMPTS.slice(0, 1), options)).sequences as [Sequence];
      const ids = idsOf(ended);
      must(ended.finishReason === FinishReason.EOS, `expected EOS, got ${FinishReason[ended.finishReason]}`);
      must(ids.indexOf(eos) === ids.length - 1, `id ${eos} ends ${ids.join(" ")} but is not its last alone`);
    },
  },
  {
    id: "generate/stop-string",
    what: "a stop string ends the sequence once it has occurred, and stays in it",
    async run(target) {
      const [whole] = (await target.generate(PROMPTS.slice(0, 1), { ...greedy(24), ignoreEos: true }))
        .sequences as [Sequence];
      const stop = stopStringOf(whole.text, PROMPTS[0] as string);
      needs(stop !== undefined, "the greedy continuation has no text to stop at");
      const options = { ...greedy(24), ignoreEos: true, stopStrings: [stop] };
      const [ended] = (await target.generate(PROMPTS.slice(0, 1), options)).sequences as [Sequence];
      must(
        ended.finishReason === FinishReason.STOP,
        `stop string ${JSON.stringify(stop)} in ${JSON.stringify(whole.text)}: expected STOP, got ${FinishReason[ended.finishReason]}`,
      );
      must(ended.text.includes(stop), `the text ${JSON.stringify(ended.text)} lost its stop string`);
      mustBeSame(
        idsOf(ended),
        idsOf(whole).slice(0, idsOf(ended).length),
        "ids up to the stop string and without it",
      );
      must(idsOf(ended).length < idsOf(whole).length, "the stop string stopped nothing");
    },
  },
  {
    id: "generate/suppress",
    what: "suppressed ids are never generated",
    async run(target) {
      const [plain] = (await target.generate(PROMPTS.slice(0, 1), greedy(8))).sequences as [Sequence];
      const banned = [...new Set(idsOf(plain))];
      const options = { ...greedy(8), suppressTokenIds: banned };
      const [without] = (await target.generate(PROMPTS.slice(0, 1), options)).sequences as [Sequence];
      const found = idsOf(without).filter((id) => banned.includes(id));
      must(found.length === 0, `suppressed ids ${found.join(", ")} were generated`);
    },
  },
  {
    id: "generate/logprobs",
    what: "the sampler's log-probabilities are those of LogProbs within 1e-3: before penalties, temperature and filters",
    async run(target) {
      const options = { ...sampled(12), temperature: 0.7, topK: 20, topP: 0.9, repetitionPenalty: 1.3 };
      const { sequences } = await target.generate(PROMPTS, options, { seed: 3n });
      const scored = await target.policy.logProbs({
        sequences: sequences.map((sequence) => ({
          tokens: { ids: [...(sequence.promptTokens?.ids ?? []), ...idsOf(sequence)] },
          start: sequence.promptTokens?.ids.length ?? 0,
        })),
      });
      const distances: number[] = [];
      for (const [i, sequence] of sequences.entries()) {
        const count = idsOf(sequence).length;
        const sampler = floats(sequence.logprobs, [count], `sequences[${i}].logprobs`);
        const scorer = floats(scored.results[i]?.logprobs, [count], `results[${i}].logprobs`);
        for (const [t, logprob] of sampler.entries()) {
          mustBeNear(
            logprob,
            scorer[t] as number,
            SAMPLER,
            `sequences[${i}] token ${t}: sampler and LogProbs`,
          );
          distances.push(Math.abs(logprob - (scorer[t] as number)));
        }
      }
      return `largest difference ${largest(distances)}`;
    },
  },
  {
    id: "stream/same",
    what: "GenerateStream gives what Generate gives: each token as it is chosen, then the whole sequence",
    async run(target) {
      const request = { ...generation(PROMPTS, sampled(8)), seed: 5n } as never;
      const { sequences } = await target.policy.generate(request);
      const tokens = new Map<number, TokenEvent[]>();
      const whole = new Map<number, Sequence>();
      for await (const { event, weights } of target.policy.generateStream({ request })) {
        mustNameWeights(weights, "an event's weights");
        if (event.case === "token") {
          const { promptIndex } = event.value;
          must(!whole.has(promptIndex), `prompt ${promptIndex}: a token after its sequence`);
          tokens.set(promptIndex, [...(tokens.get(promptIndex) ?? []), event.value]);
        } else if (event.case === "sequence") {
          whole.set(event.value.promptIndex, event.value);
        }
      }
      for (const [i, sequence] of sequences.entries()) {
        const streamed = whole.get(i);
        must(streamed !== undefined, `prompt ${i}: the stream ended without its sequence`);
        mustBeSame(idsOf(streamed), idsOf(sequence), `prompt ${i}: ids of the stream and of Generate`);
        const events = tokens.get(i) ?? [];
        mustBeSame(
          events.map(({ id }) => id),
          idsOf(sequence),
          `prompt ${i}: ids of the token events and of the sequence`,
        );
        must(
          events.map(({ text }) => text).join("") === sequence.text ||
            sequence.finishReason !== FinishReason.LENGTH,
          `prompt ${i}: the texts of the token events do not make the sequence's text`,
        );
      }
    },
  },
  {
    id: "logprobs/order",
    what: "LogProbs scores each sequence the same alone and in a batch of any order",
    async run(target) {
      const all = await texts(target);
      const score = async (sequences: readonly (readonly number[])[]) => {
        const reply = await target.policy.logProbs({
          sequences: sequences.map((ids) => ({ tokens: { ids: [...ids] } })),
        });
        return reply.results.map((result, i) =>
          floats(result.logprobs, [(sequences[i] as number[]).length - 1], `results[${i}].logprobs`),
        );
      };
      const together = await score(all);
      const turned = await score(all.toReversed());
      const distances: number[] = [];
      for (const [i, ids] of all.entries()) {
        const [alone] = await score([ids]);
        for (const [t, value] of (together[i] as Float32Array).entries()) {
          mustBeNear(
            alone?.[t] as number,
            value,
            SAME,
            `sequences[${i}] token ${t + 1} alone and in a batch`,
          );
          mustBeNear(
            turned[all.length - 1 - i]?.[t] as number,
            value,
            SAME,
            `sequences[${i}] token ${t + 1} in reverse`,
          );
          distances.push(Math.abs((alone?.[t] as number) - value));
        }
      }
      return `largest difference ${largest(distances)}`;
    },
  },
  {
    id: "logprobs/start",
    what: "start chooses the first id that is scored",
    async run(target) {
      const [ids] = (await texts(target)) as [number[]];
      const reply = await target.policy.logProbs({
        sequences: [{ tokens: { ids } }, { tokens: { ids }, start: 3 }],
      });
      const whole = floats(reply.results[0]?.logprobs, [ids.length - 1], "results[0].logprobs");
      const rest = floats(reply.results[1]?.logprobs, [ids.length - 3], "results[1].logprobs");
      for (const [t, value] of rest.entries()) {
        mustBeNear(value, whole[t + 2] as number, SAME, `token ${t + 3} with start 3 and without`);
      }
    },
  },
  {
    id: "logprobs/distribution",
    what: "full_distribution sums to 1 and holds the scored ids; entropy is its entropy",
    async run(target) {
      const vocab = target.info?.model?.vocabSize ?? 0;
      needs(vocab > 0, "GetInfo publishes no model.vocab_size");
      const [ids] = (await texts(target)) as [number[]];
      const sequences = [{ tokens: { ids } }];
      const { results } = await target.policy.logProbs({ sequences, entropy: true, fullDistribution: true });
      const count = ids.length - 1;
      const logprobs = floats(results[0]?.logprobs, [count], "logprobs");
      const entropy = floats(results[0]?.entropy, [count], "entropy");
      const rows = floats(results[0]?.distribution, [count, vocab], "distribution");
      for (let t = 0; t < count; t++) {
        const row = rows.subarray(t * vocab, (t + 1) * vocab);
        let [sum, expected] = [0, 0];
        for (const value of row) {
          sum += Math.exp(value);
          if (value > -Infinity) expected -= Math.exp(value) * value;
        }
        mustBeNear(sum, 1, SAMPLER, `sum of the distribution at position ${t}`);
        mustBeNear(
          row[ids[t + 1] as number] as number,
          logprobs[t] as number,
          SAME,
          `its value for the id at ${t}`,
        );
        mustBeNear(
          entropy[t] as number,
          expected,
          10 * SAMPLER,
          `entropy at position ${t} and of the distribution`,
        );
      }
    },
  },
  {
    id: "version/minimum",
    what: "min_weight_version and weight_version are served or refused with FAILED_PRECONDITION",
    async run(target) {
      const { weights, sequences } = await target.generate(["a"], greedy(3));
      const version = weights?.version ?? 0n;
      await target.generate(["a"], greedy(3), { minWeightVersion: version });
      const ids = idsOf(sequences[0] as Sequence);
      const tokens = { ids: [...ids, ...ids] };
      const never = version + 1_000_000n;
      for (const demand of [{ minWeightVersion: never }, { weightVersion: never }]) {
        const name = Object.keys(demand)[0] as string;
        const request = { ...generation(["a"], greedy(3)), ...demand } as never;
        await mustRefuse(
          target.policy.generate(request),
          `Generate with ${name} ${never}`,
          "FAILED_PRECONDITION",
        );
        const scoring = target.policy.logProbs({ sequences: [{ tokens }], ...demand });
        await mustRefuse(scoring, `LogProbs with ${name} ${never}`, "FAILED_PRECONDITION");
      }
    },
  },
  {
    id: "cancel/stream",
    what: "a stream that its reader leaves is stopped: what comes next does not wait for it",
    async run(target) {
      const options = { ...sampled(WORK_TOKENS), ignoreEos: true };
      const request = { ...generation(Array(16).fill("a"), options), seed: 1n } as never;
      const timed = async () => {
        const began = performance.now();
        await target.policy.generate(request);
        return performance.now() - began;
      };
      await timed();
      const ms = Math.min(await timed(), await timed());
      needs(ms >= 20, `the work takes ${Math.round(ms)} ms: too quick to see whether it was stopped`);
      let after = 0;
      for (let attempt = 1; attempt <= 3; attempt++) {
        const left = Array.from({ length: 8 }, async () => {
          for await (const _ of target.policy.generateStream({ request })) return;
        });
        await Promise.all(left);
        after = await timed();
        if (after <= 3 * ms + 60)
          return `${Math.round(after)} ms after leaving 8 streams of ${Math.round(ms)} ms`;
      }
      must(
        false,
        `work of ${Math.round(ms)} ms took ${Math.round(after)} ms after 8 streams of it were left`,
      );
    },
  },
  ...refusals(),
  {
    id: "limits/items",
    what: "limits[max_prompts] are published, and one prompt more is refused, naming prompts",
    async run(target) {
      const most = target.neededLimit("max_prompts");
      const request = generation(Array(most + 1).fill("a"), greedy(1)) as never;
      await mustRefuse(target.policy.generate(request), `${most + 1} prompts`, "INVALID_ARGUMENT", "prompts");
    },
  },
  {
    id: "limits/text",
    what: "a prompt above limits[max_text_bytes] is refused, naming it",
    async run(target) {
      const most = target.neededLimit("max_text_bytes");
      const request = generation(["a", "é".repeat(most / 2 + 1)], greedy(1)) as never;
      await mustRefuse(
        target.policy.generate(request),
        `${most + 2} bytes`,
        "INVALID_ARGUMENT",
        "prompts[1]",
      );
    },
  },
];

/** Requests that must be refused, with the field that must be named. */
function refusals(): Check<PolicyTarget>[] {
  const cases: readonly (readonly [string, string, string, (target: PolicyTarget) => Init])[] = [
    ["empty", "a call without prompts is refused, naming prompts", "prompts", () => ({ prompts: [] })],
    [
      "no-input",
      "a prompt without text or ids is refused, naming it",
      "prompts[1]",
      () => ({ prompts: [...generation(["a"], {}).prompts, {}] }),
    ],
    [
      "token-id",
      "an id outside the vocabulary is refused, naming its place",
      "prompts[0].tokens.ids[1]",
      ({ info }) => ({
        prompts: [{ input: { case: "tokens", value: { ids: [0, info?.model?.vocabSize ?? 2 ** 31] } } }],
      }),
    ],
    [
      "too-long",
      "a prompt with no room for what is to be generated is refused, naming it",
      "prompts[0]",
      ({ info }) => ({
        prompts: [
          { input: { case: "tokens", value: { ids: Array(info?.model?.maxTokens ?? 2 ** 16).fill(0) } } },
        ],
      }),
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
  return cases.map(([name, what, field, change]) => ({
    id: `errors/${name}`,
    what,
    async run(target) {
      const request = { ...generation(["a"], greedy(2)), ...change(target) } as never;
      await mustRefuse(target.policy.generate(request), name, "INVALID_ARGUMENT", field);
    },
  }));
}

const sampling = (options: Options) => ({ options: { doSample: true, maxNewTokens: 2, ...options } });
const greedy = (maxNewTokens: number) => ({ maxNewTokens, doSample: false });
/** Sampling from the whole distribution, flattened, so that seeds show. */
const sampled = (maxNewTokens: number) => ({
  maxNewTokens,
  doSample: true,
  topK: 0,
  topP: 1,
  temperature: 1.5,
});

function generation(prompts: readonly string[], options: Options) {
  return { prompts: prompts.map((value) => ({ input: { case: "text" as const, value } })), options };
}

const idsOf = ({ tokens }: Sequence): readonly number[] => tokens?.ids ?? [];

/** The third id that greedy generation gives, unless it came before. */
async function thirdToken(target: PolicyTarget): Promise<number> {
  const [plain] = (await target.generate(PROMPTS.slice(0, 1), { ...greedy(8), ignoreEos: true }))
    .sequences as [Sequence];
  const ids = idsOf(plain);
  const at = ids.findIndex((id, i) => i >= 2 && ids.indexOf(id) === i);
  needs(at >= 0, "the greedy continuation repeats its first ids");
  return ids[at] as number;
}

/** Sequences of ids: each prompt with what follows it. */
async function texts(target: PolicyTarget): Promise<number[][]> {
  const { sequences } = await target.generate(PROMPTS, { ...greedy(10), ignoreEos: true });
  return sequences.map((sequence) => [...(sequence.promptTokens?.ids ?? []), ...idsOf(sequence)]);
}

/** A part of `text` from its middle that neither it nor `prompt` had before. */
function stopStringOf(text: string, prompt: string): string | undefined {
  for (let at = Math.floor(text.length / 3); at + 3 < text.length; at++) {
    const part = text.slice(at, at + 3);
    if (
      /^[\x20-\x7e]+$/.test(part) &&
      text.indexOf(part) === at &&
      !(prompt + text.slice(0, at + 2)).includes(part)
    ) {
      return part;
    }
  }
  return undefined;
}

function mustBeWhole(target: PolicyTarget, sequence: Sequence, where: string, most: number): void {
  const ids = idsOf(sequence);
  const vocab = target.info?.model?.vocabSize ?? 2 ** 32;
  must(ids.length > 0 && ids.length <= most, `${where} has ${ids.length} ids; max_new_tokens is ${most}`);
  must(
    ids.every((id) => id < vocab),
    `${where} has an id outside the vocabulary of ${vocab}`,
  );
  must((sequence.promptTokens?.ids.length ?? 0) > 0, `${where}.prompt_tokens is empty`);
  const logprobs = floats(sequence.logprobs, [ids.length], `${where}.logprobs`);
  must(
    logprobs.every((value) => Number.isFinite(value) && value <= SAME),
    `${where}.logprobs has a value above 0 or not finite`,
  );
  const { finishReason } = sequence;
  must(finishReason !== FinishReason.UNSPECIFIED, `${where}.finish_reason is not set`);
  must(
    finishReason !== FinishReason.LENGTH || ids.length === most,
    `${where}.finish_reason is LENGTH at ${ids.length} of ${most} ids`,
  );
}

function mustBeSame(actual: readonly number[], expected: readonly number[], what: string): void {
  must(
    actual.join(" ") === expected.join(" "),
    `${what} differ: ${actual.join(" ")} and ${expected.join(" ")}`,
  );
}

/** The elements of a float32 tensor of a shape. */
function floats(tensor: Tensor | undefined, shape: readonly number[], what: string): Float32Array {
  const is = tensor?.shape.map(Number) ?? [];
  must(tensor !== undefined, `${what} is not set`);
  must(
    tensor.elementType === ElementType.FLOAT32,
    `${what} is ${ElementType[tensor.elementType]}, not FLOAT32`,
  );
  must(is.join() === shape.join(), `${what} has shape [${is.join(", ")}], not [${shape.join(", ")}]`);
  const count = shape.reduce((product, size) => product * size, 1);
  must(
    tensor.data.byteLength === 4 * count,
    `${what} has ${tensor.data.byteLength} bytes for ${count} elements`,
  );
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  return Float32Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true));
}
