/**
 * @file From token ids to what an encoder graph is fed, and which rows to run together. Pure: plain arrays in and out.
 * A row scores the same alone and in any batch, but for rounding: padding is masked out of attention and never read.
 */
import type { EncoderConfig } from "./config.js";

/** Token ids of one row, wrapper tokens included, and the segment of each where the family has segments. */
export interface EncoderRow {
  readonly ids: ArrayLike<number>;
  /** 0 for the first text and 1 for the second; default all 0. Only BERT reads it. */
  readonly typeIds?: ArrayLike<number>;
}

/** Arrays for the inputs of an encoder graph, by input name; `batch` rows padded to `time` tokens. */
export interface EncoderFeeds {
  readonly batch: number;
  readonly time: number;
  readonly input_ids: BigInt64Array;
  readonly position_ids: BigInt64Array;
  /** Only for BERT. */
  readonly token_type_ids?: BigInt64Array;
  /** What is added to attention scores, [batch, 1, 1, time]: 0 on tokens, the lowest float32 on padding. */
  readonly attention_bias: Float32Array;
}

const LOWEST = -3.4028234663852886e38; // float32; minus infinity would give NaN in a row that is all padding

/** Pads rows on the right to the longest, or to `least` tokens, and works out positions, segments and the mask. */
export function encoderFeeds(config: EncoderConfig, rows: readonly EncoderRow[], least = 0): EncoderFeeds {
  const batch = rows.length;
  const time = rows.reduce((longest, { ids }) => Math.max(longest, ids.length), least);
  const pad = BigInt(config.padTokenId ?? 0);
  const inputIds = new BigInt64Array(new ArrayBuffer(8 * batch * time)).fill(pad);
  const positions = new BigInt64Array(new ArrayBuffer(8 * batch * time));
  const types =
    config.modelType === "bert" ? new BigInt64Array(new ArrayBuffer(8 * batch * time)) : undefined;
  const bias = new Float32Array(new ArrayBuffer(4 * batch * time)).fill(LOWEST);
  for (const [row, { ids, typeIds }] of rows.entries()) {
    const start = row * time;
    for (let t = 0; t < ids.length; t++) {
      inputIds[start + t] = BigInt(ids[t]);
      bias[start + t] = 0;
      if (types && typeIds) types[start + t] = BigInt(typeIds[t]);
    }
    fillPositions(config, inputIds.subarray(start, start + time), positions.subarray(start, start + time));
  }
  return {
    batch,
    time,
    input_ids: inputIds,
    position_ids: positions,
    token_type_ids: types,
    attention_bias: bias,
  };
}

/**
 * 0, 1, 2, … for BERT and DistilBERT. RoBERTa counts from the ids, not from the mask: the pad id p gets position p, the
 * n-th other id (n from 1) gets p + n.
 */
function fillPositions(config: EncoderConfig, ids: BigInt64Array, positions: BigInt64Array): void {
  if (config.modelType !== "roberta") {
    for (let t = 0; t < ids.length; t++) positions[t] = BigInt(t);
    return;
  }
  const pad = BigInt(config.padTokenId);
  let last = pad;
  for (let t = 0; t < ids.length; t++) positions[t] = ids[t] === pad ? pad : ++last;
}

/** How rows are put together. */
export interface GroupingOptions {
  /** Most tokens of one run, padding included (longest × rows); a longer single row runs alone. */
  maxTokens: number;
  /** Largest share of a run that may be padding, 0 to 1; 0 puts only rows of equal length together. */
  maxPadding: number;
}

/** Groups row indices by length, longest first. Every row is in exactly one group. */
export function groupByLength(
  lengths: readonly number[],
  { maxTokens, maxPadding }: GroupingOptions,
): number[][] {
  const order = lengths.map((_, row) => row).sort((a, b) => lengths[b] - lengths[a] || a - b);
  const groups: number[][] = [];
  let group: number[] = [];
  let tokens = 0; // of the group's rows, without padding
  for (const row of order) {
    const padded = lengths[group[0] ?? row] * (group.length + 1);
    const padding = padded - (tokens + lengths[row]);
    if (group.length > 0 && (padded > maxTokens || padding > maxPadding * padded)) {
      groups.push(group);
      group = [];
      tokens = 0;
    }
    group.push(row);
    tokens += lengths[row];
  }
  if (group.length > 0) groups.push(group);
  return groups;
}
