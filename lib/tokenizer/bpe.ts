/**
 * @file Byte-pair encoding of one piece: merges the adjacent pair of lowest rank until no pair is in the
 * table.
 * In: a piece in byte characters. Out: ids. A heap keeps long pieces (a page without a space) at n log n.
 */

/** Vocabulary and merges, checked. */
export interface BpeTables {
  readonly vocab: ReadonlyMap<string, number>;
  /** Pairs in order of rank; both parts and their concatenation are in the vocabulary. */
  readonly merges: readonly (readonly [string, string])[];
  /** Id for characters outside the vocabulary; without it they are dropped. */
  readonly unkId?: number;
  /** One unknown id for a run of unknown characters. */
  readonly fuseUnk?: boolean;
  /** A piece that is itself in the vocabulary is not built from merges. */
  readonly ignoreMerges?: boolean;
}

/** Pieces remembered with their ids; emptied when full. */
const CACHE_ENTRIES = 20_000;
const CACHED_CHARS = 64;

/** Encodes pieces with one vocabulary. */
export class Bpe {
  /** Rank of a pair, keyed by left id · span + right id. */
  private readonly ranks = new Map<number, number>();
  private readonly merged: Int32Array;
  private readonly span: number;
  private readonly cache = new Map<string, readonly number[]>();

  constructor(private readonly tables: BpeTables) {
    const { vocab, merges } = tables;
    let span = 1;
    for (const id of vocab.values()) span = Math.max(span, id + 1);
    this.span = span;
    this.merged = new Int32Array(merges.length);
    for (const [rank, [left, right]] of merges.entries()) {
      this.ranks.set(vocab.get(left)! * span + vocab.get(right)!, rank); // of a pair given twice the later rank counts
      this.merged[rank] = vocab.get(left + right)!;
    }
  }

  /** Ids of a piece. */
  encode(piece: string): readonly number[] {
    const known = this.cache.get(piece);
    if (known !== undefined) return known;
    const whole = this.tables.ignoreMerges ? this.tables.vocab.get(piece) : undefined;
    const ids = whole === undefined ? this.merge(this.symbols(piece)) : [whole];
    if (piece.length <= CACHED_CHARS) {
      if (this.cache.size >= CACHE_ENTRIES) this.cache.clear();
      this.cache.set(piece, ids);
    }
    return ids;
  }

  private symbols(piece: string): number[] {
    const { vocab, unkId, fuseUnk } = this.tables;
    const ids: number[] = [];
    let unknown = false;
    for (const char of piece) {
      const id = vocab.get(char);
      if (id !== undefined) ids.push(id);
      else if (unkId !== undefined && !(fuseUnk && unknown)) ids.push(unkId);
      unknown = id === undefined;
    }
    return ids;
  }

  private merge(ids: number[]): number[] {
    const n = ids.length;
    if (n < 2) return ids;
    // a doubly linked list over the symbols; a merge keeps the left place and empties the right one
    const next = Int32Array.from(ids, (_, i) => (i + 1 < n ? i + 1 : -1));
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const heap = new PairHeap();
    const offer = (left: number) => {
      const right = next[left]!;
      if (right < 0) return;
      const rank = this.ranks.get(ids[left]! * this.span + ids[right]!);
      if (rank !== undefined) heap.push(rank, left);
    };
    for (let i = 0; i < n - 1; i++) offer(i);
    while (heap.size > 0) {
      const { rank, left } = heap.pop();
      const right = ids[left]! < 0 ? -1 : next[left]!;
      // the pair may be gone, or be another one by now
      if (right < 0 || this.ranks.get(ids[left]! * this.span + ids[right]!) !== rank) continue;
      ids[left] = this.merged[rank]!;
      ids[right] = -1;
      next[left] = next[right]!;
      if (next[left]! >= 0) previous[next[left]!] = left;
      if (previous[left]! >= 0) offer(previous[left]!);
      offer(left);
    }
    return ids.filter((id) => id >= 0);
  }
}

/** Pairs waiting to be merged, by rank and then from left to right. */
class PairHeap {
  private readonly keys: number[] = []; // rank · PLACES + place: one number orders both

  get size(): number {
    return this.keys.length;
  }

  push(rank: number, left: number): void {
    const { keys } = this;
    const key = rank * PLACES + left;
    let at = keys.push(key) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[at] = keys[parent]!;
      at = parent;
    }
    keys[at] = key;
  }

  pop(): { rank: number; left: number } {
    const { keys } = this;
    const top = keys[0]!;
    const last = keys.pop()!;
    const size = keys.length;
    let at = 0;
    while (size > 0) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= last) break;
      keys[at] = keys[child]!;
      at = child;
    }
    if (size > 0) keys[at] = last;
    return { rank: Math.floor(top / PLACES), left: top % PLACES };
  }
}

/** More symbols than any piece has; ranks times this stay below 2^53. */
const PLACES = 2 ** 30;
