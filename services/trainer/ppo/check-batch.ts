/**
 * @file Whether a batch can be learned from. In: a batch and the options. Out: nothing, or PpoInputError naming every sample
 * that is wrong. Token ids are checked by the learner, which knows the vocabulary.
 */
import { PpoInputError } from "./errors.js";
import type { PpoOptions } from "./options.js";
import type { PpoBatch, PpoSample } from "./types.js";

type Violation = { field: string; description: string };

/** Throws PpoInputError naming every field of the batch that PPO cannot learn from. */
export function checkBatch({ samples }: PpoBatch, options: PpoOptions): void {
  const found: Violation[] = [];
  // samples whose scores failed leave the batch, so it may be short
  const { batchSize } = options;
  if (samples.length === 0 || samples.length > batchSize) {
    found.push({ field: "samples", description: `expected 1 to ${batchSize}, got ${samples.length}` });
  }
  for (const [i, sample] of samples.entries()) found.push(...problems(sample, `samples[${i}]`, options));
  if (found.length > 0) throw new PpoInputError(found);
}

function problems(sample: PpoSample, at: string, options: PpoOptions): Violation[] {
  const found: Violation[] = [];
  const expect = (holds: boolean, field: string, expected: string, got: unknown) => {
    if (!holds) found.push({ field: `${at}.${field}`, description: `expected ${expected}, got ${got}` });
  };
  const { query, response, score, refLogprobs, rollout } = sample;
  const tokens = response.length;
  // with values one position to the left, a query of one token has none
  const shortest = options.valueIndexShift === 0 ? 1 : 2;
  expect(query.length >= shortest, "query", `at least ${shortest} tokens`, query.length);
  // whitened alone, one token has nothing to be compared with
  const leastResponse = options.statistics === "trl-0.2.1" ? 2 : 1;
  expect(tokens >= leastResponse, "response", `at least ${leastResponse} tokens`, tokens);
  expect(Number.isFinite(score), "score", "a finite number", score);
  const finiteRow = (row: Float32Array, field: string, length: number) => {
    expect(row.length === length, field, `[${length}]`, `[${row.length}]`);
    const bad = row.find((x) => !Number.isFinite(x));
    expect(bad === undefined, field, "finite numbers", bad);
  };
  finiteRow(refLogprobs, "refLogprobs", tokens);
  if (rollout) {
    finiteRow(rollout.logprobs, "rollout.logprobs", tokens);
    finiteRow(rollout.values, "rollout.values", tokens);
  }
  if (options.klPenalty === "full") {
    const reference = sample.refFullLogprobs;
    expect(reference !== undefined, "refFullLogprobs", "log-distributions, for klPenalty full", "none");
    const vocabSize = reference ? reference.length / tokens : Number.NaN;
    expect(
      !reference || Number.isInteger(vocabSize),
      "refFullLogprobs",
      `[${tokens} × V]`,
      reference?.length,
    );
    if (rollout && reference) {
      expect(
        rollout.fullLogprobs?.length === reference.length,
        "rollout.fullLogprobs",
        `[${reference.length}]`,
        rollout.fullLogprobs?.length ?? "none",
      );
    }
  }
  return found;
}
