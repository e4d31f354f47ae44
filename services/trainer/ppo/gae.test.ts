import assert from "node:assert/strict";
import fc from "fast-check";
import { computeGae, computeReturns } from "./gae.js";
import { assertClose, golden021 } from "./testing/golden.js";

describe("GAE", () => {
  it("gives 0.125, 0.25, 0.5 for rewards 0, 0, 1 and values all 0.5 at gamma 1, lambda 0.5", () => {
    const advantages = computeGae([0, 0, 1], [0.5, 0.5, 0.5], { gamma: 1, lambda: 0.5 });
    assert.deepEqual([...advantages], [0.125, 0.25, 0.5]);
    assert.deepEqual([...computeReturns(advantages, [0.5, 0.5, 0.5])], [0.625, 0.75, 1]);
  });

  it("gives one token its reward minus its value", () => {
    assert.deepEqual([...computeGae([2], [0.5], { gamma: 0.9, lambda: 0.95 })], [1.5]);
  });

  it("gives no tokens no advantages", () => {
    assert.deepEqual([...computeGae([], [], { gamma: 1, lambda: 1 })], []);
  });

  it("looks one step ahead at lambda 0 and to the end at lambda 1", () => {
    const rewards = [1, 2, 4];
    const values = [0.5, 1, 2];
    assertClose(computeGae(rewards, values, { gamma: 0.5, lambda: 0 }), [1, 2, 2], 1e-6);
    assertClose(computeGae(rewards, values, { gamma: 1, lambda: 1 }), [6.5, 5, 2], 1e-6);
  });

  it("refuses values of another length", () => {
    assert.throws(() => computeGae([1, 2], [1], { gamma: 1, lambda: 1 }), {
      name: "ShapeError",
      message: "values: expected [2], got [1]",
    });
  });

  it("is the discounted sum of temporal differences", () => {
    const reward = fc.float({ min: -5, max: 5, noNaN: true });
    const unit = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(reward, reward), { maxLength: 20 }),
        unit,
        unit,
        (steps, gamma, lambda) => {
          const rewards = steps.map(([r]) => r);
          const values = steps.map(([, v]) => v);
          const naive = rewards.map((_, t) =>
            rewards.slice(t).reduce((sum, r, l) => {
              const delta = r + gamma * (values[t + l + 1] ?? 0) - values[t + l];
              return sum + (gamma * lambda) ** l * delta;
            }, 0),
          );
          assertClose(computeGae(rewards, values, { gamma, lambda }), naive, 1e-3);
        },
      ),
    );
  });

  it("reproduces the advantages and returns of TRL v0.2.1", () => {
    const { rollout, gae, config } = golden021();
    for (const [i, expected] of gae.entries()) {
      const values = rollout.values_shifted_one_left[i];
      const advantages = computeGae(rollout.rewards[i], values, { gamma: config.gamma, lambda: config.lam });
      assertClose(advantages, expected.advantages_raw, 1e-6);
      assertClose(computeReturns(advantages, values), expected.returns, 1e-6);
    }
  });
});
