/**
 * @file Learns merges: again and again the most frequent adjacent pair becomes a symbol of its own.
 * In: words as symbols, with counts. Out: the merges in order. Ties go to the pair with the smaller ids, as
 * in the Rust
 * trainer, so the same texts give the same vocabulary everywhere.
 */

/** A word of the texts: its symbols (ids) and how often it occurs. */
export interface CountedWord {
  readonly symbols: number[];
  readonly count: number;
}

/** What {@link learnMerges} is told. */
export interface MergeLimits {
  /** Pairs that occur less often are not merged. */
  readonly minFrequency: number;
  /** Called for each merge: the id of the new symbol, or undefined to stop. */
  readonly accept: (left: number, right: number) => number | undefined;
}

/** More symbols than a vocabulary will have; two ids make one key below 2^53. */
const SPAN = 2 ** 24;

/**
 * Learns merges until `accept` says stop or no pair is frequent enough. The words' symbols are merged in
 * place.
 */
export function learnMerges(words: readonly CountedWord[], { minFrequency, accept }: MergeLimits): void {
  const counts = new Map<number, number>();
  const places = new Map<number, Set<number>>(); // words in which a pair occurs, or occurred
  const heap = new CandidateHeap();
  const add = (key: number, change: number, word: number) => {
    counts.set(key, (counts.get(key) ?? 0) + change);
    if (change <= 0) return;
    const known = places.get(key);
    if (known) known.add(word);
    else places.set(key, new Set([word]));
  };
  for (const [i, { symbols, count }] of words.entries()) {
    for (let at = 0; at + 1 < symbols.length; at++) add(symbols[at]! * SPAN + symbols[at + 1]!, count, i);
  }
  for (const [key, count] of counts) heap.push(count, key);
  for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
    const { key } = top;
    const count = counts.get(key)!;
    if (count !== top.count) {
      // merges since then took occurrences away
      if (count > 0) heap.push(count, key);
      continue;
    }
    if (count < Math.max(1, minFrequency)) return;
    const left = Math.floor(key / SPAN);
    const right = key % SPAN;
    const merged = accept(left, right);
    if (merged === undefined) return;
    const grown = new Set<number>();
    for (const word of places.get(key)!) {
      const { symbols, count: times } = words[word]!;
      mergeInWord(symbols, left, right, merged, (pair, change) => {
        add(pair, change * times, word);
        if (change > 0) grown.add(pair);
      });
    }
    counts.delete(key);
    places.delete(key);
    for (const pair of grown) {
      const now = counts.get(pair) ?? 0;
      if (now > 0) heap.push(now, pair);
    }
  }
}

function mergeInWord(
  symbols: number[],
  left: number,
  right: number,
  merged: number,
  changed: (pair: number, change: 1 | -1) => void,
): void {
  for (let at = 0; at + 1 < symbols.length; at++) {
    if (symbols[at] !== left || symbols[at + 1] !== right) continue;
    const before = symbols[at - 1];
    const after = symbols[at + 2];
    symbols.splice(at, 2, merged);
    if (before !== undefined) {
      changed(before * SPAN + left, -1);
      changed(before * SPAN + merged, 1);
    }
    if (after !== undefined) {
      changed(right * SPAN + after, -1);
      changed(merged * SPAN + after, 1);
    }
  }
}

interface Candidate {
  readonly count: number;
  readonly key: number;
}

/** Pairs by count, largest first; of equal counts the smaller key. */
class CandidateHeap {
  private readonly items: Candidate[] = [];

  push(count: number, key: number): void {
    const { items } = this;
    const item = { count, key };
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(item, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const { items } = this;
    const top = items[0];
    const last = items.pop();
    if (items.length === 0 || last === undefined) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && isBefore(items[child + 1]!, items[child]!)) child++;
      if (!isBefore(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function isBefore(a: Candidate, b: Candidate): boolean {
  return a.count > b.count || (a.count === b.count && a.key < b.key);
}
