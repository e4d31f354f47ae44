import assert from "node:assert/strict";
import fc from "fast-check";
import { fullKl, klK3, klPenalty } from "./kl.js";
import { KlController } from "./kl-controller.js";
import { logSoftmaxRows } from "./response-window.js";
import { assertClose, golden021 } from "./testing/golden.js";

describe("KL penalties", () => {
  const logprobs = [-1, -2, -3];
  const reference = [-1.5, -2, -1];

  it("are the difference, its size, or half its square", () => {
    assert.deepEqual([...klPenalty("k1", logprobs, reference)], [0.5, 0, -2]);
    assert.deepEqual([...klPenalty("abs", logprobs, reference)], [0.5, 0, 2]);
    assert.deepEqual([...klPenalty("mse", logprobs, reference)], [0.125, 0, 2]);
  });

  it("are ½·log(½/¼) + ½·log(½/¾) for a fair coin against one of ¼", () => {
    const policy = Float32Array.of(Math.log(0.5), Math.log(0.5));
    const other = Float32Array.of(Math.log(0.25), Math.log(0.75));
    assertClose(fullKl(policy, other, 1), [0.5 * Math.log(2) + 0.5 * Math.log(2 / 3)], 1e-6);
  });

  it("ignore tokens that the policy never chooses", () => {
    assert.deepEqual([...fullKl(Float32Array.of(0, -Infinity), Float32Array.of(-1, -5), 1)], [1]);
  });

  it("refuse arrays of different lengths, and accept none", () => {
    assert.throws(() => klPenalty("k1", [1], []), { message: "refLogprobs: expected [1], got [0]" });
    assert.throws(() => fullKl(new Float32Array(5), new Float32Array(5), 2), { name: "ShapeError" });
    assert.equal(klPenalty("abs", [], []).length, 0);
    assert.equal(fullKl(new Float32Array(0), new Float32Array(0), 0).length, 0);
  });

  it("k3 is e^d − 1 − d, never negative", () => {
    assertClose(klK3([-1], [0]), [Math.E - 2], 1e-6);
    fc.assert(
      fc.property(
        fc.float({ min: -20, max: 0, noNaN: true }),
        fc.float({ min: -20, max: 0, noNaN: true }),
        (l, r) => {
          assert.ok(klK3([l], [r])[0] >= 0);
        },
      ),
    );
  });

  it("of k1 and k3, averaged over the policy's distribution, are the exact KL", () => {
    const logits = fc.array(fc.float({ min: -3, max: 3, noNaN: true }), { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(logits, logits, (a, b) => {
        const policy = logSoftmaxRows(Float32Array.from(a), 1);
        const other = logSoftmaxRows(Float32Array.from(b), 1);
        const [exact] = fullKl(policy, other, 1);
        const expectation = (estimate: Float32Array) =>
          estimate.reduce((sum, value, k) => sum + Math.exp(policy[k]) * value, 0);
        assertClose(expectation(klPenalty("k1", policy, other)), exact, 1e-4);
        assertClose(expectation(klK3(policy, other)), exact, 1e-4);
      }),
    );
  });
});

describe("KL controller", () => {
  it("follows TRL's adaptive sequence in float64", () => {
    const { adaptive_kl: unit } = golden021().unit;
    const controller = new KlController({
      kind: "adaptive",
      initial: unit.init,
      target: unit.target,
      horizon: unit.horizon,
    });
    for (const step of unit.steps) {
      controller.update(step.current, step.n_steps);
      assertClose(controller.value, step.value_after, 1e-15);
    }
  });

  it("clips the error at 20 %, so one batch of 32 moves 0.2 by at most 0.064 %", () => {
    const options = { kind: "adaptive", initial: 0.2, target: 6, horizon: 10_000 } as const;
    for (const [current, factor] of [
      [1000, 1.00064],
      [-1000, 0.99936],
    ]) {
      const controller = new KlController(options);
      controller.update(current, 32);
      assertClose(controller.value, 0.2 * factor, 1e-15);
    }
  });

  it("keeps a fixed coefficient", () => {
    const controller = new KlController({ kind: "fixed", initial: 0.1, target: 6, horizon: 100 });
    controller.update(1000, 64);
    assert.equal(controller.value, 0.1);
  });
});
