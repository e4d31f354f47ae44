import assert from "node:assert/strict";
import { PythonRandom } from "../../../lib/dataset/rng.js";
import { cutMinibatches, identity, recordedOrder, reshuffledOrder, shuffledOrder } from "./minibatches.js";
import { golden021 } from "./testing/golden.js";

describe("minibatches", () => {
  it("are cut in order, grouped by optimizer step", () => {
    assert.deepEqual(cutMinibatches([3, 1, 0, 2], 1, 2), [
      [[3], [1]],
      [[0], [2]],
    ]);
  });

  it("that are left over are smaller", () => {
    assert.deepEqual(cutMinibatches([4, 3, 2, 1, 0], 2, 2), [
      [
        [4, 3],
        [2, 1],
      ],
      [[0]],
    ]);
    assert.deepEqual(cutMinibatches([0], 8, 4), [[[0]]]);
    assert.deepEqual(cutMinibatches([], 8, 4), []);
  });

  it("need a permutation", () => {
    assert.throws(() => cutMinibatches([0, 0], 1, 1), { message: /a permutation of 0 to 1, got 0, 0/ });
    assert.throws(() => cutMinibatches([0, 2], 1, 1), { name: "ShapeError" });
  });

  it("come in TRL v0.2.1's order from Python's shuffle", () => {
    const { minibatches, config, python_random_seed_before_step: seed } = golden021();
    const order = reshuffledOrder(new PythonRandom(seed));
    let previous: readonly number[] = identity(config.batch_size);
    const visited = Array.from({ length: config.ppo_epochs }, (_, epoch) => {
      previous = order(epoch, config.batch_size, previous);
      return previous;
    });
    assert.deepEqual(
      visited.flat(),
      minibatches.map(({ sample }) => sample),
    );
  });

  it("are shuffled anew every epoch by default", () => {
    const reversed = shuffledOrder({ shuffle: (items) => items.reverse() });
    assert.deepEqual(reversed(0, 3, []), [2, 1, 0]);
    assert.deepEqual(reversed(1, 3, [2, 1, 0]), [2, 1, 0]);
  });

  it("can be replayed, as far as they were recorded", () => {
    const order = recordedOrder([[1, 0]]);
    assert.deepEqual(order(0, 2, []), [1, 0]);
    assert.throws(() => order(1, 2, []), { message: /expected epoch 1/ });
  });
});
