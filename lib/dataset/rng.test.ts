import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { packageRoot } from "../config/package-root.js";
import { PythonRandom, Rng } from "./rng.js";

describe("Rng", () => {
  it("gives xoshiro128** its published first outputs for the state 1, 2, 3, 4", () => {
    const rng = Rng.restore({ generator: "xoshiro128**", words: [1, 2, 3, 4] });
    // the first by hand: rotl(2 · 5, 7) · 9 = 1280 · 9
    const published = [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849];
    assert.deepEqual(
      published.map(() => rng.next()),
      published,
    );
  });

  it("repeats a stream from its seed and keys, and keeps streams apart", () => {
    const draws = (...keys: (string | number)[]) => {
      const rng = Rng.from(7, ...keys);
      return Array.from({ length: 4 }, () => rng.next());
    };
    assert.deepEqual(draws("sample", 1), draws("sample", 1));
    const others = [draws("sample", 2), draws("sample", "1"), draws("sample"), draws("sample", 1, 0)];
    for (const other of others) assert.notDeepEqual(other, draws("sample", 1));
  });

  it("never changes what a documented stream gives", () => {
    const rng = Rng.from(42, "data", 0);
    assert.deepEqual(
      [rng.next(), rng.next(), rng.int(100), rng.uniform()],
      [436770943, 1351926232, 72, 0.04402938195254491],
    );
  });

  it("goes on from a state that went through JSON", () => {
    const rng = Rng.from(1n, "x");
    rng.uniform();
    const copy = Rng.restore(JSON.parse(JSON.stringify(rng.state())));
    const expected = [rng.next(), rng.normal(), rng.int(10)];
    assert.deepEqual([copy.next(), copy.normal(), copy.int(10)], expected);
  });

  it("draws whole numbers evenly", () => {
    const rng = Rng.from(3);
    const counts = new Array<number>(6).fill(0);
    for (let i = 0; i < 60_000; i++) counts[rng.int(6)]!++;
    // chi-square with 5 degrees of freedom: 20.5 is passed once in a thousand
    const chi = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    assert.ok(chi < 20.5, `chi-square ${chi}`);
    assert.ok(rng.int(2 ** 53) < 2 ** 53);
    assert.equal(rng.int(1), 0);
  });

  it("draws normal numbers of mean 0 and variance 1", () => {
    const rng = Rng.from(4);
    const draws = Array.from({ length: 50_000 }, () => rng.normal());
    const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
    const variance = draws.reduce((sum, x) => sum + x * x, 0) / draws.length;
    assert.ok(Math.abs(mean) < 0.02 && Math.abs(variance - 1) < 0.03, `${mean} ${variance}`);
  });

  it("shuffles into a permutation", () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), fc.integer(), (items, seed) => {
        const shuffled = Rng.from(seed, "order").shuffle([...items]);
        assert.deepEqual(shuffled.toSorted(), items.toSorted());
      }),
      { numRuns: 50 },
    );
  });

  it("refuses what is no key, no range and no state", () => {
    assert.throws(() => Rng.from(0.5), /stream key: expected a whole number or a string, got 0.5/);
    assert.throws(() => Rng.from(1).int(0), /int\(n\)/);
    assert.throws(
      () => Rng.restore({ generator: "xoshiro128**", words: [1, 2, 3] as never }),
      /random state/,
    );
  });
});

describe("PythonRandom", () => {
  const vectors = JSON.parse(readFileSync(join(packageRoot(), "test/golden/ppo-trl-vectors.json"), "utf8"))
    .unit.python_random;

  it("draws what CPython draws: random, choices, two shuffles", () => {
    const random = new PythonRandom(vectors.seed);
    const first = new PythonRandom(vectors.seed);
    assert.deepEqual([first.random(), first.random(), first.random()], vectors.first_three_random);
    assert.deepEqual(random.choices(["[bad]", "[good]"], 32), vectors.choices_bad_good_k32);
    const order = random.shuffle(Array.from({ length: 32 }, (_, i) => i));
    assert.deepEqual(order, vectors.then_shuffle_range32);
    assert.deepEqual(random.shuffle(order), vectors.then_shuffle_again_in_place);
  });

  it("takes seeds of several words and ignores the sign", () => {
    // CPython 3.11: random.seed(2**40 + 5); random.getrandbits(32)
    assert.equal(new PythonRandom(2 ** 40 + 5).bits(32), 2166296868);
    assert.equal(new PythonRandom(-9).bits(32), new PythonRandom(9).bits(32));
  });

  it("goes on from a state that went through JSON", () => {
    const random = new PythonRandom(5);
    random.randbelow(10);
    const copy = PythonRandom.restore(JSON.parse(JSON.stringify(random.state())));
    assert.deepEqual([copy.random(), copy.randbelow(7)], [random.random(), random.randbelow(7)]);
    assert.throws(() => PythonRandom.restore({ generator: "mt19937", words: [], index: 0 }), /random state/);
  });
});
