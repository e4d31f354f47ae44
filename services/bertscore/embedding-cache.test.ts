import assert from "node:assert/strict";
import { EmbeddingCache } from "./embedding-cache.js";

const rows = (length: number) => new Float32Array(length);

describe("EmbeddingCache", () => {
  it("drops what was unused longest when it is full", () => {
    const cache = new EmbeddingCache(4 * 30);
    for (const key of ["a", "b", "c"]) cache.set(key, rows(10));
    cache.get("a");
    cache.set("d", rows(10));
    assert.deepEqual(
      ["a", "b", "c", "d"].map((key) => cache.get(key) !== undefined),
      [true, false, true, true],
    );
    assert.equal(cache.bytes, 4 * 30);
  });

  it("counts a replaced entry once and keeps nothing larger than itself", () => {
    const cache = new EmbeddingCache(4 * 10);
    cache.set("a", rows(5));
    cache.set("a", rows(7));
    assert.equal(cache.bytes, 4 * 7);
    cache.set("b", rows(11));
    assert.equal(cache.get("b"), undefined);
    assert.ok(cache.get("a"));
    cache.set("a", rows(11));
    assert.deepEqual([cache.get("a"), cache.bytes], [undefined, 0]);
  });

  it("keeps nothing when it has no room", () => {
    const cache = new EmbeddingCache(0);
    cache.set("a", rows(1));
    assert.equal(cache.get("a"), undefined);
  });
});
