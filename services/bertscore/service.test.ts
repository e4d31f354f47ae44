/**
 * The BERTScore service as its callers meet it: a real process with its worker, over a real socket. Expected numbers come
 * from the bert_score library on test/golden/roberta-tiny and have six decimals.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { ElementType } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { runReadmeExample } from "../../lib/config/readme-example.js";
import { createClient } from "../../lib/rpc/client.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { buildVersion } from "../../lib/rpc/server-info.js";
import { failService, type ServiceProcess, startService } from "../../lib/rpc/testing/service-process.js";

const MAIN = new URL("./main.js", import.meta.url);
const MODEL = join(packageRoot(), "test/golden/roberta-tiny");

interface Golden {
  candidates: string[];
  references: string[];
  scores: Record<string, [number, number, number][]>;
  bert_score_library_multi: { references: string[][]; P: number[]; R: number[]; F: number[] };
}

const GOLDEN: Golden = JSON.parse(readFileSync(join(MODEL, "expected.json"), "utf8"));
const PAIRS = GOLDEN.candidates.map((candidate, i) => ({ candidate, references: [GOLDEN.references[i]] }));
/** The golden numbers were made without a prefix space. */
const AS_GOLDEN = { addPrefixSpace: false };
/** One row a layer of the model. */
const BASELINE = "LAYER,P,R,F\n0,0.1,0.2,0.3\n1,0.4,0.5,0.6\n2,0.7,0.6,0.5\n3,0.8,0.7,0.6\n";

type Scored = { precision?: number; recall?: number; f1?: number } | undefined;

function assertScore(actual: Scored, expected: readonly number[], tolerance = 1e-5): void {
  const got = [actual?.precision, actual?.recall, actual?.f1];
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs((got[i] ?? Number.NaN) - value) <= tolerance, `expected ${expected}, got ${got}`);
  }
}

const numbers = (score: Scored) => [
  score?.precision ?? Number.NaN,
  score?.recall ?? Number.NaN,
  score?.f1 ?? Number.NaN,
];

async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  throw new Error("the call succeeded");
}

