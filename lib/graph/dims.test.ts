/**
 * @file Arithmetic of symbolic dimensions.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addDims,
  broadcastShapes,
  type Dim,
  divideDims,
  evalDim,
  mulDims,
  normalizeDim,
  sizeOf,
  subDims,
} from "./index.js";

describe("symbolic dimensions", () => {
  it("are written in one form, whatever the order they are given in", () => {
    assert.equal(normalizeDim("time * batch"), "batch*time");
    assert.equal(normalizeDim("1 + past + time - 1"), "past+time");
    assert.equal(normalizeDim("2*a + 3*a"), "5*a");
    assert.equal(normalizeDim("a-a+4"), 4);
  });

  it("add, subtract and multiply", () => {
    assert.equal(addDims("past", "time"), "past+time");
    assert.equal(subDims("past+time", "time"), "past");
    assert.equal(subDims("time", 1), "time-1");
    assert.equal(mulDims("batch", mulDims(12, "time")), "12*batch*time");
    assert.equal(mulDims("a+1", "a-1"), "a*a-1");
    assert.equal(sizeOf(["b", 2, "t", 3]), "6*b*t");
    assert.equal(sizeOf([]), 1);
  });

  it("divide only when that is exact for every value", () => {
    assert.equal(divideDims("6*b*t", "3*t"), "2*b");
    assert.equal(divideDims("a*a-1", "a+1"), "a-1");
    assert.equal(divideDims(12, 4), 3);
    assert.equal(divideDims("b", 2), undefined);
    assert.equal(divideDims("b", "t"), undefined);
    assert.equal(divideDims("b", 0), undefined);
    assert.equal(divideDims(0, "b"), 0);
  });

  it("compute with the values of a run, as numbers do", () => {
    const dim = fc.oneof(
      fc.integer({ min: 0, max: 9 }),
      fc.constantFrom("a", "b", "a*b", "a+b", "2*a-b", "a*a+3"),
    ) as fc.Arbitrary<Dim>;
    const value = fc.integer({ min: 0, max: 50 });
    fc.assert(
      fc.property(dim, dim, value, value, (x, y, a, b) => {
        const at = (d: Dim): number => evalDim(d, { a, b });
        assert.equal(at(addDims(x, y)), at(x) + at(y));
        assert.equal(at(subDims(x, y)), at(x) - at(y));
        assert.equal(at(mulDims(x, y)), at(x) * at(y) + 0); // + 0 because −1 · 0 is −0
        const product = mulDims(x, y);
        if (y !== 0) assert.equal(divideDims(product, y), x);
      }),
    );
  });

  it("broadcast against themselves and 1, and nothing else", () => {
    assert.deepEqual(broadcastShapes("Add", ["b", 1, 3], ["t", 3]), ["b", "t", 3]);
    assert.throws(
      () => broadcastShapes("Add", ["b", 3], ["t", 3]),
      /Add: cannot broadcast \[b, 3\] with \[t, 3\]/,
    );
    assert.throws(() => broadcastShapes("Add", ["b"], [4]), /cannot broadcast/);
  });

  it("refuse text that is no polynomial and names without a value", () => {
    for (const text of ["", "a b", "a/2", "(a+b)*c", "2a", "a++b", "-"]) {
      assert.throws(() => normalizeDim(text), /dimension/, text);
    }
    assert.throws(() => normalizeDim(-1), /expected a whole number/);
    assert.throws(() => normalizeDim(1.5), /expected a whole number/);
    assert.throws(() => evalDim("b*t", { b: 2 }), /dimension b\*t: t has no value in this run/);
  });
});
