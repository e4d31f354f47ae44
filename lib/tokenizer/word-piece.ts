/**
 * @file WordPiece: the longest vocabulary entry from the left, again and again; a word that does not work out
 * is unknown.
 * In: a word. Out: ids. Lengths count code points.
 */

/** Vocabulary and settings, under the names of tokenizer.json. */
export interface WordPieceTables {
  readonly vocab: ReadonlyMap<string, number>;
  readonly unkId: number;
  /** Default "##". */
  readonly prefix?: string;
  /** Longer words are unknown. Default 100. */
  readonly maxChars?: number;
}

const CACHE_ENTRIES = 20_000;
const CACHED_CHARS = 64;

/** Encodes words with one vocabulary. */
export class WordPiece {
  private readonly cache = new Map<string, readonly number[]>();
  private readonly prefix: string;
  private readonly maxChars: number;
  /** UTF-16 length of the longest entry: nothing longer needs to be looked up. */
  private readonly longest: number;

  constructor(private readonly tables: WordPieceTables) {
    this.prefix = tables.prefix ?? "##";
    this.maxChars = tables.maxChars ?? 100;
    let longest = 0;
    for (const token of tables.vocab.keys()) longest = Math.max(longest, token.length);
    this.longest = longest;
  }

  /** Ids of a word. */
  encode(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known !== undefined) return known;
    const ids = this.split(word);
    if (word.length <= CACHED_CHARS) {
      if (this.cache.size >= CACHE_ENTRIES) this.cache.clear();
      this.cache.set(word, ids);
    }
    return ids;
  }

  private split(word: string): number[] {
    const { vocab, unkId } = this.tables;
    const bounds = [0]; // where each code point ends, in UTF-16 units
    for (const char of word) {
      bounds.push(bounds.at(-1)! + char.length);
      if (bounds.length > this.maxChars + 1) return [unkId];
    }
    const ids: number[] = [];
    let start = 0;
    while (start < bounds.length - 1) {
      const prefix = start > 0 ? this.prefix : "";
      let end = bounds.length - 1;
      let id: number | undefined;
      for (; end > start; end--) {
        if (bounds[end]! - bounds[start]! + prefix.length > this.longest) continue;
        id = vocab.get(prefix + word.slice(bounds[start], bounds[end]));
        if (id !== undefined) break;
      }
      if (id === undefined) return [unkId];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}
