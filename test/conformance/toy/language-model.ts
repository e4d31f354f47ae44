/**
 * @file A toy causal language model: one token a character, logits that are a hash of the last two tokens and the position, so that it
 * never falls into a loop. Options as Hugging Face's generate has them, as far as the contract is checked.
 */
import type { GenerationOptions } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { mixed, signed } from "./hash.js";

/** End of sequence, the first id; then a line break and the printable characters of ASCII. */
export const EOS = 0;
/** Ids. */
export const VOCAB = 97;
/** Longest sequence. */
export const MOST_TOKENS = 160;

/** How a sequence is continued, nothing left out. */
export interface Rules {
  maxNewTokens: number;
  minNewTokens: number;
  doSample: boolean;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  noRepeatNgramSize: number;
  eos: readonly number[];
  stopStrings: readonly string[];
  suppress: readonly number[];
}

/** What came of it. */
export interface Continuation {
  readonly ids: number[];
  /** Under the model itself. */
  readonly logprobs: number[];
  readonly ended: "eos" | "stop" | "length";
}

/** Options with their defaults. */
export function rulesOf(options: GenerationOptions | undefined): Rules {
  const named = options?.eosTokenIds.length ? options.eosTokenIds : [EOS];
  return {
    maxNewTokens: options?.maxNewTokens ?? 20,
    minNewTokens: options?.minNewTokens ?? 0,
    doSample: options?.doSample ?? false,
    temperature: options?.temperature ?? 1,
    topK: options?.topK ?? 50,
    topP: options?.topP ?? 1,
    minP: options?.minP ?? 0,
    repetitionPenalty: options?.repetitionPenalty ?? 1,
    noRepeatNgramSize: options?.noRepeatNgramSize ?? 0,
    eos: options?.ignoreEos ? [] : named,
    stopStrings: options?.stopStrings ?? [],
    suppress: options?.suppressTokenIds ?? [],
  };
}

/** Ids of a text; characters that are not ASCII read as "?". */
export function encode(text: string): number[] {
  return [...text].map((character) => {
    if (character === "\n") return 1;
    const code = character.charCodeAt(0);
    return code >= 32 && code < 127 ? code - 30 : "?".charCodeAt(0) - 30;
  });
}

/** Text of ids, without the end of sequence. */
export function decode(ids: readonly number[]): string {
  return ids.map((id) => (id === EOS ? "" : id === 1 ? "\n" : String.fromCharCode(id + 30))).join("");
}

/** Logits of the next token; `shift` moves positions, which is a mistake. */
export function logitsAfter(ids: readonly number[], shift = 0): number[] {
  const [before = 0, last = 0] = [ids.at(-2), ids.at(-1)];
  const context = mixed(before, last, ids.length + shift);
  return Array.from({ length: VOCAB }, (_, id) => 1.5 * signed(mixed(context, id)));
}

/** Logits as log-probabilities. */
export function logSoftmax(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0)) + most;
  return logits.map((logit) => logit - total);
}

/** Continues a prompt. */
export function generate(
  prompt: readonly number[],
  rules: Rules,
  random: () => number,
  logitsOf: (ids: readonly number[]) => number[],
): Continuation {
  const ids: number[] = [];
  const logprobs: number[] = [];
  for (;;) {
    const all = [...prompt, ...ids];
    const logits = logitsOf(all);
    const id = choose(processed(logits, all, ids.length, rules), rules, random);
    ids.push(id);
    logprobs.push(logSoftmax(logits)[id] as number);
    if (rules.eos.includes(id)) return { ids, logprobs, ended: "eos" };
    const tail = rules.stopStrings.length > 0 ? decode([...prompt, ...ids]) : "";
    if (rules.stopStrings.some((stop) => tail.endsWith(stop))) return { ids, logprobs, ended: "stop" };
    if (ids.length === rules.maxNewTokens) return { ids, logprobs, ended: "length" };
  }
}

function processed(
  logits: readonly number[],
  all: readonly number[],
  generated: number,
  rules: Rules,
): number[] {
  const { repetitionPenalty: penalty, noRepeatNgramSize: size } = rules;
  const scores = [...logits];
  for (const id of new Set(all)) {
    const score = scores[id] as number;
    scores[id] = score > 0 ? score / penalty : score * penalty;
  }
  if (size > 0) {
    const tail = all.slice(all.length - size + 1).join();
    for (let at = 0; at + size <= all.length; at++) {
      if (all.slice(at, at + size - 1).join() === tail) scores[all[at + size - 1] as number] = -Infinity;
    }
  }
  if (generated < rules.minNewTokens) for (const id of rules.eos) scores[id] = -Infinity;
  for (const id of rules.suppress) scores[id] = -Infinity;
  return scores;
}

function choose(scores: readonly number[], rules: Rules, random: () => number): number {
  if (!rules.doSample) return scores.indexOf(Math.max(...scores));
  const ranked = logSoftmax(scores.map((score) => score / rules.temperature))
    .map((logprob, id) => ({ id, p: Math.exp(logprob) }))
    .sort((a, b) => b.p - a.p);
  const most = ranked[0]?.p ?? 0;
  let before = 0;
  const kept = ranked.filter(({ p }, rank) => {
    const keep =
      (rules.topK === 0 || rank < rules.topK) &&
      (rank === 0 || before < rules.topP) &&
      p >= rules.minP * most;
    before += p;
    return keep;
  });
  let left = random() * kept.reduce((sum, { p }) => sum + p, 0);
  for (const { id, p } of kept) {
    left -= p;
    if (left < 0) return id;
  }
  return kept.at(-1)?.id ?? 0;
}
