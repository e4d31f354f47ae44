/** @file Runs the example that the README opens with. */
import assert from "node:assert/strict";
import { runReadmeExample } from "../config/readme-example.js";

describe("the README of lib/api", () => {
  it("opens with an example that works", async () => {
    const { unknown, path, file, same } = await runReadmeExample("lib/api");
    assert.deepEqual(
      (unknown as { field: string; value: number }[]).map(({ field, value }) => [field, value]),
      [["function", 9]],
    );
    assert.equal(path, "/rlhf.reward.v1.RewardService/Score");
    assert.equal(file, "rlhf/reward/v1/reward.proto");
    assert.equal(same, true);
  });
});
