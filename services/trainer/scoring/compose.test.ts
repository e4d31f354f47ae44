import assert from "node:assert/strict";
import type { Outcome, RolloutSample } from "../rollout/sample.js";
import type { TermConfig } from "../run-config.js";
import { addMoments, composeRewards, NO_MOMENTS } from "./compose.js";
import { lengthScore, rawScoreOf, ScoreRefusal, scoreWithRetries } from "./terms.js";

const onFailure = { retries: 2, giveUp: "drop", circuit: { failures: 5, coolDownMs: 1000 } } as const;
const classifier = {
  type: "classifier",
  weight: 2,
  signed: true,
  normalise: "none",
  clip: null,
  onFailure,
  text: "response",
  addresses: [],
  function: "logit",
  truncate: true,
} as TermConfig;
const scored = (score: number): Outcome => ({ kind: "scored", score });
const failed = (reason: string): Outcome => ({ kind: "failed", reason });
const defaults = { rewardText: "continuation", rewardTransform: "logit" } as const;
const NOBODY = { addresses: [] };
const good = { sign: 1 } as const;
const bad = { sign: -1 } as const;

describe("the composed reward", () => {
  it("weighs each term and flips its sign for the bad control token", () => {
    const length = { ...classifier, type: "length", target: 10, weight: 0.5, signed: false } as TermConfig;
    const { rewards } = composeRewards(
      [classifier, length],
      [good, bad],
      [
        [scored(1.5), scored(1.5)],
        [scored(1), scored(1)],
      ],
      {},
    );
    assert.deepEqual(
      rewards.map((r) => r.outcome),
      [scored(3.5), scored(-2.5)],
    );
    assert.deepEqual(rewards[1]?.terms, { classifier: 1.5, length: 1 });
  });

  it("is missing, never 0, where a term failed, and names the term", () => {
    const { rewards } = composeRewards([classifier], [good, good], [[failed("too long"), scored(0)]], {});
    assert.deepEqual(rewards[0]?.outcome, failed("classifier: too long"));
    assert.deepEqual(rewards[1]?.outcome, scored(0));
    assert.ok(Number.isNaN(rewards[0]?.terms.classifier));
  });

  it("normalises by the moments of all scores so far, then clips", () => {
    const term = { ...classifier, weight: 1, normalise: "running", clip: 1 } as TermConfig;
    const first = composeRewards([term], [good, good], [[scored(1), scored(3)]], {});
    assert.deepEqual(first.moments.classifier, { count: 2, mean: 2, m2: 2 });
    const second = composeRewards([term], [good], [[scored(30)]], first.moments);
    assert.equal(second.moments.classifier?.count, 3);
    assert.deepEqual(second.rewards[0]?.outcome, scored(1));
  });

  it("keeps Welford's moments: 2, 4, 4, 4, 5, 5, 7, 9 have mean 5 and squared deviations 32", () => {
    const moments = addMoments(NO_MOMENTS, [2, 4, 4, 4, 5, 5, 7, 9]);
    assert.equal(moments.mean, 5);
    assert.ok(Math.abs(moments.m2 - 32) < 1e-12);
  });
});

describe("a reward term", () => {
  const sample = (response: string): RolloutSample =>
    ({ response, prompt: "question: a\nanswer:", answer: "b", responseIds: [1, 2, 3, 4, 5] }) as never;
  const never = new AbortController().signal;
  const rule = (log: string[]) => ({
    retries: 2,
    backoff: async (attempt: number) => void log.push(`wait ${attempt}`),
    onFailure: (attempt: number, error: Error) => void log.push(`${attempt}: ${error.message}`),
  });

  it("tries a failed call again and scores what then succeeds", async () => {
    const log: string[] = [];
    let calls = 0;
    const raw = async (samples: readonly RolloutSample[]) => {
      calls += 1;
      if (calls < 3) throw new Error("unavailable");
      return samples.map(() => 7);
    };
    const outcomes = await scoreWithRetries(raw, [sample("x")], rule(log), never);
    assert.deepEqual(outcomes, [scored(7)]);
    assert.deepEqual(log, ["1: unavailable", "wait 1", "2: unavailable", "wait 2"]);
  });

  it("fails every sample of a call that never succeeds, with the reason", async () => {
    const raw = async () => {
      throw new Error("connection refused");
    };
    const outcomes = await scoreWithRetries(raw, [sample("x"), sample("y")], rule([]), never);
    assert.deepEqual(outcomes, [failed("connection refused"), failed("connection refused")]);
  });

  it("leaves refused samples out and scores the others at once, in their places", async () => {
    const raw = async (samples: readonly RolloutSample[]) => {
      const long = samples.findIndex((s) => s.response.length > 3);
      if (long >= 0) throw new ScoreRefusal(new Map([[long, "too long"]]));
      return samples.map((s) => s.response.length);
    };
    const outcomes = await scoreWithRetries(
      raw,
      [sample("a"), sample("long one"), sample("ab"), sample("another")],
      { ...rule([]), retries: 0 },
      never,
    );
    assert.deepEqual(outcomes, [scored(1), failed("too long"), scored(2), failed("too long")]);
  });

  it("refuses to count NaN as a score", async () => {
    const outcomes = await scoreWithRetries(async () => [Number.NaN], [sample("x")], rule([]), never);
    assert.deepEqual(outcomes, [failed("score is NaN")]);
  });

  it("of kind length is 1 at the target and 0 at none and at twice as many", () => {
    assert.deepEqual(
      [0, 5, 10, 15, 20, 99].map((n) => lengthScore(n, 10)),
      [0, 0.5, 1, 0.5, 0, 0],
    );
  });

  it("of kind format matches the response, or prompt and response", async () => {
    const format = { ...classifier, type: "format", pattern: "^question.*\\.$" } as TermConfig;
    const no = rawScoreOf({ ...format, pattern: "\\.$" } as TermConfig, NOBODY, {} as never, defaults);
    assert.deepEqual(await no([sample("ends."), sample("does not")], never), [1, 0]);
    const full = rawScoreOf(
      { ...format, pattern: "^question", text: "full" } as TermConfig,
      NOBODY,
      {} as never,
      defaults,
    );
    assert.deepEqual(await full([sample("ends.")], never), [1]);
  });
});
