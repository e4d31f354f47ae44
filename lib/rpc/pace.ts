/**
 * @file How fast batches run, learned from those that did. In: tokens and times of batches. Out: how long others will take. Pure but for
 * what it remembers.
 */

/** Weight of the past in what is smoothed. */
const PAST = 0.8;

/** Smoothed speed of a model that runs batches. All times are in milliseconds, and 0 as long as nothing was seen. */
export class Pace {
  #msPerToken = 0;
  /** Of batches that left others waiting: how fast a queue is worked off. Smaller batches cost more a token. */
  readonly #backlog = { ms: 0, tokens: 0 };

  /** Notes a batch. `leftOthers`: more waited when it began than it could take. */
  note(tokens: number, ms: number, leftOthers: boolean): void {
    const now = ms / tokens;
    this.#msPerToken = this.#msPerToken === 0 ? now : PAST * this.#msPerToken + (1 - PAST) * now;
    if (!leftOthers) return;
    this.#backlog.ms = PAST * this.#backlog.ms + ms;
    this.#backlog.tokens = PAST * this.#backlog.tokens + tokens;
  }

  /** Time of one batch of so many tokens that runs now. */
  ofBatch(tokens: number): number {
    return tokens * this.#msPerToken;
  }

  /** Time in which so many waiting tokens are worked off, one batch after another. */
  ofQueue(tokens: number): number {
    const { ms, tokens: seen } = this.#backlog;
    return seen === 0 ? 0 : (tokens * ms) / seen;
  }
}
