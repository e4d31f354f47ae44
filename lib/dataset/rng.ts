/**
 * @file Seeded random numbers in named streams. The same seed and keys give the same numbers on every
 * machine.
 *
 * Generator: xoshiro128** 1.1 (Blackman and Vigna, prng.di.unimi.it), 32 bits at a time, period 2^128 − 1.
 * Its four words are the first 16 bytes (little-endian) of SHA-256 over `rlhf-rng-v1`, a newline and the JSON
 * array
 * [seed, ...keys], numbers and strings alike written as JSON strings tagged `n:` or `s:`. So streams with
 * different
 * keys are independent, and none depends on the order in which they are made.
 */
import { createHash } from "node:crypto";

/** What names a stream: a run's seed, then words and counters such as ("sample", batch, index). */
export type StreamKey = string | number | bigint;

/** All there is to remember of an {@link Rng}; plain JSON. */
export interface RngState {
  readonly generator: "xoshiro128**";
  readonly words: readonly [number, number, number, number];
}

/** A stream of random numbers. */
export class Rng {
  private constructor(
    private a: number,
    private b: number,
    private c: number,
    private d: number,
  ) {}

  /** The stream named by `seed` and `keys`. Numbers must be safe integers; throws RangeError otherwise. */
  static from(seed: number | bigint, ...keys: StreamKey[]): Rng {
    const tagged = [seed, ...keys].map((key) => {
      if (typeof key === "number" && !Number.isSafeInteger(key)) {
        throw new RangeError(`stream key: expected a whole number or a string, got ${key}`);
      }
      return typeof key === "string" ? `s:${key}` : `n:${key}`;
    });
    const hash = createHash("sha256")
      .update(`rlhf-rng-v1\n${JSON.stringify(tagged)}`)
      .digest();
    return Rng.of([hash.readUInt32LE(0), hash.readUInt32LE(4), hash.readUInt32LE(8), hash.readUInt32LE(12)]);
  }

  /** Continues where {@link state} was taken. Throws RangeError for something that is no state. */
  static restore(state: RngState): Rng {
    const { generator, words } = state;
    const sound = generator === "xoshiro128**" && Array.isArray(words) && words.length === 4;
    if (!sound || !words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)) {
      throw new RangeError(
        `random state: expected xoshiro128** and four words, got ${JSON.stringify(state)}`,
      );
    }
    return Rng.of(words);
  }

  private static of([a, b, c, d]: readonly [number, number, number, number]): Rng {
    // all zeros is the one state that never leaves itself
    return (a | b | c | d) === 0 ? new Rng(1, 2, 3, 4) : new Rng(a | 0, b | 0, c | 0, d | 0);
  }

  /** Everything needed to go on from here. */
  state(): RngState {
    return { generator: "xoshiro128**", words: [this.a >>> 0, this.b >>> 0, this.c >>> 0, this.d >>> 0] };
  }

  /** Goes back (or forward) to `state`, in place. */
  restore(state: RngState): void {
    const other = Rng.restore(state);
    [this.a, this.b, this.c, this.d] = [other.a, other.b, other.c, other.d];
  }

  /** A whole number in [0, 2^32). */
  next(): number {
    const five = Math.imul(this.b, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9);
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result >>> 0;
  }

  /** A number in [0, 1) with 53 random bits; takes two steps. */
  uniform(): number {
    const high = this.next() >>> 5; // 27 bits
    const low = this.next() >>> 6; // 26 bits
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** A whole number in [0, n), each equally likely. n from 1 to 2^53; throws RangeError otherwise. */
  int(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 53) {
      throw new RangeError(`int(n): expected a whole number from 1 to 2^53, got ${n}`);
    }
    const wide = n > 2 ** 32;
    const range = wide ? 2 ** 53 : 2 ** 32;
    const limit = range - (range % n); // beyond it the smaller remainders would come up once more
    for (;;) {
      const draw = wide ? this.uniform() * 2 ** 53 : this.next();
      if (draw < limit) return draw % n;
    }
  }

  /** A standard normal number (Box and Muller, the cosine branch); takes four steps. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles in place (Fisher and Yates, from the end) and returns the same array. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }
}

export { PythonRandom, type PythonRandomState } from "./python-random.js";
