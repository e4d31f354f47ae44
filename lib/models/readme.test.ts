import assert from "node:assert/strict";
import { runReadmeExample } from "../config/readme-example.js";

describe("the example in README.md", () => {
  it("gives two logits for each row", async () => {
    const { logits } = (await runReadmeExample("lib/models")) as { logits: Float32Array[] };
    assert.equal(logits.length, 2);
    assert.ok(Math.abs(logits[1][0] - -1.212967) < 5e-6); // the golden logits of the empty text
  });
});
