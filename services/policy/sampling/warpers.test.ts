import assert from "node:assert/strict";
import fc from "fast-check";
import { entropy, expInPlace, kthLargest, support } from "./distribution.js";
import { TokenHistory } from "./token-history.js";
import * as warpers from "./warpers.js";

const Z = [2, 1, 0.5, -0.5, -1, 0];
const X = Number.NEGATIVE_INFINITY;
const NOTHING = new TokenHistory([]);

function apply(warper: ReturnType<typeof warpers.topK>, row: readonly number[] = Z): number[] {
  const logits = Float32Array.from(row);
  warper(logits, NOTHING);
  return [...logits];
}

const keptCount = (row: readonly number[]) => row.filter((z) => z !== X).length;

function assertClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => {
    assert.ok(Math.abs(value - expected[i]) <= tolerance, `[${i}]: expected ${expected[i]}, got ${value}`);
  });
}

describe("logits warpers", () => {
  it("softmax and entropy of the known row", () => {
    const row = support(Float32Array.from(Z));
    assertClose(
      [...row.probs.subarray(0, 6)],
      [0.53815, 0.197974, 0.120078, 0.044174, 0.026793, 0.072831],
      1e-6,
    );
    assertClose([entropy(row)], [1.334184], 1e-6);
  });

  it("temperature divides", () => {
    assertClose(
      apply(warpers.temperature(0.7)),
      [2.857143, 1.428571, 0.714286, -0.714286, -1.428571, 0],
      1e-6,
    );
  });

  it("top_k keeps k tokens and every tie at the threshold", () => {
    assert.deepEqual(apply(warpers.topK(2)), [2, 1, X, X, X, X]);
    assert.deepEqual(apply(warpers.topK(1), [1, 2, 2, 0]), [X, 2, 2, X]);
    assert.deepEqual(apply(warpers.topK(99)), Z); // limited to V
    assert.deepEqual(apply(warpers.topK(3), [1, X, X, 0]), [1, X, X, 0]); // fewer left than k
  });

  it("top_p keeps the token that crosses and none that starts at p", () => {
    const quarters = [0.5, 0.25, 0.125, 0.125].map(Math.log);
    for (const [p, kept] of [
      [0.49, 1],
      [0.5, 1],
      [0.51, 2],
      [0.75, 2],
      [0.76, 3],
      [0, 1],
    ]) {
      assert.equal(keptCount(apply(warpers.topP(p), quarters)), kept, `p = ${p}`);
    }
    const tied = apply(warpers.topP(0.76), quarters);
    assert.equal(tied[2], X); // of two tied tokens the higher id ranks higher
    assert.notEqual(tied[3], X);
  });

  it("top_p renormalises over what earlier rules left", () => {
    // alone 0.538 of the whole; of the two left 0.731
    assert.deepEqual(apply(warpers.topP(0.7), [2, 1, X, X, X, X]), [2, X, X, X, X, X]);
  });

  it("min_p compares with the best token", () => {
    // shares of the best: 1, 0.368, 0.223, 0.082, 0.050, 0.135
    assert.deepEqual(apply(warpers.minP(0.2)), [2, 1, 0.5, X, X, X]);
    assert.deepEqual(apply(warpers.minP(1)), [2, X, X, X, X, X]);
  });

  it("typical_p walks by distance from the entropy", () => {
    assert.deepEqual(apply(warpers.typicalP(0.3)), [2, 1, X, X, X, X]);
    assert.deepEqual(apply(warpers.typicalP(0.9)), [2, 1, 0.5, X, X, 0]);
  });

  it("epsilon and eta remove improbable tokens but never the best", () => {
    assert.deepEqual(apply(warpers.epsilonCutoff(0.1)), [2, 1, 0.5, X, X, X]);
    assert.deepEqual(apply(warpers.etaCutoff(0.1)), [2, 1, 0.5, X, X, X]); // cut 0.083286
    assert.deepEqual(apply(warpers.epsilonCutoff(0.9)), [2, X, X, X, X, X]);
  });

  it("top_h keeps the best and stops where the running entropy passes the share", () => {
    // −p ln p by rank: .3335 .3206 .2545 .1908 .1378 .0970, together 1.3342
    assert.deepEqual(apply(warpers.topH(0.5)), [2, 1, X, X, X, X]); // .3335 + .3206 ≤ .6671 < .9086
    assert.deepEqual(apply(warpers.topH(0.01)), [2, X, X, X, X, X]);
    assert.equal(keptCount(apply(warpers.topH(1))) >= 5, true);
  });

  it("renormalising gives log-probabilities", () => {
    const row = apply(warpers.renormalize, [1, 1, X]);
    assertClose(row.slice(0, 2), [-Math.LN2, -Math.LN2], 1e-7);
    assert.equal(row[2], X);
  });

  it("every warper keeps the best token, for any row", () => {
    const rows = fc.array(fc.float({ min: -50, max: 50, noNaN: true }), { minLength: 1, maxLength: 40 });
    const each = [
      warpers.topK(1),
      warpers.topP(0),
      warpers.topP(0.3),
      warpers.minP(1),
      warpers.typicalP(0.99999),
      warpers.epsilonCutoff(1),
      warpers.etaCutoff(1),
      warpers.topH(0.1),
    ];
    fc.assert(
      fc.property(rows, fc.constantFrom(...each), (row, warper) => {
        const kept = keptCount(apply(warper, row));
        return kept >= 1 && kept <= row.length;
      }),
    );
  });

  it("top_p keeps what sorting all tokens keeps", () => {
    const rows = fc.array(fc.float({ min: -60, max: 30, noNaN: true }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(rows, fc.double({ min: 0.01, max: 0.99, noNaN: true }), (row, p) => {
        const logits = Float32Array.from(row);
        const { probs } = support(logits);
        const order = row.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || b - a);
        let above = 0;
        const kept = order.filter((i) => {
          const keeps = above < p;
          above += probs[i];
          return keeps;
        });
        // a sum that rounding could put on either side of p is left out
        fc.pre(Math.abs(kept.reduce((sum, i) => sum + probs[i], 0) - p) > 1e-6);
        const actual = apply(warpers.topP(p), row);
        return actual.every((z, i) => (z !== X) === kept.includes(i));
      }),
      { numRuns: 300 },
    );
  });

  it("exponentials are those of the standard library", () => {
    const xs = Float64Array.from({ length: 4000 }, (_, i) => -i * 0.2);
    const values = xs.slice();
    const sum = expInPlace(values, values.length);
    for (const [i, x] of xs.entries()) {
      const exact = Math.exp(x);
      assert.ok(Math.abs(values[i] - exact) <= Math.max(1e-11 * exact, 5e-324), `exp(${x})`);
    }
    assertClose([sum], [1 / (1 - Math.exp(-0.2))], 1e-9);
    assert.ok(Number.isNaN(expInPlace(Float64Array.of(0, Number.NaN), 2)));
  });

  it("the k-th largest agrees with sorting", () => {
    const rows = fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(rows, fc.nat(), (row, n) => {
        const k = (n % row.length) + 1;
        const sorted = Float32Array.from(row).sort();
        return kthLargest(Float32Array.from(row), k) === sorted[row.length - k];
      }),
    );
  });
});
