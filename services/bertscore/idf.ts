/**
 * @file Inverse document frequency over token ids as bert_score computes it: idf(t) = ln((N + 1) / (df(t) + 1)).
 * In: the token ids of a corpus, specials included. Out: a weight for any id. [CLS] and [SEP] are in every sentence,
 * so they come out as exactly 0.
 */

/** Token weights of one corpus. */
export interface IdfWeights {
  /** Sentences in the corpus, N. */
  readonly sentences: number;
  /** Weight of a token id; ids the corpus lacks weigh ln(N + 1). */
  weight(id: number): number;
}

/** Counts every sentence once for each distinct id it holds; duplicate sentences count each time. */
export function computeIdf(corpus: readonly ArrayLike<number>[]): IdfWeights {
  const frequency = new Map<number, number>();
  for (const ids of corpus) {
    for (const id of new Set(Array.from(ids))) frequency.set(id, (frequency.get(id) ?? 0) + 1);
  }
  const sentences = corpus.length;
  return {
    sentences,
    weight: (id) => Math.log((sentences + 1) / ((frequency.get(id) ?? 0) + 1)),
  };
}

/** Weight of every token: 1, or 0 for the two wrapper tokens. The weights used when idf is off. */
export function plainWeights(
  ids: ArrayLike<number>,
  { cls, sep }: { cls?: number; sep?: number },
): Float32Array {
  return Float32Array.from(ids, (id) => (id === cls || id === sep ? 0 : 1));
}

/** Weight of every token under a corpus's idf. */
export function idfWeights(ids: ArrayLike<number>, idf: IdfWeights): Float32Array {
  return Float32Array.from(ids, (id) => idf.weight(id));
}
