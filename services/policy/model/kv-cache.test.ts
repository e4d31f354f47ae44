import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { type CacheGeometry, cacheBytes, KvCache, rowCapacity, timeCapacity } from "./kv-cache.js";

const GEOMETRY: CacheGeometry = { layers: 2, heads: 3, headSize: 4, maxRows: 6, maxTime: 200 };
const { layers, heads, headSize } = GEOMETRY;

/** A number that says where it was written. */
function mark(buffer: number, row: number, head: number, time: number, column: number): number {
  return buffer + row / 8 + head / 64 + time / 65_536 + column / 2 ** 20;
}

/** Fills `length` tokens of a row with marks of `as`. */
function fill(cache: KvCache, row: number, length: number, as = row): void {
  for (const [b, tensor] of Object.values(cache.view(0, cache.rows).past).entries()) {
    const data = tensor.data as Float32Array;
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < length; t++) {
        for (let c = 0; c < headSize; c++) {
          data[((row * heads + h) * cache.time + t) * headSize + c] = mark(b, as, h, t, c);
        }
      }
    }
  }
}

/** Fails unless `length` tokens of a row carry the marks of `as`. */
function check(cache: KvCache, row: number, length: number, as = row): void {
  for (const [b, tensor] of Object.values(cache.view(row, 1).past).entries()) {
    const data = tensor.data as Float32Array;
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < length; t++) {
        for (let c = 0; c < headSize; c++) {
          const at = (h * cache.time + t) * headSize + c;
          assert.equal(data[at], Math.fround(mark(b, as, h, t, c)), `buffer ${b} head ${h} time ${t}`);
        }
      }
    }
  }
}

// the second form is how rows move where memory is not the host's; the marks do not care
for (const onHost of [true, false]) {
  describe(`the key/value cache, rows moved ${onHost ? "in place" : "by a graph"}`, () => {
    let engine: Engine;
    before(async () => {
      engine = await createEngine({ intraOpThreads: 1 });
    });
    after(() => engine.close());

    it("grows by need in steps and keeps what is filled", async () => {
      const cache = new KvCache(engine, GEOMETRY, onHost);
      await cache.reserve(2, 10, []);
      assert.deepEqual([cache.rows, cache.time], [2, 64]);
      fill(cache, 0, 64);
      fill(cache, 1, 10);
      await cache.reserve(3, 65, [64, 10], 200);
      assert.deepEqual([cache.rows, cache.time], [4, 128]); // a quarter more than 64 is 80, rounded up
      check(cache, 0, 64);
      check(cache, 1, 10);
      await cache.reserve(5, 150, [64, 10]);
      assert.deepEqual([cache.rows, cache.time], [6, 192]); // never more rows than allowed
      check(cache, 0, 64);
      check(cache, 1, 10);
      await cache.reserve(2, 100, [64, 10]); // it fits: nothing changes
      assert.deepEqual([cache.rows, cache.time], [6, 192]);
      await cache.close();
    });

    it("copies rows to other places", async () => {
      const cache = new KvCache(engine, GEOMETRY, onHost);
      await cache.reserve(4, 64, []);
      for (let row = 0; row < 4; row++) fill(cache, row, 64);
      await cache.copyRows([
        { from: 3, to: 0, length: 64 },
        { from: 1, to: 2, length: 64 },
      ]);
      check(cache, 0, 64, 3);
      check(cache, 1, 64, 1);
      check(cache, 2, 64, 1);
      check(cache, 3, 64, 3);
      await cache.close();
    });

    it("gives everything back", async () => {
      const before = engine.stats();
      const cache = new KvCache(engine, GEOMETRY, onHost);
      await cache.reserve(2, 10, []);
      cache.view(0, 1);
      cache.view(1, 1);
      await cache.reserve(3, 100, [10, 10]);
      await cache.copyRows([{ from: 0, to: 1, length: 10 }]);
      await cache.close();
      assert.equal(cache.bytes, 0);
      assert.deepEqual(engine.stats(), before);
    });
  });
}

describe("capacities of the key/value cache", () => {
  it("rows double, time goes in steps of 64, both end at their limits", () => {
    assert.deepEqual(
      [0, 1, 2, 3, 5].map((rows) => rowCapacity(GEOMETRY, rows)),
      [1, 1, 2, 4, 6],
    );
    assert.deepEqual(
      [0, 1, 64, 65, 199].map((time) => timeCapacity(GEOMETRY, time)),
      [64, 64, 64, 128, 200],
    );
  });

  it("bytes count keys and values of every block", () => {
    assert.equal(cacheBytes(GEOMETRY, 2, 64), layers * 2 * 2 * heads * 64 * headSize * 4);
  });
});
