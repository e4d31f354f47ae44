import assert from "node:assert/strict";
import { createEngine } from "../../lib/engine/index.js";
import { Cosines } from "./cosines.js";
import { normalizeRows, similarityMatrix } from "./matching.js";

/** Unit rows of numbers that do not repeat. */
function sentence(length: number, width: number, seed: number) {
  const rows = Float32Array.from(
    { length: length * width },
    (_, i) => Math.sin(seed + i * 1.37) + Math.cos(i * i),
  );
  return { rows: normalizeRows(rows, width), length, width, weights: [] };
}

describe("Cosines", () => {
  it("are the same by plain code and on the engine", async () => {
    const engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
    const cosines = await Cosines.create(engine);
    for (const [m, n, width] of [
      [2, 3, 8],
      [70, 50, 256],
    ]) {
      const [a, b] = [sentence(m, width, 1), sentence(n, width, 2)];
      const expected = similarityMatrix(a, b);
      const actual = await cosines.matrix(a, b);
      assert.equal(actual.length, m * n);
      for (const [i, value] of expected.entries()) assert.ok(Math.abs(actual[i] - value) < 5e-7);
    }
    assert.equal(engine.stats().liveTensors, 0);
    cosines.release();
    await engine.close();
  });
});
