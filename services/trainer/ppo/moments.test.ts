import assert from "node:assert/strict";
import fc from "fast-check";
import { concatRows, mean, splitLike, variance, whiten, whitenRows } from "./moments.js";
import { assertClose, golden021 } from "./testing/golden.js";

const values = fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 3, maxLength: 60 });

describe("moments", () => {
  it("gives mean 2.5 and unbiased variance 5/3 for 1, 2, 3, 4", () => {
    assert.equal(mean([1, 2, 3, 4]), 2.5);
    assertClose(variance([1, 2, 3, 4]), 5 / 3, 1e-6);
  });

  it("counts only values under the mask", () => {
    assert.equal(mean([1, 99, 3, -50], [1, 0, 1, 0]), 2);
    assert.equal(variance([1, 99, 3, -50], [1, 0, 1, 0]), 2);
  });

  it("gives one value alone variance 0, so that it whitens to 0", () => {
    assert.equal(variance([7]), 0);
    assert.equal(variance([7, 9], [0, 1]), 0);
    assert.deepEqual([...whiten([7])], [0]);
  });

  it("refuses to average nothing", () => {
    assert.throws(() => mean([]), { name: "ShapeError", message: /at least 1 value, got 0/ });
    assert.throws(() => whiten([1, 2], { mask: [0, 0] }), { name: "ShapeError" });
  });

  it("refuses a mask of another length", () => {
    assert.throws(() => mean([1, 2], [1]), { message: "mask: expected [2], got [1]" });
  });

  it("whitens to the numbers of TRL v0.2.1", () => {
    const { whiten: unit } = golden021().unit;
    assertClose(variance(unit.in), unit.var_unbiased, 1e-6);
    assertClose(whiten(unit.in), unit.shift_mean_true, 1e-6);
    assertClose(whiten(unit.in, { shiftMean: false }), unit.shift_mean_false, 1e-6);
  });

  it("transforms values outside the mask with the moments of those inside", () => {
    // inside: mean 2, variance 2; 0 outside becomes (0 - 2)/√2 + 2
    const whitened = whiten([1, 3, 0], { mask: [1, 1, 0], shiftMean: false });
    assertClose(whitened, [2 - Math.SQRT1_2, 2 + Math.SQRT1_2, 2 - Math.SQRT2], 1e-6);
  });

  it("whitens any values that differ to mean 0 and variance 1", () => {
    fc.assert(
      fc.property(values, (xs) => {
        fc.pre(variance(xs) > 1e-2);
        const whitened = whiten(xs);
        assertClose(mean(whitened), 0, 1e-4);
        assertClose(variance(whitened), 1, 1e-3);
      }),
    );
  });

  it("keeps the mean where asked", () => {
    fc.assert(
      fc.property(values, (xs) => {
        fc.pre(variance(xs) > 1e-2);
        assertClose(mean(whiten(xs, { shiftMean: false })), mean(xs), 1e-3);
      }),
    );
  });

  it("whitens equal values to 0 instead of dividing by 0", () => {
    assert.deepEqual([...whiten([3, 3, 3])], [0, 0, 0]);
  });

  it("whitens ragged rows as one batch and returns their shapes", () => {
    const rows = [Float32Array.of(1, 2), Float32Array.of(), Float32Array.of(3, 4, 5)];
    const whitened = whitenRows(rows);
    assert.deepEqual(
      whitened.map((row) => row.length),
      [2, 0, 3],
    );
    assert.deepEqual(concatRows(whitened), whiten([1, 2, 3, 4, 5]));
    assert.throws(() => splitLike(new Float32Array(4), rows), { name: "ShapeError" });
  });
});
