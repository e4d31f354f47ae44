/**
 * @file Logits warpers: what sampling does to one row of logits, [V], in place, with the formulas of Hugging Face
 * transformers' generation/logits_process.py (5.x). A removed token becomes −∞. Each sees what the one before left, and
 * each keeps at least one token. Pure.
 */
import { crossing, entropy, kthLargest, support } from "./distribution.js";
import type { LogitsProcessor } from "./processors.js";

const REMOVED = Number.NEGATIVE_INFINITY;

/** z / T, T > 0. */
export function temperature(t: number): LogitsProcessor {
  return (logits) => {
    for (let i = 0; i < logits.length; i++) logits[i] /= t;
  };
}

/** Keeps what is at least the k-th largest logit; ties at that value all stay. */
export function topK(k: number): LogitsProcessor {
  return (logits) => {
    const threshold = kthLargest(logits, Math.min(Math.max(k, 1), logits.length));
    for (let i = 0; i < logits.length; i++) if (logits[i] < threshold) logits[i] = REMOVED;
  };
}

/**
 * Keeps a token exactly when all tokens ranked above it together have probability below p, so the one that crosses p
 * stays. Of equal probabilities the higher id ranks higher. Sums are rounded to float32 as upstream's are, so that
 * a share that is exactly p in float32 counts as reached.
 */
export function topP(p: number): LogitsProcessor {
  return (logits) => {
    const row = support(logits);
    const { count, ids } = row;
    if (count === 0) return;
    const keys = keysOf(count);
    for (let n = 0; n < count; n++) keys[n] = logits[ids[n]];
    const last = crossing(keys, row, p);
    const threshold = keys[last];
    for (let n = 0; n < count; n++) {
      if (keys[n] < threshold || (keys[n] === threshold && n < last)) logits[ids[n]] = REMOVED;
    }
  };
}

/** Removes what is less than `share` as probable as the best. */
export function minP(share: number): LogitsProcessor {
  const distance = Math.log(share);
  return (logits) => {
    let max = REMOVED;
    for (let i = 0; i < logits.length; i++) if (logits[i] > max) max = logits[i];
    for (let i = 0; i < logits.length; i++) if (logits[i] - max < distance) logits[i] = REMOVED;
  };
}

/**
 * Locally typical sampling (arXiv:2202.00666): in order of |−log p − H|, keeps tokens until their probability reaches
 * `mass`; the crossing one and everything tied with it stay.
 */
export function typicalP(mass: number): LogitsProcessor {
  return (logits) => {
    const row = support(logits);
    const { count, ids, logSumExp } = row;
    if (count === 0) return;
    const h = entropy(row);
    const keys = keysOf(count); // −|−log p − H|: the largest is the most typical
    for (let n = 0; n < count; n++) keys[n] = -Math.abs(logSumExp - logits[ids[n]] - h);
    const threshold = keys[crossing(keys, row, mass)];
    for (let n = 0; n < count; n++) if (keys[n] < threshold) logits[ids[n]] = REMOVED;
  };
}

let keyScratch = new Float64Array(0);

/** Scratch for at least `count` keys. */
function keysOf(count: number): Float64Array {
  if (keyScratch.length < count) keyScratch = new Float64Array(count);
  return keyScratch;
}

function removeBelow(
  logits: Float32Array,
  cut: number,
  { count, ids, probs, max }: ReturnType<typeof support>,
) {
  for (let n = 0; n < count; n++) if (probs[n] < cut && logits[ids[n]] < max) logits[ids[n]] = REMOVED;
}

/** Removes tokens with probability below `cut`, never the best ones (arXiv:2210.15191). */
export function epsilonCutoff(cut: number): LogitsProcessor {
  return (logits) => removeBelow(logits, cut, support(logits));
}

/** As epsilon, with the cut min(e, √e · exp(−H)) that follows the row's entropy (arXiv:2210.15191). */
export function etaCutoff(e: number): LogitsProcessor {
  return (logits) => {
    const row = support(logits);
    removeBelow(logits, Math.min(e, Math.sqrt(e) * Math.exp(-entropy(row))), row);
  };
}

const TOP_H_CANDIDATES = 100;

/**
 * Entropy-bounded sampling (transformers 5.x): among the 100 largest logits, renormalised to entropy H, keeps tokens from
 * the best down while the running sum of −p ln p is at most share · H; the best always stays.
 */
export function topH(share: number): LogitsProcessor {
  return (logits) => {
    const threshold = kthLargest(logits, Math.min(TOP_H_CANDIDATES, logits.length));
    for (let i = 0; i < logits.length; i++) if (logits[i] < threshold) logits[i] = REMOVED;
    const { count, ids, probs } = support(logits); // renormalised over the candidates
    const ranked = Array.from({ length: count }, (_, n) => n)
      .sort((a, b) => probs[b] - probs[a] || b - a)
      .slice(0, TOP_H_CANDIDATES);
    const terms = ranked.map((n) => (probs[n] > 0 ? -probs[n] * Math.log(probs[n]) : 0));
    const limit = share * terms.reduce((sum, term) => sum + term, 0);
    let kept = 0;
    for (let running = 0; kept < ranked.length; kept++) {
      running += terms[kept];
      if (kept > 0 && running > limit) break;
    }
    const stays = new Set(ranked.slice(0, kept).map((n) => ids[n]));
    for (let n = 0; n < count; n++) if (!stays.has(ids[n])) logits[ids[n]] = REMOVED;
  };
}

/** z − log Σ exp(z): log-probabilities over what is left. */
export const renormalize: LogitsProcessor = (logits) => {
  const { count, ids, logSumExp } = support(logits);
  for (let n = 0; n < count; n++) logits[ids[n]] -= logSumExp;
};
