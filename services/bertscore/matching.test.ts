import assert from "node:assert/strict";
import { computeIdf, idfWeights, plainWeights } from "./idf.js";
import { bestOfReferences, greedyMatches, normalizeRows, scorePair, similarityMatrix } from "./matching.js";

const rows = (values: number[][], weights: number[]) => ({
  rows: normalizeRows(Float32Array.from(values.flat()), values[0].length),
  length: values.length,
  width: values[0].length,
  weights,
});

const close = (actual: number, expected: number, tolerance = 1e-6) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `expected ${expected}, got ${actual}`);

/** Reference rows, candidate rows, expected P, R, F; the middle token weighs 1 and the wrappers 0. */
const UPSTREAM_CASES: [string, number[][], number[][], [number, number, number]][] = [
  [
    "two tokens close to each other",
    [
      [1, 0],
      [0.6, 0.8],
      [0, 1],
    ],
    [
      [1, 0],
      [0.8, 0.6],
      [0, 1],
    ],
    [0.96, 0.96, 0.96],
  ],
  [
    "rows that are not of unit length",
    [
      [1, 0],
      [-1, 0.1],
      [0.2, -1],
    ],
    [
      [1, 0],
      [-0.9, 0.2],
      [0.2, -1],
    ],
    [0.992928, 0.992928, 0.992928],
  ],
  [
    "a candidate token that matches the reference's wrapper",
    [
      [1, 0],
      [0, 1],
      [0, -1],
    ],
    [
      [0, -1],
      [1, 0],
      [0, -1],
    ],
    [1, 0, 0],
  ],
  [
    "opposite sentences",
    [
      [1, 0],
      [1, 0],
      [1, 0],
    ],
    [
      [-1, 0],
      [-1, 0],
      [-1, 0],
    ],
    [-1, -1, -1],
  ],
];

describe("greedy matching", () => {
  for (const [name, reference, candidate, [p, r, f]] of UPSTREAM_CASES) {
    it(`gives upstream's P, R and F for ${name}`, () => {
      const score = scorePair(rows(candidate, [0, 1, 0]), rows(reference, [0, 1, 0]));
      close(score.precision, p);
      close(score.recall, r);
      close(score.f1, f);
    });
  }

  it("finds the best match of every token on both sides", () => {
    const candidate = rows(
      [
        [1, 0],
        [0, 1],
      ],
      [1, 1],
    );
    const reference = rows(
      [
        [0, 1],
        [1, 0],
        [1, 1],
      ],
      [1, 1, 1],
    );
    const matches = greedyMatches(similarityMatrix(candidate, reference), 2, 3);
    assert.deepEqual([...matches.candidate], [1, 0]);
    assert.deepEqual([...matches.reference], [1, 0, 0]);
    close(matches.referenceBest[2], Math.SQRT1_2);
  });

  it("scores an empty side 0 on all three", () => {
    const empty = rows(
      [
        [1, 0],
        [0, 1],
      ],
      [0, 0],
    );
    const full = rows(
      [
        [1, 0],
        [1, 1],
        [0, 1],
      ],
      [0, 1, 0],
    );
    for (const [a, b] of [
      [empty, full],
      [full, empty],
      [empty, empty],
    ]) {
      assert.deepEqual(scorePair(a, b), { precision: 0, recall: 0, f1: 0 });
    }
  });

  it("keeps the computed F of an empty side whose wrappers carry weight", () => {
    const empty = rows(
      [
        [1, 0],
        [0, 1],
      ],
      [1, 1],
    );
    const score = scorePair(empty, empty);
    assert.equal(score.precision, 0);
    assert.equal(score.f1, 1);
  });

  it("leaves NaN in the component whose weights are all 0, and gives F 0", () => {
    const score = scorePair(
      rows(
        [
          [1, 0],
          [1, 1],
          [0, 1],
        ],
        [0, 1, 0],
      ),
      rows(
        [
          [1, 0],
          [1, 1],
          [0, 1],
        ],
        [0, 0, 0],
      ),
    );
    close(score.precision, 1);
    assert.ok(Number.isNaN(score.recall));
    assert.equal(score.f1, 0);
  });

  it("gives NaN, not a number, when a row is zero", () => {
    const score = scorePair(
      rows(
        [
          [1, 0],
          [0, 0],
          [0, 1],
        ],
        [0, 1, 0],
      ),
      rows(
        [
          [1, 0],
          [1, 1],
          [0, 1],
        ],
        [0, 1, 0],
      ),
    );
    assert.ok(Number.isNaN(score.precision));
  });

  it("takes each component's maximum over the references, and lets NaN through", () => {
    const a = { precision: 0.9, recall: 0.1, f1: 0.18 };
    const b = { precision: 0.2, recall: 0.8, f1: 0.32 };
    assert.deepEqual(bestOfReferences([a, b]), { precision: 0.9, recall: 0.8, f1: 0.32 });
    assert.ok(Number.isNaN(bestOfReferences([a, { ...b, recall: Number.NaN }]).recall));
  });
});

describe("token weights", () => {
  it("weigh wrapper tokens 0 and everything else 1 without idf", () => {
    assert.deepEqual([...plainWeights([2, 9, 3, 7, 3], { cls: 2, sep: 3 })], [0, 1, 0, 1, 0]);
    assert.deepEqual([...plainWeights([2, 9], {})], [1, 1]);
  });

  it("count the sentences that hold an id, not its occurrences", () => {
    // 4 sentences between 0 and 2, as in bert_score's own arithmetic: ln 5/2 for one holder, ln 5 for none
    const idf = computeIdf([
      [0, 5, 9, 11, 2],
      [0, 7, 4, 2],
      [0, 12, 13, 14, 15, 16, 12, 2],
      [0, 8, 2],
    ]);
    assert.equal(idf.sentences, 4);
    close(idf.weight(12), 0.916291);
    close(idf.weight(3), 1.609438);
    assert.deepEqual([...idfWeights([0, 2], idf)], [0, 0]);
  });

  it("count a repeated sentence each time", () => {
    const idf = computeIdf([[1], [1], [2]]);
    close(idf.weight(1), Math.log(4 / 3));
    close(idf.weight(2), Math.log(4 / 2));
  });
});
