/**
 * @file Numbers about one row of logits, [V]: which tokens are still allowed, their probabilities, and which come first in
 * an order, without sorting all of V. −∞ marks a token that was filtered out. V is tens of thousands and this runs for
 * every row of every step, so passes are few and arrays are reused.
 */

/** The tokens of a row that are still allowed, with their probabilities; arrays are scratch, valid until the next call. */
export interface Support {
  /** Number of allowed tokens, N. */
  readonly count: number;
  /** Their ids in rising order, first N entries. */
  readonly ids: Int32Array;
  /** Their probabilities, softmax over the allowed ones, first N entries. */
  readonly probs: Float64Array;
  /** Largest logit. */
  readonly max: number;
  /** log Σ exp(z), so that log p = z − logSumExp. */
  readonly logSumExp: number;
}

let idScratch = new Int32Array(0);
let probScratch = new Float64Array(0);

/** Softmax over the entries above −∞. `count` is 0 where none is left. */
export function support(logits: Float32Array): Support {
  const { count, ids, weights, total, max } = unnormalized(logits);
  for (let n = 0; n < count; n++) weights[n] /= total;
  return { count, ids, probs: weights, max, logSumExp: max + Math.log(total) };
}

/** The allowed tokens with weights exp(z − max) that add up to `total`; arrays are scratch, valid until the next call. */
export function unnormalized(logits: Float32Array) {
  if (idScratch.length < logits.length) {
    idScratch = new Int32Array(logits.length);
    probScratch = new Float64Array(logits.length);
  }
  const ids = idScratch;
  const weights = probScratch;
  let max = Number.NEGATIVE_INFINITY;
  let count = 0;
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (z === Number.NEGATIVE_INFINITY) continue;
    ids[count++] = i;
    if (z > max) max = z;
  }
  for (let n = 0; n < count; n++) weights[n] = logits[ids[n]] - max;
  const total = expInPlace(weights, count);
  return { count, ids, weights, total, max };
}

const TABLE_BITS = 11;
const TABLE_SIZE = 2 ** TABLE_BITS;
const PER_NAT = TABLE_SIZE / Math.LN2;
const NATS = Math.LN2 / TABLE_SIZE;
const FRACTIONS = Float64Array.from({ length: TABLE_SIZE }, (_, i) => 2 ** (i / TABLE_SIZE));
const LOWEST_POWER = -1075;
const POWERS = Float64Array.from({ length: 1 - LOWEST_POWER }, (_, i) => 2 ** (i + LOWEST_POWER));

/**
 * Replaces the first `count` values, none above 0, by their exponentials and returns the sum. A table of 2^(i/2048) and two
 * terms of the series for the rest: relative error below 1e-11, a third of the time of Math.exp. NaN stays NaN.
 */
export function expInPlace(values: Float64Array, count: number): number {
  let sum = 0;
  for (let n = 0; n < count; n++) {
    const x = values[n];
    if (x < -745) {
      values[n] = 0;
      continue;
    }
    const steps = x * PER_NAT;
    const whole = Math.floor(steps);
    const rest = (steps - whole) * NATS;
    const e =
      FRACTIONS[whole & (TABLE_SIZE - 1)] *
      POWERS[(whole >> TABLE_BITS) - LOWEST_POWER] *
      (1 + rest * (1 + 0.5 * rest));
    values[n] = e;
    sum += e;
  }
  return sum;
}

/** Entropy in nats. */
export function entropy({ count, probs }: Support): number {
  let h = 0;
  for (let n = 0; n < count; n++) if (probs[n] > 0) h -= probs[n] * Math.log(probs[n]);
  return h;
}

const BUCKETS = 1024;
/** Keys, in nats, this far below the largest share the last bucket: together they weigh nothing. */
const KEY_RANGE = 40;
const bucketMass = new Float64Array(BUCKETS);

/**
 * Walks positions by falling key (of equal keys the later position first) and adds up their probabilities: the position at which
 * the sum, rounded to float32, reaches `mass`; the last one if it never does. Keys are logits or the like, in nats. Only the
 * bucket of keys in which the sum crosses is sorted.
 */
export function crossing(keys: Float64Array, { count, probs }: Support, mass: number): number {
  let max = Number.NEGATIVE_INFINITY;
  let min = Number.POSITIVE_INFINITY;
  for (let n = 0; n < count; n++) {
    const key = keys[n];
    if (key > max) max = key;
    if (key < min) min = key;
  }
  const perKey = BUCKETS / Math.max(Math.min(max - min, KEY_RANGE), 1e-300);
  const bucketOf = (key: number) => Math.min(BUCKETS - 1, Math.floor((max - key) * perKey));
  bucketMass.fill(0);
  for (let n = 0; n < count; n++) bucketMass[bucketOf(keys[n])] += probs[n];
  let bucket = 0;
  let reached = 0;
  while (bucket < BUCKETS - 1 && Math.fround(reached + bucketMass[bucket]) < mass)
    reached += bucketMass[bucket++];
  const inside: number[] = [];
  for (let n = 0; n < count; n++) if (bucketOf(keys[n]) === bucket) inside.push(n);
  // an empty bucket cannot be the crossing one unless everything above it is all there is
  if (inside.length === 0) return lowest(keys, count);
  inside.sort((a, b) => keys[b] - keys[a] || b - a);
  for (const n of inside) {
    reached += probs[n];
    if (Math.fround(reached) >= mass) return n;
  }
  return inside[inside.length - 1];
}

/** The position of the smallest key, of equal ones the first. */
function lowest(keys: Float64Array, count: number): number {
  let at = 0;
  for (let n = 1; n < count; n++) if (keys[n] < keys[at]) at = n;
  return at;
}

/** The k-th largest value of a row (k from 1), or −∞ where fewer are above −∞. O(V log k). */
export function kthLargest(logits: Float32Array, k: number): number {
  if (k > 4096 || k * 4 > logits.length) {
    const sorted = Float32Array.from(logits).sort(); // rising; NaN last
    return sorted[Math.max(0, sorted.length - k)];
  }
  // a min-heap of the k largest seen so far; most entries fail the first comparison
  const heap = new Float32Array(k).fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (!(z > heap[0])) continue;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= z) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = z;
  }
  return heap[0];
}
