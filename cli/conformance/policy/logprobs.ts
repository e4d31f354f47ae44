/** @file Checks of LogProbs, and of the weight versions that a request may demand. */
import type { Sequence } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Check, largest, mustBeNear, needs } from "../check.js";
import { mustRefuse } from "../target.js";
import {
  floats,
  generation,
  greedy,
  idsOf,
  type PolicyTarget,
  SAME,
  SAMPLER,
  wholeSequences,
} from "./target.js";

/** Checks of LogProbs and versions. */
export const logprobsChecks: readonly Check<PolicyTarget>[] = [
  {
    id: "logprobs/order",
    what: "LogProbs scores each sequence the same alone and in a batch of any order",
    async run(target) {
      const all = await wholeSequences(target);
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
      const [ids] = (await wholeSequences(target)) as [number[]];
      const score = async (start: number | undefined) => {
        const { results } = await target.policy.logProbs({ sequences: [{ tokens: { ids }, start }] });
        const what = `logprobs ${start === undefined ? "without start" : `with start ${start}`}`;
        return floats(results[0]?.logprobs, [ids.length - (start ?? 1)], what);
      };
      const [whole, rest] = [await score(undefined), await score(3)];
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
      const [ids] = (await wholeSequences(target)) as [number[]];
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
];
