/** @file Checks of GenerationOptions: how long, where it ends, and which tokens may be chosen. */
import { FinishReason, type Sequence } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Check, must, needs } from "../check.js";
import {
  FIRST,
  greedy,
  idsOf,
  mustBeSame,
  type Options,
  type PolicyTarget,
  sampled,
  thirdToken,
  workTokens,
} from "./target.js";

/** Checks of options. */
export const optionChecks: readonly Check<PolicyTarget>[] = [
  {
    id: "generate/length",
    what: "max_new_tokens, min_new_tokens and ignore_eos are kept",
    async run(target) {
      const eos = await thirdToken(target);
      const most = workTokens(target.info);
      // nearly uniform, so that end-of-sequence is likely where the vocabulary is small
      const noise = { ...sampled(most), temperature: 20, ignoreEos: true };
      const { sequences } = await target.generate(target.prompts, noise, { seed: 1n });
      for (const [i, sequence] of sequences.entries()) {
        const { length } = idsOf(sequence);
        must(
          length === most && sequence.finishReason === FinishReason.LENGTH,
          `ignore_eos: sequences[${i}] has ${length} of ${most} ids and ends by ${FinishReason[sequence.finishReason]}`,
        );
      }
      const options = { ...greedy(10), eosTokenIds: [eos], minNewTokens: 6 };
      const least = await target.continue(options);
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
      const ended = await target.continue(options);
      const ids = idsOf(ended);
      must(ended.finishReason === FinishReason.EOS, `expected EOS, got ${FinishReason[ended.finishReason]}`);
      must(ids.indexOf(eos) === ids.length - 1, `id ${eos} ends ${ids.join(" ")} but is not its last alone`);
    },
  },
  {
    id: "generate/stop-string",
    what: "a stop string ends the sequence once it has occurred, and stays in it",
    async run(target) {
      const whole = await target.continue({ ...greedy(24), ignoreEos: true });
      const stop = stopStringOf(whole.text, FIRST);
      needs(stop !== undefined, "the greedy continuation has no text to stop at");
      const options = { ...greedy(24), ignoreEos: true, stopStrings: [stop] };
      const ended = await target.continue(options);
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
      const plain = await target.continue(greedy(8));
      const banned = [...new Set(idsOf(plain))];
      const options = { ...greedy(8), suppressTokenIds: banned };
      const without = await target.continue(options);
      const found = idsOf(without).filter((id) => banned.includes(id));
      must(found.length === 0, `suppressed ids ${found.join(", ")} were generated`);
    },
  },
  {
    id: "generate/filters",
    what: "top_k 1, a tiny top_p, min_p 1 and a tiny temperature each leave the most probable token alone",
    async run(target) {
      const best = idsOf(await target.continue({ ...greedy(8), ignoreEos: true }));
      const filters: Record<string, Options> = {
        "top_k 1": { topK: 1 },
        "top_p 1e-9": { topP: 1e-9 },
        "min_p 1": { minP: 1 },
        "temperature 1e-4": { temperature: 1e-4 },
      };
      for (const [name, filter] of Object.entries(filters)) {
        const options = { ...sampled(8), ignoreEos: true, ...filter };
        const ids = idsOf(await target.continue(options, { seed: 11n }));
        mustBeSame(ids, best, `sampled ids with ${name}, and greedy ones`);
      }
    },
  },
  {
    id: "generate/repetition",
    what: "no_repeat_ngram_size forbids every second occurrence, repetition_penalty changes what repeats itself",
    async run(target) {
      const size = 2;
      const plain = await target.continue({ ...greedy(24), ignoreEos: true });
      const options = { ...greedy(24), ignoreEos: true, noRepeatNgramSize: size };
      const { prompt, ids } = partsOf(await target.continue(options));
      const all = [...prompt, ...ids];
      const seen = new Set<string>();
      for (let end = size; end <= all.length; end++) {
        const ngram = all.slice(end - size, end).join(" ");
        must(
          end <= prompt.length || !seen.has(ngram),
          `no_repeat_ngram_size ${size}: ${ngram} occurs twice in ${all.join(" ")}`,
        );
        seen.add(ngram);
      }
      const before = partsOf(plain);
      const repeats = before.ids.some((id, i) => [...before.prompt, ...before.ids.slice(0, i)].includes(id));
      if (!repeats) return "repetition_penalty was not tried: the greedy continuation repeats nothing";
      const penalized = await target.continue({ ...greedy(24), ignoreEos: true, repetitionPenalty: 1e6 });
      must(
        idsOf(penalized).join() !== before.ids.join(),
        "repetition_penalty 1e6 changed nothing in a continuation that repeats ids",
      );
      return undefined;
    },
  },
];

function partsOf(sequence: Sequence): { prompt: readonly number[]; ids: readonly number[] } {
  return { prompt: sequence.promptTokens?.ids ?? [], ids: idsOf(sequence) };
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
