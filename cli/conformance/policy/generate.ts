/** @file Checks of Generate: what a reply holds, seeds, and that nothing depends on what shares the batch. */
import type { Sequence } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Check, largest, must, mustBeNear } from "../check.js";
import { mustBeWeightsOf, mustNameWeights } from "../info.js";
import {
  floats,
  greedy,
  idsOf,
  mustBeSame,
  mustBeWhole,
  type PolicyTarget,
  SAMPLER,
  sampled,
} from "./target.js";

/** Checks of Generate and of a policy server's GetInfo. */
export const generateChecks: readonly Check<PolicyTarget>[] = [
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
      const { sequences } = await target.generate(target.prompts, options, { seed: 1n });
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
      const text = await target.continue(greedy(6));
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
      const { prompts } = target;
      const together = (await target.generate(prompts, greedy(12))).sequences;
      for (const [i, prompt] of prompts.entries()) {
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
      const once = (seed: bigint) => target.generate(target.prompts, sampled(16), { seed });
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
      const { prompts } = target;
      const seeded = (indices: readonly number[], offset: number) =>
        indices.map((i) => ({ input: { case: "text", value: prompts[i] }, seed: BigInt(offset + i) }));
      const all = prompts.map((_, i) => i);
      const at = async (indices: readonly number[], offset = 100) =>
        (await target.generate(indices.map(String), sampled(12), { prompts: seeded(indices, offset) }))
          .sequences;
      const together = await at(all);
      const turned = await at(all.toReversed());
      for (const i of all) {
        const [alone] = (await at([i])) as [Sequence];
        const one = together[i] as Sequence;
        must(
          one.seed === BigInt(100 + i),
          `prompts[${i}] has seed ${100 + i}, its sequence says ${one.seed}`,
        );
        mustBeSame(idsOf(alone), idsOf(one), `prompts[${i}] alone and in a batch`);
        const other = turned[prompts.length - 1 - i] as Sequence;
        mustBeSame(idsOf(other), idsOf(one), `prompts[${i}] at another place in the batch`);
      }
      const others = await Promise.all([200, 300, 400, 500].map((offset) => at(all, offset)));
      must(
        others.some((sequences) => sequences.some((s, i) => `${idsOf(s)}` !== `${idsOf(together[i]!)}`)),
        "five seeds of the prompts' own gave the same sequences: they are not used",
      );
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
    id: "generate/logprobs",
    what: "the sampler's log-probabilities are those of LogProbs within 1e-3: before penalties, temperature and filters",
    async run(target) {
      const options = { ...sampled(12), temperature: 0.7, topK: 20, topP: 0.9, repetitionPenalty: 1.3 };
      const { sequences } = await target.generate(target.prompts, options, { seed: 3n });
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
];
