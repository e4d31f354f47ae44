import assert from "node:assert/strict";
import { chooseGreedy, chooseSample } from "./choose.js";

const X = Number.NEGATIVE_INFINITY;

describe("choosing a token", () => {
  it("greedy takes the first of the largest", () => {
    assert.equal(chooseGreedy(Float32Array.of(1, 3, 3, 2)), 1);
    assert.equal(chooseGreedy(Float32Array.of(X, -5, X)), 1);
    assert.equal(chooseGreedy(Float32Array.of(Number.NaN, 1)), 1);
  });

  it("says so where every token is banned", () => {
    assert.equal(chooseGreedy(Float32Array.of(X, X)), -1);
    assert.equal(chooseSample(Float32Array.of(X, X), 0.5), -1);
  });

  it("sampling inverts the cumulative distribution in the order of ids", () => {
    const quarters = Float32Array.from([0.25, 0.25, 0.5].map(Math.log));
    assert.deepEqual(
      [0, 0.24, 0.26, 0.49, 0.51, 0.999999].map((u) => chooseSample(quarters, u)),
      [0, 0, 1, 1, 2, 2],
    );
    assert.equal(chooseSample(Float32Array.of(X, 4, X), 0), 1);
    assert.equal(chooseSample(Float32Array.of(X, 4, X), 0.9999999999), 1);
  });

  it("extreme logits neither overflow nor underflow", () => {
    assert.equal(chooseSample(Float32Array.of(3e38, -3e38), 0.99), 0);
    assert.equal(chooseSample(Float32Array.of(-3e38, -3e38), 0.75), 1);
  });

  it("frequencies follow the probabilities", () => {
    const logits = Float32Array.from([0.1, 0.2, 0.3, 0.4].map(Math.log));
    const counts = [0, 0, 0, 0];
    const n = 10_000;
    for (let i = 0; i < n; i++) counts[chooseSample(logits, (i + 0.5) / n)]++;
    assert.deepEqual(counts, [1000, 2000, 3000, 4000]); // the exact inverse on an even grid
  });
});
