/**
 * @file Python's `random.Random`, number for number: MT19937 (Matsumoto and Nishimura 1998), seeded as
 * CPython seeds it
 * from a whole number. For runs that must repeat what a Python program drew.
 */

const N = 624;
const M = 397;

/** All there is to remember of a {@link PythonRandom}; plain JSON. */
export interface PythonRandomState {
  readonly generator: "mt19937";
  /** 624 words. */
  readonly words: readonly number[];
  /** Words already used, 0 to 624. */
  readonly index: number;
}

/** A Mersenne Twister with the methods of Python's `random` that TRL and its users call. */
export class PythonRandom {
  private readonly words = new Uint32Array(N);
  private index = N;

  /** As `random.seed(seed)` for a whole number of any size; the sign does not matter, as in Python. */
  constructor(seed: number | bigint) {
    if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
      throw new RangeError(`seed: expected a whole number, got ${seed}`);
    }
    const wide = BigInt(seed);
    let rest = wide < 0n ? -wide : wide;
    const key: number[] = [];
    do {
      key.push(Number(rest & 0xffffffffn));
      rest >>= 32n;
    } while (rest > 0n);
    this.initByArray(key);
  }

  /** Continues where {@link state} was taken. Throws RangeError for something that is no state. */
  static restore(state: PythonRandomState): PythonRandom {
    const random = new PythonRandom(0);
    random.restore(state);
    return random;
  }

  /** Everything needed to go on from here. */
  state(): PythonRandomState {
    return { generator: "mt19937", words: [...this.words], index: this.index };
  }

  /** Goes to `state`, in place. Throws RangeError for something that is no state. */
  restore(state: PythonRandomState): void {
    const { generator, words, index } = state;
    const sound = generator === "mt19937" && Array.isArray(words) && words.length === N;
    const inRange = Number.isInteger(index) && index >= 0 && index <= N;
    if (!sound || !inRange || !words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)) {
      throw new RangeError("random state: expected mt19937, 624 words and an index up to 624");
    }
    this.words.set(words);
    this.index = index;
  }

  /** `random()`: a number in [0, 1) with 53 random bits. */
  random(): number {
    const high = this.next32() >>> 5;
    const low = this.next32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** `getrandbits(k)` for k from 1 to 32. */
  bits(k: number): number {
    if (!Number.isInteger(k) || k < 1 || k > 32) throw new RangeError(`bits(k): expected 1 to 32, got ${k}`);
    return this.next32() >>> (32 - k);
  }

  /** `_randbelow(n)`: a whole number in [0, n), n from 1 to 2^32 − 1. */
  randbelow(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n >= 2 ** 32) {
      throw new RangeError(`randbelow(n): expected 1 to 2^32 - 1, got ${n}`);
    }
    const k = 32 - Math.clz32(n);
    for (;;) {
      const draw = this.bits(k);
      if (draw < n) return draw;
    }
  }

  /** `choices(population, k=k)`: k draws with replacement. */
  choices<T>(population: readonly T[], k: number): T[] {
    if (population.length === 0) throw new RangeError("choices: the population is empty");
    return Array.from({ length: k }, () => population[Math.floor(this.random() * population.length)]!);
  }

  /** `shuffle(items)`: in place; returns the same array. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.randbelow(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }

  private initByArray(key: readonly number[]): void {
    const { words } = this;
    words[0] = 19650218;
    for (let i = 1; i < N; i++) {
      const previous = words[i - 1]! ^ (words[i - 1]! >>> 30);
      words[i] = Math.imul(1812433253, previous) + i;
    }
    let i = 1;
    let j = 0;
    for (let k = Math.max(N, key.length); k > 0; k--) {
      const previous = words[i - 1]! ^ (words[i - 1]! >>> 30);
      words[i] = (words[i]! ^ Math.imul(previous, 1664525)) + key[j]! + j;
      if (++i >= N) {
        words[0] = words[N - 1]!;
        i = 1;
      }
      if (++j >= key.length) j = 0;
    }
    for (let k = N - 1; k > 0; k--) {
      const previous = words[i - 1]! ^ (words[i - 1]! >>> 30);
      words[i] = (words[i]! ^ Math.imul(previous, 1566083941)) - i;
      if (++i >= N) {
        words[0] = words[N - 1]!;
        i = 1;
      }
    }
    words[0] = 0x80000000;
    this.index = N;
  }

  private next32(): number {
    if (this.index >= N) this.twist();
    let y = this.words[this.index++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  private twist(): void {
    const { words } = this;
    for (let k = 0; k < N; k++) {
      const y = (words[k]! & 0x80000000) | (words[(k + 1) % N]! & 0x7fffffff);
      words[k] = words[(k + M) % N]! ^ (y >>> 1) ^ ((y & 1) === 0 ? 0 : 0x9908b0df);
    }
    this.index = 0;
  }
}
