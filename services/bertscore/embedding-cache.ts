/**
 * @file Keeps the unit embeddings of sentences seen lately, so that a reference that comes again is not encoded again.
 * Bounded in bytes; the entry that was unused longest goes first.
 */

/** A least-recently-used map from sentence to rows. */
export class EmbeddingCache {
  readonly #entries = new Map<string, Float32Array>(); // a Map keeps insertion order: the first is the oldest
  #bytes = 0;

  /** `maxBytes` of rows are kept; 0 keeps nothing. */
  constructor(readonly maxBytes: number) {}

  /** Bytes of rows held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Rows of a sentence, which become the most recent, or undefined. */
  get(key: string): Float32Array | undefined {
    const rows = this.#entries.get(key);
    if (rows) {
      this.#entries.delete(key);
      this.#entries.set(key, rows);
    }
    return rows;
  }

  /** Keeps rows; drops the oldest entries until they fit. Rows larger than the whole cache are not kept. */
  set(key: string, rows: Float32Array): void {
    this.#drop(key);
    if (rows.byteLength > this.maxBytes) return;
    while (this.#bytes + rows.byteLength > this.maxBytes) {
      const oldest = this.#entries.keys().next();
      if (oldest.done) break;
      this.#drop(oldest.value);
    }
    this.#entries.set(key, rows);
    this.#bytes += rows.byteLength;
  }

  #drop(key: string): void {
    const rows = this.#entries.get(key);
    if (!rows) return;
    this.#entries.delete(key);
    this.#bytes -= rows.byteLength;
  }
}
