/**
 * @file Greedy matching of BERTScore (arXiv:1904.09675 §3, as Tiiiger/bert_score 0.3.13 does it).
 * In: the similarity matrix of one candidate/reference pair and the weight of every token. Out: P, R, F.
 * Pure: no engine, no I/O. Wrapper tokens weigh 0 but can be matched. We always take the unpadded maximum; upstream's
 * padding clamp (a maximum below 0 becomes 0 when another pair of the batch is longer) depends on the batch and is not copied.
 */

/** Precision, recall and F1 of one pair; not clipped, so rounding may exceed 1 and a score may be negative. */
export interface BertScore {
  precision: number;
  recall: number;
  f1: number;
}

/** Unit rows of one sentence at one layer, [length, width] row-major, and the weight of each row. */
export interface WeightedRows {
  rows: Float32Array;
  length: number;
  width: number;
  weights: ArrayLike<number>;
}

/** Where each token found its best match, and with which cosine. */
export interface GreedyMatches {
  /** For each candidate token, the reference token with the highest cosine (the first on ties). */
  candidate: Int32Array;
  /** For each reference token, the candidate token with the highest cosine (the first on ties). */
  reference: Int32Array;
  /** Cosine of those matches. */
  candidateBest: Float64Array;
  referenceBest: Float64Array;
}

/** Divides each row by its L2 norm, in place; a zero row becomes NaN as upstream. Returns its argument. */
export function normalizeRows(rows: Float32Array, width: number): Float32Array {
  for (let start = 0; start < rows.length; start += width) {
    let sum = 0;
    for (let i = start; i < start + width; i++) sum += rows[i] * rows[i];
    const norm = Math.sqrt(sum);
    for (let i = start; i < start + width; i++) rows[i] /= norm;
  }
  return rows;
}

/** Cosines of every candidate row with every reference row, [candidate, reference], from unit rows. */
export function similarityMatrix(candidate: WeightedRows, reference: WeightedRows): Float32Array {
  const { width } = candidate;
  const similarity = new Float32Array(candidate.length * reference.length);
  for (let i = 0; i < candidate.length; i++) {
    const a = candidate.rows.subarray(i * width, (i + 1) * width);
    for (let j = 0; j < reference.length; j++) {
      const b = reference.rows.subarray(j * width, (j + 1) * width);
      // four sums, so that the additions do not wait for each other
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      let k = 0;
      for (; k + 3 < width; k += 4) {
        s0 += a[k] * b[k];
        s1 += a[k + 1] * b[k + 1];
        s2 += a[k + 2] * b[k + 2];
        s3 += a[k + 3] * b[k + 3];
      }
      for (; k < width; k++) s0 += a[k] * b[k];
      similarity[i * reference.length + j] = s0 + s1 + s2 + s3;
    }
  }
  return similarity;
}

/** Row and column maxima of a [rows, columns] similarity matrix. A NaN cosine wins, so that it is not hidden. */
export function greedyMatches(similarity: Float32Array, rows: number, columns: number): GreedyMatches {
  const candidate = new Int32Array(rows);
  const reference = new Int32Array(columns);
  const candidateBest = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY);
  const referenceBest = new Float64Array(columns).fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const cosine = similarity[i * columns + j];
      if (cosine > candidateBest[i] || Number.isNaN(cosine)) {
        candidateBest[i] = cosine;
        candidate[i] = j;
      }
      if (cosine > referenceBest[j] || Number.isNaN(cosine)) {
        referenceBest[j] = cosine;
        reference[j] = i;
      }
    }
  }
  return { candidate, reference, candidateBest, referenceBest };
}

/**
 * P, R and F of one pair from its matches. A side of exactly two ids holds only its wrapper tokens and counts as empty:
 * P and R are then 0. F that is NaN becomes 0; NaN in P or R stays (all weights of a non-empty side are 0).
 */
export function scoreMatches(
  matches: GreedyMatches,
  candidateWeights: ArrayLike<number>,
  referenceWeights: ArrayLike<number>,
): BertScore {
  let precision = weightedMean(matches.candidateBest, candidateWeights);
  let recall = weightedMean(matches.referenceBest, referenceWeights);
  const f1 = (2 * precision * recall) / (precision + recall);
  if (matches.candidate.length === 2 || matches.reference.length === 2) {
    precision = 0;
    recall = 0;
  }
  return { precision, recall, f1: Number.isNaN(f1) ? 0 : f1 };
}

/** P, R and F of one pair of sentences with unit rows. */
export function scorePair(candidate: WeightedRows, reference: WeightedRows): BertScore {
  const similarity = similarityMatrix(candidate, reference);
  const matches = greedyMatches(similarity, candidate.length, reference.length);
  return scoreMatches(matches, candidate.weights, reference.weights);
}

/**
 * Component-wise maximum over the references of one candidate: P, R and F may come from different references.
 * A NaN of any reference survives, as upstream.
 */
export function bestOfReferences(scores: readonly BertScore[]): BertScore {
  const best = (pick: (score: BertScore) => number) => Math.max(...scores.map(pick));
  return {
    precision: best((score) => score.precision),
    recall: best((score) => score.recall),
    f1: best((score) => score.f1),
  };
}

function weightedMean(values: Float64Array, weights: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += weights[i];
  let mean = 0;
  for (let i = 0; i < values.length; i++) mean += values[i] * (weights[i] / total);
  return mean;
}
