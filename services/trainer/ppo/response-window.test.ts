import assert from "node:assert/strict";
import {
  entropyRows,
  gatherLogprobs,
  logSoftmaxRows,
  responseWindow,
  valueWindow,
} from "./response-window.js";
import { assertClose, golden021 } from "./testing/golden.js";

describe("response window", () => {
  it("starts at the last query position, whose logits choose the first response token", () => {
    assert.deepEqual(responseWindow(3, 2), { start: 2, count: 2 });
    assert.deepEqual(responseWindow(1, 1), { start: 0, count: 1 });
  });

  it("takes values at the same positions, or one to the left as TRL v0.2.1", () => {
    assert.deepEqual(valueWindow(3, 2, 0), { start: 2, count: 2 });
    assert.deepEqual(valueWindow(3, 2, -1), { start: 1, count: 2 });
    assert.throws(() => valueWindow(1, 2, -1), { message: /at least 2 tokens/ });
  });

  it("refuses an empty query or response", () => {
    assert.throws(() => responseWindow(0, 2), { message: /query: expected at least 1/ });
    assert.throws(() => responseWindow(2, 0), { message: /response: expected at least 1/ });
  });

  it("gathers logprobs and entropies as TRL v0.2.1", () => {
    const { logprobs_from_logits: unit, entropy_from_logits: entropy } = golden021().unit;
    const logits = Float32Array.from(unit.logits.flat(2));
    assertClose(gatherLogprobs(logits, unit.labels[0]), unit.out[0], 1e-6);
    assertClose(entropyRows(logits, 2), entropy.out[0], 1e-6);
    const full = logSoftmaxRows(logits, 2);
    assertClose([full[unit.labels[0][0]], full[4 + unit.labels[0][1]]], unit.out[0], 1e-6);
  });

  it("survives extreme logits", () => {
    assertClose(gatherLogprobs(Float32Array.of(1e4, -1e4), [0]), [0], 0);
    assertClose(gatherLogprobs(Float32Array.of(1e4, -1e4), [1]), [-2e4], 0);
    assertClose(entropyRows(Float32Array.of(3e38, -Infinity), 1), [0], 0);
  });

  it("names a label outside the vocabulary", () => {
    assert.throws(() => gatherLogprobs(new Float32Array(6), [0, 3]), {
      message: "labels[1]: expected 0 to 2, got 3",
    });
    assert.throws(() => gatherLogprobs(new Float32Array(5), [0, 1]), { message: /2 rows, got \[5\]/ });
  });

  it("gathers nothing from nothing", () => {
    assert.equal(gatherLogprobs(new Float32Array(0), []).length, 0);
    assert.equal(entropyRows(new Float32Array(0), 0).length, 0);
  });
});
