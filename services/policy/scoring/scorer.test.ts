import assert from "node:assert/strict";
import { EXPECTED, TestPolicy } from "../testing.js";
import { Scorer, type ScorerLimits, scoringBatch } from "./scorer.js";

const LIMITS: ScorerLimits = {
  maxTokens: 64,
  maxLogits: 802 * 40,
  maxWaiting: 100,
  maxWaitingTokens: 10_000,
};
/** What the project promises for log-probabilities against transformers. */
const TOLERANCE = 2e-4;

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(
      Math.abs(actual[i] - expected[i]) <= tolerance,
      `[${i}]: expected ${expected[i]}, got ${actual[i]}`,
    );
  }
}

describe("the scorer", () => {
  let policy: TestPolicy;
  let scorer: Scorer;
  before(async () => {
    policy = await TestPolicy.create();
    scorer = new Scorer(policy.model, policy.store, LIMITS);
  });
  after(async () => {
    scorer.close();
    await policy.close();
  });

  const sequences = EXPECTED.input_ids.map((ids) => ({ ids, start: 1 }));
  const plain = { entropy: false, distribution: false, demand: {} };

  it("gives transformers' log-probabilities, in the order of the request, from any number of runs", async () => {
    let runs = 0;
    const counting = new Scorer(policy.model, policy.store, LIMITS, () => runs++);
    const { results, weights } = await counting.score({ ...plain, sequences });
    counting.close();
    assert.ok(runs > 1);
    for (const [i, { logprobs, entropy, distribution }] of results.entries()) {
      assertClose(logprobs, EXPECTED.token_logprobs[i], TOLERANCE);
      assert.equal(entropy, undefined);
      assert.equal(distribution, undefined);
    }
    assert.equal(weights.version, 0);
    assert.match(weights.digest, /^[0-9a-f]{64}$/);
  });

  it("scores only from the start that is named", async () => {
    const { results } = await scorer.score({
      ...plain,
      sequences: [{ ids: EXPECTED.input_ids[0], start: 20 }],
    });
    assertClose(results[0].logprobs, EXPECTED.token_logprobs[0].slice(19), TOLERANCE);
  });

  it("gives whole distributions and their entropy", async () => {
    const [ids] = EXPECTED.input_ids;
    const { results } = await scorer.score({
      ...plain,
      entropy: true,
      distribution: true,
      sequences: [{ ids, start: 25 }],
    });
    const [{ logprobs, entropy, distribution }] = results;
    assert.equal(distribution!.length, 3 * 802);
    for (let g = 0; g < 3; g++) {
      const row = distribution!.subarray(g * 802, (g + 1) * 802);
      assert.equal(row[ids[25 + g]], logprobs[g]);
      const expected = -row.reduce((sum, logp) => sum + Math.exp(logp) * logp, 0);
      assertClose([entropy![g]], [expected], 1e-4);
    }
  });

  it("requests that wait together equal each alone", async () => {
    const alone = [];
    for (const sequence of sequences)
      alone.push((await scorer.score({ ...plain, sequences: [sequence] })).results[0]);
    const together = await Promise.all(
      sequences.map((sequence) => scorer.score({ ...plain, sequences: [sequence] })),
    );
    for (const [i, { results }] of together.entries())
      assertClose(results[0].logprobs, alone[i].logprobs, 1e-5);
  });

  it("batch-invariant: computes a request by itself, cut the same way whatever waits beside it", async () => {
    /** A model whose numbers say with how many others, and how long, a sequence was run. */
    const telling: ConstructorParameters<typeof Scorer>[0] = {
      vocabSize: 802,
      score: async (_, { rows, time, targets }) => ({
        logprobs: new Float32Array(targets.length).fill(1000 * rows + time),
        entropy: undefined,
        distribution: undefined,
      }),
    };
    const told = async (batchInvariant: boolean) => {
      const own = new Scorer(telling, policy.store, { ...LIMITS, batchInvariant });
      const alone = await own.score({ ...plain, sequences });
      const beside = await Promise.all(Array.from({ length: 20 }, () => own.score({ ...plain, sequences })));
      own.close();
      return new Set(
        [alone, ...beside].map(({ results }) => results.map(({ logprobs }) => logprobs[0]).join()),
      );
    };
    assert.equal((await told(true)).size, 1);
    assert.ok((await told(false)).size > 1, "the usual scorer puts requests together");
  });

  it("a request keeps the weights it came for", async () => {
    const before = scorer.score({ ...plain, sequences });
    await policy.swap(7);
    const after = scorer.score({ ...plain, sequences });
    assert.equal((await before).weights.version, 0);
    assert.equal((await after).weights.version, 7);
    assertClose((await before).results[0].logprobs, EXPECTED.token_logprobs[0], TOLERANCE);
    assert.ok(Math.abs((await after).results[0].logprobs[0] - EXPECTED.token_logprobs[0][0]) > TOLERANCE);
    assert.deepEqual(
      policy.store.held().map(({ version }) => version),
      [7],
    );
    await assert.rejects(scorer.score({ ...plain, sequences, demand: { version: 0 } }), {
      code: "VERSION_NOT_HELD",
    });
  });

  it("a cancelled request is not computed, and lets go of its weights", async () => {
    const cancel = new AbortController();
    const running = scorer.score({ ...plain, sequences });
    const cancelled = scorer.score({ ...plain, sequences, signal: cancel.signal });
    cancel.abort();
    await assert.rejects(cancelled, { code: "CANCELLED" });
    await running;
    assert.equal(policy.store.serving.users, 0);
  });
});

describe("the arrays of a scoring run", () => {
  it("points at the place before each scored token", () => {
    const batch = scoringBatch([
      { ids: [7, 8, 9], start: 2 },
      { ids: [5, 6], start: 1 },
    ]);
    assert.deepEqual([batch.rows, batch.time], [2, 3]);
    assert.deepEqual([...batch.inputIds].map(Number), [7, 8, 9, 5, 6, 0]);
    assert.deepEqual([...batch.places].map(Number), [1, 3]);
    assert.deepEqual([...batch.targets].map(Number), [9, 6]);
  });
});
