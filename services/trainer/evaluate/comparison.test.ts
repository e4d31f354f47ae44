import assert from "node:assert/strict";
import { parse } from "csv-parse/sync";
import { type ComparisonRow, summarise, summaryCells, toCsv, toMarkdown } from "./comparison.js";
import { bootstrapMean } from "./statistics.js";

/** A small generator, good enough for resampling in a test (Lehmer 1951). */
const lehmer = (state = 1) => ({
  int(n: number) {
    state = (state * 48271) % 2147483647;
    return state % n;
  },
});

const scored = (response: string, f1: number, reward = f1) => ({
  response,
  tokens: 3,
  precision: f1,
  recall: f1,
  f1,
  reward,
});

const rows: ComparisonRow[] = [
  { question: "why?", answer: "so", responses: [scored("a | b", 0.5), scored('say "hi", then', 0.7)] },
  { question: "how?", answer: "thus", responses: [scored("=1+1", 0.3, Number.NaN), scored("<b>x</b>", 0.9)] },
];

describe("the comparison", () => {
  it("takes means over rows for each variant", () => {
    const [before, after] = summarise(["reference", "tuned"], rows, lehmer());
    assert.ok(Math.abs((before?.f1 ?? 0) - 0.4) < 1e-12);
    assert.ok(Math.abs((after?.f1 ?? 0) - 0.8) < 1e-12);
    assert.equal(summaryCells([before as never])[1]?.[5], "–", "a mean with a missing reward is no number");
  });

  it("writes CSV that an independent parser reads back, with nothing a sheet would run", () => {
    const csv = toCsv(summarise(["reference", "tuned"], rows, lehmer()), rows);
    const read = parse(csv, { columns: true }) as Record<string, string>[];
    assert.equal(read.length, 4);
    assert.equal(read[1]?.response, 'say "hi", then');
    assert.equal(read[2]?.response, "'=1+1");
    assert.equal(read[2]?.reward, "");
  });

  it("writes Markdown in which texts stay texts", () => {
    const markdown = toMarkdown("Run x", summarise(["reference", "tuned"], rows, lehmer()), rows);
    assert.match(markdown, /a \\\| b/);
    assert.match(markdown, /\\<b\\>x/);
    assert.match(markdown, /\| reference \| 0\.4000 \|/);
  });
});

describe("a bootstrap interval", () => {
  it("is about 1.96 standard errors wide on each side", () => {
    const values = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? 1 : -1));
    const { mean, ci95 } = bootstrapMean(values, lehmer(7));
    assert.equal(mean, 0);
    const expected = 1.96 / Math.sqrt(200);
    assert.ok(Math.abs(ci95 - expected) < 0.2 * expected, `${ci95} against ${expected}`);
  });

  it("of one value has no width", () => {
    assert.deepEqual(bootstrapMean([3], lehmer()), { mean: 3, ci95: 0, low: 3, high: 3 });
  });
});
