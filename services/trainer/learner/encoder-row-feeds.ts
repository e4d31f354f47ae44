/** @file The rows of an encoder's minibatch as feeds of its graph, padded to the longest. */
import type { EncoderConfig } from "../../../lib/models/config.js";
import { type EncoderRow, encoderFeeds } from "../../../lib/models/encoder-feeds.js";
import type { HostFeed } from "./run-program.js";

/** Feeds by the names that `encoderInputs` declares, and how many tokens a padded row has. */
export function encoderRowFeeds(
  config: EncoderConfig,
  rows: readonly EncoderRow[],
): { time: number; feeds: Record<string, HostFeed> } {
  const { batch, time, ...arrays } = encoderFeeds(config, rows);
  const feeds: Record<string, HostFeed> = {
    attention_bias: { dtype: "float32", dims: [batch, 1, 1, time], data: arrays.attention_bias },
  };
  for (const name of ["input_ids", "position_ids", "token_type_ids"] as const) {
    const data = arrays[name];
    if (data) feeds[name] = { dtype: "int64", dims: [batch, time], data };
  }
  return { time, feeds };
}
