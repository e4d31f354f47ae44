import assert from "node:assert/strict";
import fc from "fast-check";
import { groupBySize } from "./batching.js";

describe("batching", () => {
  it("puts sequences of similar length together, longest first", () => {
    const sizes = [10, 3, 10, 3].map((tokens) => ({ tokens, logitRows: 1 }));
    assert.deepEqual(groupBySize(sizes, {}, 10), [
      [0, 2],
      [1, 3],
    ]);
  });

  it("keeps tokens and logits within their limits", () => {
    const sizes = Array.from({ length: 6 }, () => ({ tokens: 10, logitRows: 5 }));
    assert.deepEqual(groupBySize(sizes, { maxTokens: 30 }, 1), [
      [0, 1, 2],
      [3, 4, 5],
    ]);
    assert.deepEqual(groupBySize(sizes, { maxLogits: 1000 }, 100), [
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
  });

  it("runs what is too large alone, and nothing when there is nothing", () => {
    const sizes = [7, 7].map((tokens) => ({ tokens, logitRows: 7 }));
    assert.deepEqual(groupBySize(sizes, { maxTokens: 1, maxLogits: 1 }, 50_000), [[0], [1]]);
    assert.deepEqual(groupBySize([], {}, 10), []);
  });

  it("puts every sequence into exactly one group", () => {
    const size = fc.record({
      tokens: fc.integer({ min: 1, max: 300 }),
      logitRows: fc.integer({ min: 0, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(size, { maxLength: 40 }), fc.integer({ min: 1, max: 2000 }), (sizes, limit) => {
        const groups = groupBySize(sizes, { maxTokens: limit, maxLogits: limit * 10 }, 10);
        const all = groups.flat().sort((a, b) => a - b);
        assert.deepEqual(all, [...sizes.keys()]);
        for (const group of groups) {
          const rows = group.reduce((total, i) => total + sizes[i].logitRows, 0);
          assert.ok(group.length === 1 || rows <= limit);
        }
      }),
    );
  });
});
