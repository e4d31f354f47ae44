import assert from "node:assert/strict";
import { achievedFlops, mergeRows, ratiosOf, resultOf } from "./rows.js";

describe("rows of results", () => {
  const time = { case: "a", metric: "time", unit: "s", samples: [2, 4, 3] };

  it("say which share of the ceiling was reached, for times and for rates", () => {
    assert.equal(resultOf({ ...time, flops: 6e9 }, 4e9).share, 0.5);
    assert.equal(
      resultOf({ case: "a", metric: "rate", unit: "texts/s", samples: [10], flops: 1e8 }, 2e9).share,
      0.5,
    );
    assert.equal(achievedFlops({ ...time, unit: "ms", flops: 1e6 }, 2), 5e8);
    assert.equal(resultOf(time, 4e9).share, undefined);
  });

  it("of several rounds join their samples by case, metric and variant", () => {
    const merged = mergeRows([time, { ...time, variant: "fp32" }, { ...time, samples: [9] }]);
    assert.deepEqual(
      merged.map(({ samples, variant }) => [samples, variant]),
      [
        [[2, 4, 3, 9], undefined],
        [[2, 4, 3], "fp32"],
      ],
    );
  });

  it("give ratios above 1 where ours is ahead, whichever way is better", () => {
    const rate = { case: "a", metric: "rate", unit: "tokens/s", samples: [30] };
    const ours = [time, rate].map((row) => resultOf(row));
    const peers = [
      { ...time, samples: [6], variant: "fp32" },
      { ...rate, samples: [10], variant: "fp32" },
      { ...rate, case: "other", variant: "fp32" },
    ].map((row) => resultOf(row));
    assert.deepEqual(
      ratiosOf(ours, peers).map(({ metric, ratio }) => [metric, ratio]),
      [
        ["time", 2],
        ["rate", 3],
      ],
    );
  });
});
