/** @file Runs the example that the README opens with. */
import assert from "node:assert/strict";
import { runReadmeExample } from "../config/readme-example.js";
import type { RpcError } from "./rpc-error.js";

describe("the README of lib/rpc", () => {
  it("opens with an example that works", async () => {
    const { results, refused } = await runReadmeExample("lib/rpc");
    assert.deepEqual(
      (results as { reward: number }[]).map(({ reward }) => reward),
      [1, 3],
    );
    assert.deepEqual((refused as RpcError).violations, [
      { field: "texts", description: "has 0 items; accepted: at least 1" },
    ]);
  });
});