describe("bertscore service", function () {
  this.timeout(60_000);
  let folder: string;
  let server: ServiceProcess;
  let client: ReturnType<typeof connect>;
  const connect = (address: string) =>
    createClient(BertScoreService, address, { deadlineMs: 20_000, retry: false });

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-bertscore-"));
    const baseline = join(folder, "baseline.tsv");
    writeFileSync(baseline, BASELINE);
    const flags = ["--rescale-baseline", baseline, "--threads", "1", "--log-level", "warn"];
    server = await startService(MAIN, ["--model", MODEL, ...flags]);
    client = connect(server.address);
  });
  after(async () => {
    client.close();
    rmSync(folder, { recursive: true });
    assert.equal(await server.stop(), 0);
  });

  it("says what it serves and how it scores", async () => {
    const info = await client.getInfo({});
    assert.deepEqual(
      [info.model?.name, info.model?.family, info.model?.maxTokens],
      ["roberta-tiny", "roberta", 128],
    );
    assert.deepEqual([info.defaultLayer, info.layerCount, info.hasBaseline], [3, 3, true]);
    assert.equal(info.hash, `roberta-tiny_L3_no-idf_version=0.3.13(rlhf-mesh=${buildVersion()})`);
    assert.equal(info.server?.limits.max_items, 256n);
  });

  for (const layer of [1, 2, 3]) {
    for (const mode of ["plain", "idf"]) {
      it(`gives the definition's scores at layer ${layer}, ${mode}`, async () => {
        const options = { ...AS_GOLDEN, layer, idf: mode === "idf" };
        const { results, hash, model } = await client.score({ pairs: PAIRS, options });
        for (const [i, { score }] of results.entries())
          assertScore(score, GOLDEN.scores[`layer${layer}-${mode}`][i]);
        assert.match(
          hash,
          new RegExp(`^roberta-tiny_L${layer}_${mode === "idf" ? "" : "no-"}idf_.*_fast-tokenizer$`),
        );
        assert.equal(model, "roberta-tiny");
      });
    }
  }

  it("gives the library's component-wise best over several references", async () => {
    const { references, P, R, F } = GOLDEN.bert_score_library_multi;
    const pairs = GOLDEN.candidates.map((candidate, i) => ({ candidate, references: references[i] }));
    const { results } = await client.score({ pairs, options: AS_GOLDEN });
    for (const [i, { score, referenceTokens }] of results.entries()) {
      assertScore(score, [P[i], R[i], F[i]]);
      assert.equal(referenceTokens.length, 2);
    }
  });

  it("scores a pair the same alone and in any batch", async () => {
    const { results: together } = await client.score({ pairs: [...PAIRS, ...PAIRS], options: AS_GOLDEN });
    const other = await startService(MAIN, ["--model", MODEL, "--cache-bytes", "0", "--log-level", "warn"]);
    const fresh = connect(other.address);
    for (const [i, pair] of PAIRS.entries()) {
      const { results } = await fresh.score({ pairs: [pair], options: AS_GOLDEN });
      assertScore(results[0].score, numbers(together[i].score), 1e-6);
      assertScore(results[0].score, numbers(together[i + PAIRS.length].score), 1e-6);
    }
    fresh.close();
    assert.equal(await other.stop(), 0);
  });

  it("puts a space before the first word unless told otherwise", async () => {
    const pairs = [{ candidate: "one text", references: ["another text of words"] }];
    const [byDefault] = (await client.score({ pairs })).results;
    const [withSpace] = (await client.score({ pairs, options: { addPrefixSpace: true } })).results;
    const [without] = (await client.score({ pairs, options: { addPrefixSpace: false } })).results;
    assert.deepEqual(byDefault.score, withSpace.score);
    assert.notDeepEqual(byDefault.score, without.score);
  });

  it("counts document frequencies over the corpus given", async () => {
    const { results: own } = await client.score({
      pairs: [PAIRS[0]],
      options: { ...AS_GOLDEN, idf: true, idfCorpus: GOLDEN.references, layer: 2 },
    });
    assertScore(own[0].score, GOLDEN.scores["layer2-idf"][0]);
  });

  it("gives NaN recall, and F 0, where one reference is the whole idf corpus", async () => {
    const [{ score }] = (await client.score({ pairs: [PAIRS[0]], options: { idf: true } })).results;
    assert.ok(Number.isNaN(score?.recall));
    assert.equal(score?.f1, 0);
  });

  it("scores every layer of one request, rescaled by each layer's own row", async () => {
    const options = { ...AS_GOLDEN, allLayers: true, layer: 1 };
    const { results } = await client.score({ pairs: PAIRS, options });
    for (const [i, { score, layers }] of results.entries()) {
      assert.equal(layers.length, 4);
      for (const layer of [1, 2, 3]) assertScore(layers[layer], GOLDEN.scores[`layer${layer}-plain`][i]);
      assert.deepEqual(score, layers[1]);
    }
    const rescaled = await client.score({ pairs: PAIRS, options: { ...options, rescale: true } });
    const [p, r, f] = GOLDEN.scores["layer2-plain"][0];
    assertScore(rescaled.results[0].layers[2], [(p - 0.7) / 0.3, (r - 0.6) / 0.4, (f - 0.5) / 0.5], 5e-5);
    assert.match(rescaled.hash, /-custom-rescaled/);
  });

  it("scores empty sentences 0, and below 0 once rescaled", async () => {
    const pairs = [
      { candidate: "", references: ["text"] },
      { candidate: "text", references: [" \u001f "] },
      { candidate: "", references: [""] },
    ];
    for (const { score, candidateTokens } of (await client.score({ pairs })).results) {
      assert.deepEqual(numbers(score), [0, 0, 0]);
      assert.ok(candidateTokens >= 2);
    }
    const [{ score }] = (await client.score({ pairs, options: { rescale: true } })).results;
    assertScore(score, [-0.8 / 0.2, -0.7 / 0.3, -0.6 / 0.4]);
  });

  it("cuts what is too long and says so", async () => {
    const long = "word ".repeat(400);
    const { results } = await client.score({ pairs: [{ candidate: long, references: [long, "short"] }] });
    const [{ score, truncated, candidateTokens, referenceTokens }] = results;
    assert.deepEqual([truncated, candidateTokens, referenceTokens[0]], [true, 128, 128]);
    assertScore(score, [1, 1, 1], 1e-6);
  });

  it("takes any string, and 256 pairs at once, and many calls", async () => {
    const odd = ["", "\u0000", "中文 🙂", "</s><pad>", "a".repeat(3000), "ẞ\u0301"];
    const mixed = odd.map((candidate, i) => ({ candidate, references: [odd[(i + 1) % odd.length]] }));
    for (const { score } of (await client.score({ pairs: mixed })).results)
      assert.ok(Number.isFinite(score?.f1));
    const pairs = Array.from({ length: 256 }, (_, i) => ({
      ...PAIRS[i % 8],
      candidate: `${PAIRS[i % 8].candidate} ${i}`,
    }));
    const { results } = await client.score({ pairs });
    assert.equal(results.length, 256);
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const [{ score }] = (await client.score({ pairs: [pairs[i]] })).results;
        assertScore(score, numbers(results[i].score), 1e-6);
      }),
    );
  });

  it("explains a pair: tokens, weights, best matches and all cosines", async () => {
    const { candidate, references } = PAIRS[0];
    const explained = await client.explain({
      candidate,
      reference: references[0],
      options: { ...AS_GOLDEN, layer: 1 },
    });
    const { candidateTokens, referenceTokens, similarity, score } = explained;
    assertScore(score, GOLDEN.scores["layer1-plain"][0]);
    assert.deepEqual(similarity?.shape, [BigInt(candidateTokens.length), BigInt(referenceTokens.length)]);
    assert.equal(similarity?.elementType, ElementType.FLOAT32);
    assert.deepEqual(
      [candidateTokens[0].text, candidateTokens[0].weight, candidateTokens[1].weight],
      ["<s>", 0, 1],
    );
    const bytes = similarity?.data ?? new Uint8Array();
    const cosines = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let precision = 0;
    for (const [i, { bestMatch, bestSimilarity, weight }] of candidateTokens.entries()) {
      const row = referenceTokens.map((_, j) =>
        cosines.getFloat32(4 * (i * referenceTokens.length + j), true),
      );
      assert.equal(Math.max(...row), row[bestMatch]);
      assert.ok(Math.abs(row[bestMatch] - bestSimilarity) < 1e-7);
      precision += (weight * bestSimilarity) / (candidateTokens.length - 2);
    }
    assert.ok(Math.abs(precision - (score?.precision ?? 0)) < 1e-6);
  });

  it("answers the README's example", async () => {
    process.env.BERTSCORE_ADDRESS = server.address;
    const { f1 } = (await runReadmeExample("services/bertscore")) as { f1: number };
    assert.ok(Math.abs(f1 - 1) < 1e-6); // the second reference is the candidate
  });

  const bad: [string, Parameters<typeof client.score>[0], string, RegExp][] = [
    ["no pairs", { pairs: [] }, "pairs", /has 0 items; accepted: at least 1/],
    [
      "a pair without references",
      { pairs: [PAIRS[0], { candidate: "a" }] },
      "pairs[1].references",
      /at least 1/,
    ],
    [
      "too many references",
      { pairs: [{ candidate: "a", references: new Array(33).fill("b") }] },
      "pairs[0].references",
      /at most 32/,
    ],
    [
      "a layer that the model lacks",
      { pairs: PAIRS, options: { layer: 4 } },
      "options.layer",
      /is 4; accepted: at most 3/,
    ],
    ["a layer below 0", { pairs: PAIRS, options: { layer: -1 } }, "options.layer", /at least 0/],
    [
      "a corpus without idf",
      { pairs: PAIRS, options: { idfCorpus: ["a"] } },
      "options.idf_corpus",
      /none unless/,
    ],
    [
      "a text of too many bytes",
      { pairs: [{ candidate: "a", references: ["b", "x".repeat(262_145)] }] },
      "pairs[0].references[1]",
      /262145 bytes/,
    ],
  ];
  for (const [name, request, field, description] of bad) {
    it(`refuses ${name}, naming the field`, async () => {
      const error = await failure(client.score(request));
      assert.equal(error.status, "INVALID_ARGUMENT");
      assert.equal(error.violations[0].field, field);
      assert.match(error.violations[0].description, description);
    });
  }

  it("refuses all layers for one matrix, and a model it does not serve", async () => {
    const error = await failure(
      client.explain({ candidate: "a", reference: "b", options: { allLayers: true } }),
    );
    assert.deepEqual([error.status, error.violations[0].field], ["INVALID_ARGUMENT", "options.all_layers"]);
    assert.equal((await failure(client.score({ pairs: PAIRS, model: "roberta-large" }))).status, "NOT_FOUND");
  });
});

