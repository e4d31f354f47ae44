/**
 * @file Which sequences run together: of similar length, so that little padding is computed, and not more than memory allows.
 * In: sizes. Out: groups of indices. Pure, and a function of the sizes alone, so that the same batch always runs the same way.
 */
import { groupByLength } from "../../../lib/models/encoder-feeds.js";

/** How much one pass may hold. */
export interface BatchLimits {
  /** Most tokens of one pass, padding included; default 4096. */
  maxTokens?: number;
  /** Most numbers in its logits, rows × vocabulary; default 32 million (128 MB). */
  maxLogits?: number;
  /** Largest share of a pass that may be padding; default 0.1. */
  maxPadding?: number;
}

/** Size of one sequence in a pass. */
export interface SequenceSize {
  /** Tokens of the sequence. */
  tokens: number;
  /** Rows of logits computed for it. */
  logitRows: number;
}

/** Groups of indices into `sizes`; each index in exactly one group. A sequence too large for the limits runs alone. */
export function groupBySize(
  sizes: readonly SequenceSize[],
  { maxTokens = 4096, maxLogits = 32_000_000, maxPadding = 0.1 }: BatchLimits,
  vocabSize: number,
): number[][] {
  const groups = groupByLength(
    sizes.map(({ tokens }) => tokens),
    { maxTokens, maxPadding },
  );
  const mostRows = Math.floor(maxLogits / vocabSize);
  return groups.flatMap((group) => cutByRows(group, (i) => sizes[i].logitRows, mostRows));
}

/** Cuts a group so that no part has more than `most` rows, unless one member alone does. */
function cutByRows(group: readonly number[], rowsOf: (i: number) => number, most: number): number[][] {
  const parts: number[][] = [];
  let rows = Number.POSITIVE_INFINITY;
  for (const i of group) {
    if (rows + rowsOf(i) > most) {
      parts.push([]);
      rows = 0;
    }
    parts[parts.length - 1].push(i);
    rows += rowsOf(i);
  }
  return parts;
}
