/**
 * The model side against transformers and the bert_score library on test/golden/roberta-tiny. Expected numbers have six
 * decimals; the project promises 1e-5.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { ParallelEncoder } from "../../lib/models/parallel-encoder.js";
import { computeIdf, type IdfWeights, idfWeights, plainWeights } from "./idf.js";
import type { BertScore } from "./matching.js";
import type { ScoreItem } from "./protocol.js";
import { SentenceEncoder } from "./sentence-encoder.js";

const MODEL = join(packageRoot(), "test/golden/roberta-tiny");

interface Golden {
  candidates: string[];
  references: string[];
  hidden: { input_ids: number[] }[];
  scores: Record<string, [number, number, number][]>;
  bert_score_library: { P: number[]; R: number[]; F: number[] };
  bert_score_library_idf: { P: number[]; R: number[]; F: number[] };
  bert_score_library_multi: { references: string[][]; P: number[]; R: number[]; F: number[] };
}

const GOLDEN: Golden = JSON.parse(readFileSync(join(MODEL, "expected.json"), "utf8"));

function assertScore(actual: BertScore, expected: readonly number[], tolerance = 1e-5): void {
  const got = [actual.precision, actual.recall, actual.f1];
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(got[i] - value) <= tolerance, `expected ${expected}, got ${got}`);
  }
}

describe("SentenceEncoder", () => {
  let encoder: SentenceEncoder;
  before(async () => {
    encoder = await SentenceEncoder.load({ model: MODEL, device: "cpu", threads: 1, cacheBytes: 1 << 20 });
  });
  after(() => encoder.close());

  const ids = (sentence: string) => encoder.tokenize(sentence, false).ids;

  function item(candidate: string, references: string[], layers: number[], idf?: IdfWeights): ScoreItem {
    const weighted = (sentence: string) => {
      const tokens = ids(sentence);
      return {
        ids: tokens,
        weights: idf ? idfWeights(tokens, idf) : plainWeights(tokens, encoder.facts.wrapper),
      };
    };
    return { candidate: weighted(candidate), references: references.map(weighted), layers, explain: false };
  }

  async function scores(items: ScoreItem[]): Promise<BertScore[][]> {
    return (await encoder.score(items)).map((result) => {
      assert.ok("scores" in result);
      return result.scores;
    });
  }

  it("tokenizes as the reference, stripped and without a prefix space", () => {
    for (const [i, { input_ids }] of GOLDEN.hidden.entries()) {
      assert.deepEqual([...ids(GOLDEN.candidates[i])], input_ids);
    }
  });

  it("puts a space before the first word when asked, but not into an empty sentence", () => {
    assert.deepEqual([...encoder.tokenize("text", true).ids], [...ids("x text").filter((_, i) => i !== 1)]);
    assert.deepEqual([...encoder.tokenize(" \x1c ", true).ids], [0, 2]);
  });

  it("cuts a sentence to the model's length, keeping the wrapper", () => {
    const { ids: tokens, truncated } = encoder.tokenize("word ".repeat(500), false);
    assert.equal(tokens.length, 128);
    assert.deepEqual([tokens[0], tokens[127], truncated], [0, 2, true]);
  });

  for (const layer of [1, 2, 3]) {
    for (const mode of ["plain", "idf"] as const) {
      it(`gives the definition's scores at layer ${layer}, ${mode}`, async () => {
        const idf = mode === "idf" ? computeIdf(GOLDEN.references.map(ids)) : undefined;
        const items = GOLDEN.candidates.map((c, i) => item(c, [GOLDEN.references[i]], [layer], idf));
        const expected = GOLDEN.scores[`layer${layer}-${mode}`];
        for (const [i, [score]] of (await scores(items)).entries()) assertScore(score, expected[i]);
      });
    }
  }

  it("gives the library's scores, plain, with idf and with several references", async () => {
    const {
      bert_score_library: plain,
      bert_score_library_idf: withIdf,
      bert_score_library_multi: multi,
    } = GOLDEN;
    const idf = computeIdf(GOLDEN.references.map(ids));
    const cases = [
      { expected: plain, items: GOLDEN.candidates.map((c, i) => item(c, [GOLDEN.references[i]], [3])) },
      {
        expected: withIdf,
        items: GOLDEN.candidates.map((c, i) => item(c, [GOLDEN.references[i]], [3], idf)),
      },
      { expected: multi, items: GOLDEN.candidates.map((c, i) => item(c, multi.references[i], [3])) },
    ];
    for (const { expected, items } of cases) {
      for (const [i, [score]] of (await scores(items)).entries()) {
        assertScore(score, [expected.P[i], expected.R[i], expected.F[i]]);
      }
    }
  });

  it("scores a pair the same alone, in any batch and from the cache", async () => {
    const items = GOLDEN.candidates.map((c, i) => item(c, [GOLDEN.references[i]], [2]));
    const together = await scores(items);
    const alone = await SentenceEncoder.load({ model: MODEL, device: "cpu", threads: 1, cacheBytes: 0 });
    for (const [i, one] of items.entries()) {
      const [result] = await alone.score([one]);
      assert.ok("scores" in result);
      const { precision, recall, f1 } = together[i][0];
      assertScore(result.scores[0], [precision, recall, f1], 1e-6);
    }
    await alone.close();
    assert.deepEqual(await scores(items), together);
  });

  it("scores every layer of one pass as it scores each alone", async () => {
    const [candidate, reference] = [GOLDEN.candidates[0], GOLDEN.references[0]];
    const [all] = await scores([item(candidate, [reference], [0, 1, 2, 3])]);
    for (const layer of [1, 2, 3]) assertScore(all[layer], GOLDEN.scores[`layer${layer}-plain`][0]);
    assert.equal(all.length, 4);
  });

  it("scores empty sentences 0", async () => {
    const [[score], [other]] = await scores([item("", ["a"], [3]), item(" ", ["\t"], [3])]);
    assert.deepEqual(score, { precision: 0, recall: 0, f1: 0 });
    assert.deepEqual(other, { precision: 0, recall: 0, f1: 0 });
  });

  it("explains a pair by its similarity matrix and matches", async () => {
    const one = { ...item("a text scores", ["scores a text"], [3]), explain: true };
    const [result] = await encoder.score([one]);
    assert.ok("scores" in result && result.explanation);
    const { similarity, candidateMatch, candidateBest, referenceMatch } = result.explanation;
    const [rows, columns] = [one.candidate.ids.length, one.references[0].ids.length];
    assert.deepEqual(
      [similarity.length, candidateMatch.length, referenceMatch.length],
      [rows * columns, rows, columns],
    );
    assert.equal(similarity[candidateMatch[1] + columns], Math.fround(candidateBest[1]));
    assert.equal(encoder.decodeTokens(one.candidate.ids)[0], "<s>");
  });
});

describe("encoders of other families", () => {
  for (const folder of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
    it(`${folder} embeds sentences with the encoder below its classifier`, async () => {
      const model = join(packageRoot(), "test/golden", folder);
      const encoder = await SentenceEncoder.load({ model, device: "cpu", threads: 1, cacheBytes: 0 });
      const weighted = (sentence: string) => {
        const { ids } = encoder.tokenize(sentence, true); // WordPiece has no use for a prefix space
        return { ids, weights: plainWeights(ids, encoder.facts.wrapper) };
      };
      const [a, b] = [
        weighted("It returns one score for every text."),
        weighted("The call is refused at once."),
      ];
      const items = [
        [a, a],
        [a, b],
        [b, a],
      ].map(([candidate, reference]) => ({
        ...{ candidate, references: [reference], layers: [2], explain: false },
      }));
      const [same, forth, back] = (await encoder.score(items)).map((result) => {
        assert.ok("scores" in result);
        return result.scores[0];
      });
      assertScore(same, [1, 1, 1], 1e-6);
      assertScore(forth, [back.recall, back.precision, back.f1], 1e-6);
      assert.ok(forth.f1 < 0.99);
      await encoder.close();
    });
  }
});

describe("a SentenceEncoder whose callers have gone", () => {
  it("does not score what is left", async () => {
    const encoder = await SentenceEncoder.load({ model: MODEL, device: "cpu", threads: 1, cacheBytes: 0 });
    const { ids } = encoder.tokenize("so it is", false);
    const sentence = { ids, weights: plainWeights(ids, encoder.facts.wrapper) };
    const item: ScoreItem = { candidate: sentence, references: [sentence], layers: [3], explain: false };
    const stop = new AbortController();
    const scored = encoder.score(Array<ScoreItem>(2000).fill(item), stop.signal);
    stop.abort(new Error("gone"));
    await assert.rejects(scored, /gone/);
    assert.equal((await encoder.score([item])).length, 1);
    await encoder.close();
  });
});

describe("an encoder whose weights are broken", () => {
  it("fails the items that it cannot embed, and no others", async () => {
    const encoder = await SentenceEncoder.load({ model: MODEL, device: "cpu", threads: 1, cacheBytes: 0 });
    const plain = (sentence: string) => {
      const { ids } = encoder.tokenize(sentence, false);
      return { ids, weights: plainWeights(ids, encoder.facts.wrapper) };
    };
    const broken = plain("text");
    // what runs holds the weights by reference: poison the word's embedding
    const { encoder: runs } = encoder as unknown as { encoder: { weights: Map<string, Float32Array> } };
    const words = runs.weights.get("roberta.embeddings.word_embeddings.weight");
    words?.fill(Number.NaN, 32 * broken.ids[1], 32 * (broken.ids[1] + 1));
    const base = { references: [plain("one score")], layers: [3], explain: false };
    const [bad, good] = await encoder.score([
      { ...base, candidate: broken },
      { ...base, candidate: plain("one score") },
    ]);
    assert.deepEqual(bad, { nonFinite: { tokens: broken.ids.length, layer: 3 } });
    assert.ok("scores" in good);
    await encoder.close();
  });
});

describe("a batch-invariant SentenceEncoder", () => {
  const sentences = Array.from({ length: 90 }, (_, i) => "so it is ".repeat(1 + (i % 29)) + i);

  /** Scores of neighbours, computed all at once, one by one without a memory of others, and with one. */
  async function ways(): Promise<Set<string>> {
    const scores = async (cacheBytes: number, batches: (items: ScoreItem[]) => ScoreItem[][]) => {
      const options = { model: MODEL, device: "cpu" as const, threads: 3, cacheBytes, batchInvariant: true };
      const encoder = await SentenceEncoder.load(options);
      try {
        const weighted = sentences.map((sentence) => {
          const { ids } = encoder.tokenize(sentence, false);
          return { ids, weights: plainWeights(ids, encoder.facts.wrapper) };
        });
        const items = weighted.map((candidate, i) => {
          const reference = weighted[(i + 1) % weighted.length] as typeof candidate;
          return { candidate, references: [reference], layers: [3], explain: false };
        });
        const results = [];
        for (const batch of batches(items)) results.push(...(await encoder.score(batch)));
        return JSON.stringify(results);
      } finally {
        await encoder.close();
      }
    };
    const oneByOne = (items: ScoreItem[]) => items.map((item) => [item]);
    return new Set([
      await scores(0, (items) => [items]),
      await scores(0, oneByOne),
      await scores(1 << 20, oneByOne),
    ]);
  }

  it("gives a pair the same bits in any batch, and whether a sentence was seen before or not", async () => {
    assert.equal((await ways()).size, 1);
  });

  it("runs sentences as ParallelEncoder does", async () => {
    const options = { model: MODEL, device: "cpu" as const, threads: 3, cacheBytes: 0 };
    for (const batchInvariant of [true, false]) {
      const made = await SentenceEncoder.load({ ...options, batchInvariant });
      const { encoder } = made as unknown as { encoder: object };
      assert.equal(encoder instanceof ParallelEncoder, batchInvariant);
      await made.close();
    }
  });
});