describe("bertscore service without a baseline, when its worker dies", function () {
  this.timeout(60_000);

  it("refuses to rescale, fails what is in flight with UNAVAILABLE and serves again within 5 s", async () => {
    const server = await startService(MAIN, [
      "--model",
      MODEL,
      "--layer",
      "2",
      "--threads",
      "1",
      "--cache-bytes",
      "0",
    ]);
    const client = createClient(BertScoreService, server.address, { deadlineMs: 20_000, retry: false });
    const refused = await failure(client.score({ pairs: PAIRS, options: { rescale: true } }));
    assert.deepEqual([refused.status, refused.reason], ["FAILED_PRECONDITION", "NO_BASELINE"]);
    const { defaultLayer, hasBaseline } = await client.getInfo({});
    assert.deepEqual([defaultLayer, hasBaseline], [2, false]);

    const before = (await client.score({ pairs: PAIRS })).results[0].score;
    const pairs = Array.from({ length: 256 }, (_, i) => ({
      candidate: `${"many words ".repeat(60)}${i}`,
      references: [`${"other words ".repeat(60)}${i}`],
    }));
    const inFlight = failure(client.score({ pairs }));
    const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "utf8").trim();
    process.kill(Number(children), "SIGKILL");
    const killedAt = Date.now();
    assert.equal((await inFlight).status, "UNAVAILABLE");
    for (;;) {
      const again = await client.score({ pairs: PAIRS }).catch((error: RpcError) => error);
      if (!(again instanceof Error)) {
        assert.deepEqual(again.results[0].score, before);
        break;
      }
      assert.equal(again.status, "UNAVAILABLE");
      assert.ok(Date.now() - killedAt < 5000, "not back after 5 s");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    client.close();
    assert.equal(await server.stop(), 0);
  });
});

