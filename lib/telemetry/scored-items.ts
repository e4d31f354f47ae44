/** @file What scorers count: items by outcome, and texts that were cut. One rule for the reward and the BERTScore service. */
import { counter } from "./instruments.js";

const items = counter("rlhf.score.items");
const truncated = counter("rlhf.score.truncated");

/** Runs the scoring of `count` items and counts them as scored or failed; of the result's entries, those that were cut. */
export async function countScored<T extends { results?: readonly { truncated?: boolean }[] }>(
  count: number,
  work: () => Promise<T>,
): Promise<T> {
  try {
    const reply = await work();
    items.add(count, { "rlhf.outcome": "scored" });
    const cut = (reply.results ?? []).filter((result) => result.truncated).length;
    if (cut > 0) truncated.add(cut);
    return reply;
  } catch (error) {
    items.add(count, { "rlhf.outcome": "failed" });
    throw error;
  }
}
