import assert from "node:assert/strict";
import { type ComparisonRow, summarise } from "../evaluate/comparison.js";
import { bootstrapMean } from "../evaluate/statistics.js";
import { curveChart, ticks } from "./curve.js";
import { differencesToReference, extremes } from "./differences.js";
import { heatMap } from "./heat-map.js";
import { escapeText, html } from "./html.js";
import { type ReportContent, reportPage } from "./page.js";

const HOSTILE = `</style></title><script>alert(1)</script><img src=x onerror="alert(2)">' & \u0000`;

/** A small generator, good enough for resampling in a test (Lehmer 1951). */
const lehmer = (state = 1) => ({
  int(n: number) {
    state = (state * 48271) % 2147483647;
    return state % n;
  },
});

const scored = (response: string, f1: number, reward: number) => ({
  ...{ response, f1, reward },
  tokens: 3,
  precision: f1,
  recall: f1,
});
const row = (question: string, before: [number, number], after: [number, number]): ComparisonRow => ({
  question,
  answer: `answer to ${question}`,
  responses: [scored(`before ${question}`, ...before), scored(`after ${question}`, ...after)],
});
const ROWS = [
  row("a?", [0.5, -1], [0.7, 1]),
  row("b?", [0.4, 0], [0.6, 0.5]),
  row("c?", [0.6, 1], [0.8, 0.2]),
];
const NAMES = ["reference", "tuned"];

function content(change: Partial<ReportContent> = {}): ReportContent {
  return {
    run: "ppo-one",
    startedAt: "2026-11-24T10:00:00.000Z",
    createdAt: "2026-11-24T11:00:00.000Z",
    steps: 2,
    variants: summarise(NAMES, ROWS, lehmer()),
    rows: ROWS,
    differences: differencesToReference(NAMES, ROWS, lehmer()),
    metrics: [
      { step: 1, "env/reward_mean": -0.5, "objective/kl": 0 },
      { step: 2, "env/reward_mean": 0.25, "objective/kl": null },
    ],
    explanation: {
      variant: "tuned",
      question: "a?",
      candidate: "the key",
      reference: "a key",
      f1: 0.9,
      similarities: { candidate: ["the", " key"], reference: ["a", " key"], values: [0.8, 0.1, 0.2, 0.99] },
    },
    models: [{ role: "tuned policy", address: "h:1", name: "gpt2", version: 2, digest: "ab12", detail: "" }],
    files: [{ path: "/data/train.csv", sha256: "cd34" }],
    config: "kind: ppo\n",
    facts: { seed: "7" },
    repeat: ["rlhf eval ppo-one"],
    ...change,
  };
}

