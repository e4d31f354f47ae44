import assert from "node:assert/strict";
import { type ScheduleOptions, scheduleFactor } from "./schedule.js";

const factors = (options: ScheduleOptions, steps: number[]) =>
  steps.map((step) => scheduleFactor(options, step));

describe("learning-rate schedule", () => {
  it("stays at 1 when constant", () => {
    assert.deepEqual(factors({ kind: "constant" }, [0, 1, 1000]), [1, 1, 1]);
  });

  it("warms up linearly from 0", () => {
    assert.deepEqual(
      factors({ kind: "constant", warmupSteps: 4 }, [0, 1, 2, 3, 4, 5]),
      [0, 0.25, 0.5, 0.75, 1, 1],
    );
  });

  it("falls linearly to 0 after the warm-up, and stays there", () => {
    const options = { kind: "linear", warmupSteps: 2, totalSteps: 6 } as const;
    assert.deepEqual(factors(options, [0, 1, 2, 3, 4, 5, 6, 7]), [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0]);
  });

  it("falls along half a cosine", () => {
    const options = { kind: "cosine", totalSteps: 4 } as const;
    assert.equal(scheduleFactor(options, 0), 1);
    assert.ok(Math.abs(scheduleFactor(options, 2) - 0.5) < 1e-12);
    assert.ok(Math.abs(scheduleFactor(options, 1) - (1 + Math.SQRT1_2) / 2) < 1e-12);
    assert.equal(scheduleFactor(options, 4), 0);
  });

  it("with no steps in all is over at once", () => {
    assert.equal(scheduleFactor({ kind: "linear", totalSteps: 0 }, 0), 1);
    assert.equal(scheduleFactor({ kind: "linear", totalSteps: 0 }, 1), 0);
  });
});
