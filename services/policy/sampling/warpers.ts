/**
 * @file Logits warpers: what sampling does to one row of logits, [V], in place, with the formulas of Hugging Face
 * transformers' generation/logits_process.py (5.x). A removed token becomes −∞. Each sees what the one before left, and
 * each keeps at least one token. Pure.
 */
import { entropy, FallingOrder, kthLargest, support } from "./distribution.js";
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
 * stays. Of equal probabilities the higher id ranks higher. Probabilities are rounded to float32 as upstream's are,
 * so that a share that is exactly p in float32 counts as reached.
 */
export function topP(p: number): LogitsProcessor {
  return (logits) => {
    const { count, ids, probs } = support(logits);
    const order = new FallingOrder(probs, count);
    let above = 0;
    let first = true;
    for (let n = order.pop(); n !== undefined && (first || Math.fround(above) < p); n = order.pop()) {
      above += Math.fround(probs[n]);
      probs[n] = -1; // kept; the heap does not look at it again
      first = false;
    }
    for (let n = 0; n < count; n++) if (probs[n] !== -1) logits[ids[n]] = REMOVED;
  };
}

/** Removes what is less than `share` as probable as the best. */
export function minP(share: number): LogitsProcessor {
  return (logits) => {
    let max = REMOVED;
    for (let i = 0; i < logits.length; i++) if (logits[i] > max) max = logits[i];
    for (let i = 0; i < logits.length; i++) {
      if (logits[i] !== max && Math.exp(logits[i] - max) < share) logits[i] = REMOVED;
    }
  };
}

/**
 * Locally typical sampling (arXiv:2202.00666): in order of |−log p − H|, keeps tokens until their probability reaches
 * `mass`; the crossing one and everything tied with it stay.
 */
export function typicalP(mass: number): LogitsProcessor {
  return (logits) => {
    const row = support(logits);
    const { count, ids, probs, logSumExp } = row;
    const h = entropy(row);
    const closeness = new Float64Array(count); // −|−log p − H|: the largest is the most typical
    for (let n = 0; n < count; n++) closeness[n] = -Math.abs(logSumExp - logits[ids[n]] - h);
    const order = new FallingOrder(closeness, count);
    let reached = 0;
    let last = REMOVED;
    for (let n = order.pop(); n !== undefined; n = order.pop()) {
      last = closeness[n];
      reached += probs[n];
      if (reached >= mass) break;
    }
    for (let n = 0; n < count; n++) if (closeness[n] < last) logits[ids[n]] = REMOVED;
  };
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
    const { count, ids, probs } = support(logits);
    const order = new FallingOrder(probs, count);
    const best: number[] = [];
    let mass = 0;
    for (let n = order.pop(); n !== undefined && best.length < TOP_H_CANDIDATES; n = order.pop()) {
      best.push(n);
      mass += probs[n];
    }
    const terms = best.map((n) => (probs[n] > 0 ? -(probs[n] / mass) * Math.log(probs[n] / mass) : 0));
    const limit = share * terms.reduce((sum, term) => sum + term, 0);
    const kept = new Set<number>();
    let running = 0;
    for (let rank = 0; rank < best.length; rank++) {
      running += terms[rank];
      if (rank > 0 && running > limit) break;
      kept.add(ids[best[rank]]);
    }
    for (let n = 0; n < count; n++) if (!kept.has(ids[n])) logits[ids[n]] = REMOVED;
  };
}

/** z − log Σ exp(z): log-probabilities over what is left. */
export const renormalize: LogitsProcessor = (logits) => {
  const { count, ids, logSumExp } = support(logits);
  for (let n = 0; n < count; n++) logits[ids[n]] -= logSumExp;
};
