import assert from "node:assert/strict";
import { computeAdvantages } from "./advantages.js";
import { klPenalty } from "./kl.js";
import { tokenRewards } from "./rewards.js";
import { processScores, RunningMoments } from "./scores.js";
import { assertClose, golden021 } from "./testing/golden.js";

describe("token rewards", () => {
  it("charge KL everywhere and add the score to the last token", () => {
    const { nonScoreRewards, rewards } = tokenRewards([1, -2, 0.5], 0.5, 3);
    assert.deepEqual([...nonScoreRewards], [-0.5, 1, -0.25]);
    assert.deepEqual([...rewards], [-0.5, 1, 2.75]);
  });

  it("give a response of one token both", () => {
    assert.deepEqual([...tokenRewards([2], 0.5, 1).rewards], [0]);
    assert.throws(() => tokenRewards([], 0.5, 1), { message: /at least 1 token/ });
  });

  it("are those of TRL v0.2.1", () => {
    const { rollout, scores, config } = golden021();
    for (const [i, expected] of rollout.rewards.entries()) {
      const kl = klPenalty("k1", rollout.logprobs[i], rollout.ref_logprobs[i]);
      const { nonScoreRewards, rewards } = tokenRewards(kl, config.init_kl_coef, scores[i]);
      assertClose(nonScoreRewards, rollout.non_score_rewards[i], 1e-6);
      assertClose(rewards, expected, 1e-6);
    }
  });
});

describe("advantages of a batch", () => {
  const rewards = [Float32Array.of(0, 0, 1), Float32Array.of(2)];
  const values = [Float32Array.of(0.5, 0.5, 0.5), Float32Array.of(1)];
  const plain = { gamma: 1, lambda: 0.5, rewardWhitening: "none" } as const;

  it("are raw, whitened together, or whitened one response at a time", () => {
    const none = computeAdvantages(rewards, values, { ...plain, advantageWhitening: "none" });
    assert.deepEqual(
      none.advantages.map((row) => [...row]),
      [[0.125, 0.25, 0.5], [1]],
    );
    assert.deepEqual(
      none.returns.map((row) => [...row]),
      [[0.625, 0.75, 1], [2]],
    );
    const batch = computeAdvantages(rewards, values, { ...plain, advantageWhitening: "batch" });
    assertClose(
      batch.advantages.flatMap((row) => [...row]).reduce((a, b) => a + b),
      0,
      1e-6,
    );
    assert.ok(batch.advantages[1][0] > 1);
    const sample = computeAdvantages(rewards, values, { ...plain, advantageWhitening: "sample" });
    assert.equal(sample.advantages[1][0], 0); // alone, a token has nothing to be compared with
    assert.deepEqual(sample.returns, none.returns);
  });

  it("whiten per sample as TRL v0.2.1", () => {
    const { rollout, gae, config } = golden021();
    const result = computeAdvantages(
      rollout.rewards.map((row) => Float32Array.from(row)),
      rollout.values_shifted_one_left.map((row) => Float32Array.from(row)),
      { gamma: config.gamma, lambda: config.lam, advantageWhitening: "sample", rewardWhitening: "none" },
    );
    for (const [i, expected] of gae.entries()) {
      assertClose(result.advantages[i], expected.advantages_whitened, 1e-5);
    }
  });

  it("whiten rewards to unit variance, keeping their mean", () => {
    const whitened = computeAdvantages(rewards, values, {
      gamma: 0,
      lambda: 0,
      advantageWhitening: "none",
      rewardWhitening: "response",
    });
    const seen = whitened.returns.flatMap((row) => [...row]); // with gamma 0 a return is a reward
    assertClose(seen.reduce((a, b) => a + b) / 4, 0.75, 1e-6);
  });

  it("let whitened padding leak into shorter responses only where TRL's habit is asked for", () => {
    const options = { gamma: 1, lambda: 1, advantageWhitening: "none" } as const;
    const response = computeAdvantages(rewards, values, { ...options, rewardWhitening: "response" }, [1, 1]);
    const padded = computeAdvantages(rewards, values, { ...options, rewardWhitening: "padded" }, [1, 1]);
    assert.deepEqual(padded.returns[0], response.returns[0]);
    // two padding positions behind the one-token response, each worth (0 − mean)/std + mean
    const mean = 0.75;
    const leak = 2 * (mean - mean / Math.sqrt(2.75 / 3));
    assertClose(padded.returns[1][0] - response.returns[1][0], leak, 1e-5);
  });

  it("of no responses are none", () => {
    for (const rewardWhitening of ["none", "response", "padded"] as const) {
      const options = { ...plain, rewardWhitening, advantageWhitening: "batch" } as const;
      assert.deepEqual(computeAdvantages([], [], options).advantages, []);
    }
  });
});

describe("scores", () => {
  const off = { scoreScaling: false, scoreNorm: false, scoreClip: null };

  it("pass unchanged by default", () => {
    assert.deepEqual([...processScores([1, -2], off, new RunningMoments())], [1, -2]);
  });

  it("are clipped on both sides", () => {
    const scores = processScores([1, -2, 0.25], { ...off, scoreClip: 0.5 }, new RunningMoments());
    assert.deepEqual([...scores], [0.5, -0.5, 0.25]);
  });

  it("are divided by their deviation, and centred where asked", () => {
    const scaled = processScores([1, 3], { ...off, scoreScaling: true }, new RunningMoments());
    assertClose(scaled, [Math.SQRT1_2, 3 * Math.SQRT1_2], 1e-6);
    const normed = processScores(
      [1, 3],
      { ...off, scoreScaling: true, scoreNorm: true },
      new RunningMoments(),
    );
    assertClose(normed, [-Math.SQRT1_2, Math.SQRT1_2], 1e-6);
  });

  it("merge moments batch by batch into those of all scores", () => {
    const moments = new RunningMoments();
    moments.update([1, 2, 3]);
    moments.update([4]);
    moments.update([5, 6]);
    assertClose(moments.state.mean, 3.5, 1e-6);
    assertClose(moments.state.variance, 35 / 12, 1e-5);
    assertClose(moments.state.std, Math.sqrt(3.5), 1e-6);
  });

  it("stay as they are while one score is all there is, or all are equal", () => {
    const options = { ...off, scoreScaling: true };
    assert.equal(processScores([0.75], options, new RunningMoments())[0], Math.fround(0.75 / (1 + 2 ** -23)));
    assert.deepEqual([...processScores([2, 2, 2], options, new RunningMoments())], [2, 2, 2]);
    assert.throws(() => processScores([], options, new RunningMoments()), { name: "ShapeError" });
  });
});
