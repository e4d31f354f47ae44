import assert from "node:assert/strict";
import type { EncoderRow } from "./encoder-feeds.js";
import type { Encoder } from "./encoder-runner.js";
import { cutByTokens, ParallelEncoder } from "./parallel-encoder.js";

describe("several encoders side by side", () => {
  it("share rows by their tokens, longest first, and leave none without a row", () => {
    assert.deepEqual(cutByTokens([1, 9, 2, 8, 4], 2), [
      [1, 3],
      [4, 2, 0],
    ]);
    assert.deepEqual(cutByTokens([5], 3), [[0]]);
    assert.deepEqual(cutByTokens([], 3), []);
    const lengths = Array.from({ length: 50 }, (_, i) => 10 + (i % 7));
    const parts = cutByTokens(lengths, 4);
    const tokens = parts.map((part) => part.reduce((sum, row) => sum + (lengths[row] as number), 0));
    assert.equal(parts.flat().length, 50);
    assert.ok(Math.max(...tokens) - Math.min(...tokens) < 40, tokens.join());
  });

  it("give each row its own result, in the order asked, and work at the same time", async () => {
    let atWork = 0;
    let most = 0;
    const encoder = (): Encoder => ({
      classify: async (rows) => {
        atWork += 1;
        most = Math.max(most, atWork);
        await new Promise(setImmediate);
        atWork -= 1;
        return rows.map(({ ids }) => Float32Array.of(ids[0] as number));
      },
      hiddenStates: async (rows, layers) =>
        rows.map(({ ids }) => layers.map((l) => Float32Array.of(l, ids.length))),
      release: async () => {},
    });
    const both = new ParallelEncoder([encoder(), encoder()]);
    const rows: EncoderRow[] = [{ ids: [4] }, { ids: [5, 0, 0] }, { ids: [6, 0] }];
    const logits = await both.classify(rows);
    assert.deepEqual(
      logits.map(([value]) => value),
      [4, 5, 6],
    );
    assert.equal(most, 2);
    const states = await both.hiddenStates(rows, [1, 2]);
    assert.deepEqual([...(states[1]?.[1] ?? [])], [2, 3]);
  });
});
