import assert from "node:assert/strict";
import { blockFlops, generationFlops, trainingFlops } from "./flops.js";

const SMALL = { layers: 12, hiddenSize: 768, innerSize: 3072, vocabSize: 50257 };

describe("floating-point operations", () => {
  it("of one token in a tiny block are counted by hand", () => {
    // weights 4·2² + 2·2·8 = 48, two operations each; attention of one token over one: 4·1·1·2
    assert.equal(blockFlops({ layers: 1, hiddenSize: 2, innerSize: 8, vocabSize: 3 }, 1), 96 + 8);
  });

  it("of GPT-2 small over 8×80 tokens with 50 logit rows each are 0.42 trillion", () => {
    const total = 8 * trainingFlops(SMALL, 80, 50);
    assert.ok(Math.abs(total - 424e9) < 2e9, String(total));
  });

  it("of generation with a cache are those of one pass over all tokens, with less attention", () => {
    const cached = generationFlops(SMALL, 20, 60);
    const whole = blockFlops(SMALL, 79) + 60 * 2 * 768 * 50257;
    assert.ok(cached < whole && cached > 0.98 * whole);
  });
});
