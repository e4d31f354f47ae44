import assert from "node:assert/strict";
import { blockMeans, median, quantile, summarize, trend } from "./statistics.js";

describe("statistics of repeated measurements", () => {
  it("take the middle, also between two values", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.deepEqual(summarize([2, 9, 4]), { median: 4, min: 2, max: 9 });
  });

  it("interpolate quantiles", () => {
    assert.equal(quantile([0, 10], 0.99), 9.9);
    assert.equal(quantile([7], 0.99), 7);
    assert.throws(() => quantile([], 0.5), /at least one value/);
  });

  it("find the slope of a line and no error in it", () => {
    assert.deepEqual(trend([1, 3, 5, 7]), { slope: 2, standardError: 0 });
  });

  it("know the standard error of a slope", () => {
    // 0, 1, 0, 1: slope 0.2, residuals −0.2 0.6 −0.6 0.2, √(0.8 / 2 / 5)
    const { slope, standardError } = trend([0, 1, 0, 1]);
    assert.ok(Math.abs(slope - 0.2) < 1e-12);
    assert.ok(Math.abs(standardError - Math.sqrt(0.08)) < 1e-12);
    assert.throws(() => trend([1, 2]), /at least 3 values/);
  });

  it("are less sure of a slope where neighbours resemble each other", () => {
    const residuals = [1, -1, -1, 1, -1, 1, 1, -1, 1, -1]; // about a line, in no order
    const steady = trend(residuals.map((residual, t) => 2 * t + residual));
    assert.ok(steady.slope > 2 * steady.standardError, "growth is found");
    // steps, as memory has them: up 4, down 4, up 4; a plain standard error would call that growth
    const steps = trend([0, 0, 0, 4, 4, 4, 0, 0, 0, 4, 4, 4, 4, 4]);
    assert.ok(steps.slope < 2 * steps.standardError, "and not where there is none to be told");
  });

  it("average blocks, leaving the odd ones at the start out", () => {
    assert.deepEqual(blockMeans([100, 1, 3, 5, 7], 2), [2, 6]);
  });
});