describe("bertscore service, when it cannot start", function () {
  this.timeout(60_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-bertscore-"));
    writeFileSync(join(folder, "short.tsv"), "LAYER,P,R,F\n0,0.1,0.2,0.3\n");
  });
  after(() => rmSync(folder, { recursive: true }));

  const cases: [string, () => string[], number, RegExp][] = [
    [
      "the layer is not the model's",
      () => ["--model", MODEL, "--layer", "4"],
      2,
      /layer: is 4; accepted: 0 to 3/,
    ],
    [
      "the baseline is not there",
      () => ["--model", MODEL, "--rescale-baseline", "/nowhere.tsv"],
      2,
      /\/nowhere\.tsv: cannot be read/,
    ],
    [
      "the baseline lacks layers",
      () => ["--model", MODEL, "--rescale-baseline", join(folder, "short.tsv")],
      2,
      /expected 4 rows/,
    ],
    [
      "the model generates text",
      () => ["--model", join(packageRoot(), "test/golden/gpt2-tiny")],
      3,
      /model_type: .*"gpt2"/,
    ],
  ];
  for (const [name, args, code, message] of cases) {
    it(`says why if ${name}, and exits with ${code}`, async () => {
      const failed = await failService(MAIN, [...args(), "--log-level", "silent"]);
      assert.match(failed.log, message);
      assert.equal(failed.code, code);
    });
  }
});
