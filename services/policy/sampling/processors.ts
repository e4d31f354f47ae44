/**
 * @file Logits processors: rules that hold in greedy search and in sampling alike, with the formulas of Hugging Face
 * transformers' generation/logits_process.py. In and out: one row of logits, [V], changed in place; a token that must
 * not be chosen becomes −∞. `history` is the row's prompt and generated ids. Pure otherwise.
 */
import type { TokenHistory } from "./token-history.js";

/** A rule on one row of logits, [V], in place. */
export type LogitsProcessor = (logits: Float32Array, history: TokenHistory) => void;

const BANNED = Number.NEGATIVE_INFINITY;

function ban(logits: Float32Array, ids: readonly number[]): void {
  for (const id of ids) if (id >= 0 && id < logits.length) logits[id] = BANNED;
}

function banAllBut(logits: Float32Array, ids: readonly number[]): void {
  logits.fill(BANNED);
  for (const id of ids) if (id >= 0 && id < logits.length) logits[id] = 0;
}

/** Each id already present is made less likely, once: z · p below zero, z / p from zero on (arXiv:1909.05858). */
export function repetitionPenalty(penalty: number): LogitsProcessor {
  return (logits, { distinct }) => {
    for (const id of distinct) {
      if (id >= logits.length) continue;
      logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
  };
}

/** No sequence of `size` ids occurs twice: bans every id that would complete one seen before. Size 1 bans all ids present. */
export function noRepeatNgram(size: number): LogitsProcessor {
  return (logits, { ids }) => {
    const start = ids.length - (size - 1); // where the newest size − 1 ids begin
    if (start < 0) return;
    for (let at = 0; at + size <= ids.length; at++) {
      let same = true;
      for (let i = 0; i < size - 1 && same; i++) same = ids[at + i] === ids[start + i];
      if (same) logits[ids[at + size - 1]] = BANNED;
    }
  };
}

/**
 * Bans the last id of each sequence whenever the row ends with the ids before it; a sequence of one id is always
 * banned. A sequence that is just one end-of-sequence id is left out, as upstream does.
 */
export function badWords(
  sequences: readonly (readonly number[])[],
  eosIds: readonly number[],
): LogitsProcessor {
  const kept = sequences.filter((ids) => ids.length > 0 && !(ids.length === 1 && eosIds.includes(ids[0])));
  return (logits, { ids }) => {
    for (const sequence of kept) {
      const prefix = sequence.length - 1;
      if (prefix > ids.length) continue;
      let same = true;
      for (let i = 0; i < prefix && same; i++) same = ids[ids.length - prefix + i] === sequence[i];
      if (same) ban(logits, [sequence[prefix]]);
    }
  };
}

/** Bans end of sequence while prompt and generated ids together are fewer than `length`. */
export function minLength(length: number, eosIds: readonly number[]): LogitsProcessor {
  return (logits, history) => {
    if (history.length < length) ban(logits, eosIds);
  };
}

/** Bans end of sequence while fewer than `count` ids were generated. */
export function minNewTokens(count: number, eosIds: readonly number[]): LogitsProcessor {
  return (logits, history) => {
    if (history.generated < count) ban(logits, eosIds);
  };
}

/** Only `id` may follow a row of exactly one id. */
export function forcedBos(id: number): LogitsProcessor {
  return (logits, history) => {
    if (history.length === 1) banAllBut(logits, [id]);
  };
}

/** Only `ids` may be the last of `maxNewTokens`. */
export function forcedEos(ids: readonly number[], maxNewTokens: number): LogitsProcessor {
  return (logits, history) => {
    if (history.generated === maxNewTokens - 1) banAllBut(logits, ids);
  };
}

const LARGEST = 3.4028234663852886e38; // of float32

/** NaN → 0, +∞ → the largest float, −∞ → the lowest. */
export const removeInvalidValues: LogitsProcessor = (logits) => {
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (Number.isNaN(z)) logits[i] = 0;
    else if (z === Number.POSITIVE_INFINITY) logits[i] = LARGEST;
    else if (z === BANNED) logits[i] = -LARGEST;
  }
};

/** Once more than `start` ids were generated, end of sequence gains |z| · (factor^(generated − start) − 1). */
export function exponentialDecayLength(
  start: number,
  factor: number,
  eosIds: readonly number[],
): LogitsProcessor {
  return (logits, { generated }) => {
    if (generated <= start) return;
    const gain = factor ** (generated - start) - 1;
    for (const id of eosIds) if (id >= 0 && id < logits.length) logits[id] += Math.abs(logits[id]) * gain;
  };
}

/** Bans `ids` everywhere. */
export function suppressTokens(ids: readonly number[]): LogitsProcessor {
  return (logits) => ban(logits, ids);
}

/** Bans `ids` at the first generated position only. */
export function beginSuppressTokens(ids: readonly number[]): LogitsProcessor {
  return (logits, { generated }) => {
    if (generated === 0) ban(logits, ids);
  };
}