describe("the report", () => {
  it("holds table, differences, curves, samples, heat map, configuration, versions, digests and how to repeat it", () => {
    const page = reportPage(content());
    for (const part of [
      '<td class="number">0.5000</td>',
      "+0.2000 … +0.2000",
      "polyline",
      "Best samples",
      "after a?",
      'class="cell best"',
      "kind: ppo",
      "ab12",
      "cd34",
      "rlhf eval ppo-one",
    ]) {
      assert.ok(page.includes(part), part);
    }
  });

  it("needs nothing from elsewhere and runs nothing", () => {
    const page = reportPage(content());
    assert.ok(!/<script|<link|<img|\ssrc=|\shref=|url\(|@import|https?:/.test(page));
    assert.match(page, /Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/);
  });

  it("shows every text as text, wherever it comes from", () => {
    const rows = [row(HOSTILE, [0.1, 0], [0.2, 1]), row("b?", [0.1, 0], [0.2, 0])].map((each) => ({
      ...each,
      answer: HOSTILE,
      responses: each.responses.map((response) => ({ ...response, response: HOSTILE })),
    }));
    const page = reportPage(
      content({
        run: HOSTILE,
        startedAt: HOSTILE,
        rows,
        variants: summarise([HOSTILE, HOSTILE], rows, lehmer()),
        differences: differencesToReference([HOSTILE, HOSTILE], rows, lehmer()),
        explanation: {
          ...{ variant: HOSTILE, question: HOSTILE, candidate: HOSTILE, reference: HOSTILE, f1: 1 },
          similarities: { candidate: [HOSTILE], reference: [HOSTILE], values: [1] },
        },
        models: [
          { role: HOSTILE, address: HOSTILE, name: HOSTILE, version: 1, digest: HOSTILE, detail: HOSTILE },
        ],
        files: [{ path: HOSTILE, sha256: HOSTILE }],
        config: HOSTILE,
        facts: { [HOSTILE]: HOSTILE },
        repeat: [HOSTILE],
      }),
    );
    assert.ok(!/<script|<img|onerror="/.test(page) && !page.includes("\u0000"));
    assert.equal(page.match(/<\/style>/g)?.length, 1);
    assert.equal(page.match(/<\/title>/g)?.length, 2, "the page's and that of the one cell of the map");
    assert.ok(page.includes(escapeText(HOSTILE)));
    const missing = reportPage(content({ explanation: { missing: HOSTILE } }));
    assert.ok(!missing.includes("<script"));
  });

  it("says what it does not have: no judgement, no curve, no pair", () => {
    const blind = [row("a?", [Number.NaN, Number.NaN], [Number.NaN, Number.NaN])];
    const page = reportPage(
      content({
        rows: blind,
        differences: differencesToReference(NAMES, blind, lehmer()),
        metrics: [],
        explanation: { missing: "no BERTScore server" },
      }),
    );
    for (const part of ["No row was judged under both policies.", "No values.", "no BERTScore server"]) {
      assert.ok(page.includes(part), part);
    }
    assert.ok(!page.includes("NaN"));
  });
});

describe("differences to the reference", () => {
  it("are paired: rows that all gain the same leave no doubt, however much the rows differ", () => {
    const [f1, reward] = differencesToReference(NAMES, ROWS, lehmer());
    assert.ok(Math.abs((f1?.estimate?.mean ?? 0) - 0.2) < 1e-12);
    assert.ok(Math.abs((f1?.estimate?.high ?? 1) - (f1?.estimate?.low ?? 0)) < 1e-12);
    assert.ok(Math.abs((reward?.estimate?.mean ?? 0) - (2 + 0.5 - 0.8) / 3) < 1e-12);
    assert.ok((reward?.estimate?.low ?? 0) < 0 && (reward?.estimate?.high ?? 0) > 1, "unsure of three rows");
    // not paired, F1 of three rows would be as unsure as its spread
    const alone = bootstrapMean(
      ROWS.map(({ responses }) => responses[1]?.f1 ?? 0),
      lehmer(),
    );
    assert.ok(alone.ci95 > 0.05);
  });

  it("leave rows out that one side could not be judged on, and count the rest", () => {
    const rows = [...ROWS, row("d?", [Number.NaN, 0], [0.9, 1])];
    assert.deepEqual(
      differencesToReference(NAMES, rows, lehmer()).map((each) => each.rows),
      [3, 4],
    );
  });

  it("rank rows by what was gained, best and worst apart", () => {
    const { best, worst, measure } = extremes(ROWS, 4);
    assert.equal(measure, "reward");
    assert.deepEqual(
      [best, worst].map((rows) => rows.map(({ question }) => question)),
      [["a?", "b?"], ["c?"]],
    );
    const unrewarded = ROWS.map((each) => ({
      ...each,
      responses: each.responses.map((response) => ({ ...response, reward: Number.NaN })),
    }));
    assert.equal(extremes(unrewarded, 1).measure, "f1");
  });
});

describe("drawings of the report", () => {
  it("put marks at round values", () => {
    assert.deepEqual(
      ticks(0, 1).map((value) => Number(value.toFixed(6))),
      [0, 0.2, 0.4, 0.6, 0.8, 1],
    );
    assert.deepEqual(ticks(1, 40), [10, 20, 30, 40]);
    assert.deepEqual(ticks(-3, 4), [-2, 0, 2, 4]);
  });

  it("leave values out that are no number, and mark a single one", () => {
    const chart = curveChart("x", [
      {
        label: "one",
        points: [
          [1, Number.NaN],
          [2, 5],
        ],
      },
      { label: "none", points: [[1, Number.POSITIVE_INFINITY]] },
    ]).markup;
    assert.match(chart, /<circle class="dot c1"/);
    assert.ok(!/NaN|Infinity|none/.test(chart));
  });

  it("frame the best match of each candidate token and cut what can't be read", () => {
    const small = heatMap({
      candidate: ["p", "q"],
      reference: ["r", "s"],
      values: [0.1, 0.9, 0.8, 0.2],
    }).markup;
    assert.deepEqual(
      [...small.matchAll(/class="cell best".*?<title>(.*?):/g)].map((match) => match[1]),
      ["p · s", "q · r"],
    );
    const many = Array.from({ length: 60 }, (_, i) => `t${i}`);
    const large = heatMap({ candidate: many, reference: many, values: new Float32Array(3600) }).markup;
    assert.equal(large.match(/<rect/g)?.length, 48 * 48);
    assert.match(large, /The first 48 tokens of each text are shown/);
    assert.match(heatMap({ candidate: [], reference: ["a"], values: [] }).markup, /no similarities/);
  });

  it("escape what is put into a template, and leave templates alone", () => {
    assert.equal(
      html`<p title="${'"<'}">${[html`<b>${"&"}</b>`, 1, undefined, false]}</p>`.markup,
      '<p title="&quot;&lt;"><b>&amp;</b>1</p>',
    );
  });
});
