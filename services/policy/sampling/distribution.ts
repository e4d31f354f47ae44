/**
 * @file Numbers about one row of logits, [V]: which tokens are still allowed, their probabilities, and a heap that
 * hands tokens out in order without sorting all of V. −∞ marks a token that was filtered out.
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
  if (idScratch.length < logits.length) {
    idScratch = new Int32Array(logits.length);
    probScratch = new Float64Array(logits.length);
  }
  let max = Number.NEGATIVE_INFINITY;
  let count = 0;
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (z === Number.NEGATIVE_INFINITY) continue;
    idScratch[count++] = i;
    if (z > max) max = z;
  }
  let sum = 0;
  for (let n = 0; n < count; n++) {
    const e = Math.exp(logits[idScratch[n]] - max);
    probScratch[n] = e;
    sum += e;
  }
  for (let n = 0; n < count; n++) probScratch[n] /= sum;
  return { count, ids: idScratch, probs: probScratch, max, logSumExp: max + Math.log(sum) };
}

/** Entropy in nats. */
export function entropy({ count, probs }: Support): number {
  let h = 0;
  for (let n = 0; n < count; n++) if (probs[n] > 0) h -= probs[n] * Math.log(probs[n]);
  return h;
}

/** A binary heap over `keys[0..count)`: `pop` gives positions by falling key; of equal keys the later position first. */
export class FallingOrder {
  readonly #keys: Float64Array;
  readonly #heap: Int32Array;
  #size: number;

  constructor(keys: Float64Array, count: number) {
    this.#keys = keys;
    this.#size = count;
    this.#heap = new Int32Array(count);
    for (let i = 0; i < count; i++) this.#heap[i] = i;
    for (let i = (count >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  /** Positions not yet handed out. */
  get size(): number {
    return this.#size;
  }

  /** The position with the largest key left; undefined when all are handed out. */
  pop(): number | undefined {
    if (this.#size === 0) return undefined;
    const top = this.#heap[0];
    this.#heap[0] = this.#heap[--this.#size];
    this.#sink(0);
    return top;
  }

  #before(a: number, b: number): boolean {
    const ka = this.#keys[a];
    const kb = this.#keys[b];
    return ka > kb || (ka === kb && a > b);
  }

  #sink(at: number): void {
    const heap = this.#heap;
    const item = heap[at];
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#before(heap[child + 1], heap[child])) child++;
      if (!this.#before(heap[child], item)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = item;
  }
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
