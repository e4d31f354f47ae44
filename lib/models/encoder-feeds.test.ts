import assert from "node:assert/strict";
import fc from "fast-check";
import { parseEncoderConfig } from "./config.js";
import { encoderFeeds, groupByLength } from "./encoder-feeds.js";

const numbers = (values: BigInt64Array | undefined) => [...(values ?? [])].map(Number);

describe("encoderFeeds", () => {
  it("pads on the right and masks the padding", () => {
    const config = parseEncoderConfig({ model_type: "bert", pad_token_id: 9 });
    const feeds = encoderFeeds(config, [{ ids: [2, 5, 3], typeIds: [0, 0, 1] }, { ids: [2, 3] }]);
    assert.deepEqual([feeds.batch, feeds.time], [2, 3]);
    assert.deepEqual(numbers(feeds.input_ids), [2, 5, 3, 2, 3, 9]);
    assert.deepEqual(numbers(feeds.position_ids), [0, 1, 2, 0, 1, 2]);
    assert.deepEqual(numbers(feeds.token_type_ids), [0, 0, 1, 0, 0, 0]);
    assert.deepEqual([...feeds.attention_bias].map(Math.sign), [0, 0, 0, 0, 0, -1]);
    assert.ok(Number.isFinite(feeds.attention_bias[5]));
  });

  it("counts RoBERTa's positions from the ids, a pad id in the text included", () => {
    const config = parseEncoderConfig({ model_type: "roberta" });
    const feeds = encoderFeeds(config, [{ ids: [0, 7, 1, 8, 2] }, { ids: [0, 2] }]);
    assert.deepEqual(numbers(feeds.position_ids), [2, 3, 1, 4, 5, 2, 3, 1, 1, 1]);
    assert.equal(feeds.token_type_ids, undefined);
  });
});

describe("groupByLength", () => {
  it("puts rows of equal length together, longest first, within the token budget", () => {
    assert.deepEqual(groupByLength([3, 5, 3, 5, 3], { maxTokens: 10, maxPadding: 0 }), [
      [1, 3],
      [0, 2, 4],
    ]);
    assert.deepEqual(groupByLength([4, 4, 4], { maxTokens: 8, maxPadding: 0 }), [[0, 1], [2]]);
  });

  it("runs a row alone that is longer than the budget", () => {
    assert.deepEqual(groupByLength([100, 2], { maxTokens: 10, maxPadding: 1 }), [[0], [1]]);
  });

  it("allows as much padding as asked", () => {
    assert.deepEqual(groupByLength([10, 9, 5], { maxTokens: 100, maxPadding: 0.1 }), [[0, 1], [2]]);
    assert.deepEqual(groupByLength([10, 9, 5], { maxTokens: 100, maxPadding: 0.3 }), [[0, 1, 2]]);
    assert.deepEqual(groupByLength([], { maxTokens: 1, maxPadding: 0 }), []);
  });

  it("places every row once and keeps its promises", () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 40 });
    const options = fc.record({
      maxTokens: fc.integer({ min: 1, max: 200 }),
      maxPadding: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(lengths, options, (rows, { maxTokens, maxPadding }) => {
        const groups = groupByLength(rows, { maxTokens, maxPadding });
        assert.deepEqual(
          groups.flat().sort((a, b) => a - b),
          rows.map((_, i) => i),
        );
        for (const group of groups) {
          const padded = Math.max(...group.map((i) => rows[i])) * group.length;
          const real = group.reduce((sum, i) => sum + rows[i], 0);
          assert.ok(group.length === 1 || padded <= maxTokens);
          assert.ok(padded - real <= maxPadding * padded + 1e-9);
        }
      }),
    );
  });
});
