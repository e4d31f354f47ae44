/**
 * The reward service as its callers meet it: a real process with its worker, over a real socket.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Health, HealthCheckResponse_ServingStatus } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { RewardService, ScoreFunction } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { runReadmeExample } from "../../lib/config/readme-example.js";
import { createClient } from "../../lib/rpc/client.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { failService, type ServiceProcess, startService } from "../../lib/rpc/testing/service-process.js";

const MAIN = new URL("./main.js", import.meta.url);
const golden = (name: string) => join(packageRoot(), "test/golden", name);

interface Golden {
  texts: string[];
  items: { input_ids: number[]; logits: number[]; softmax: number[] }[];
  pair: { text: string; text_pair: string; logits: number[] };
}

const BERT: Golden = JSON.parse(readFileSync(join(golden("bert-tiny-classifier"), "expected.json"), "utf8"));

const close = (actual: number | undefined, expected: number, tolerance: number) =>
  assert.ok(
    actual !== undefined && Math.abs(actual - expected) <= tolerance,
    `expected ${expected}, got ${actual}`,
  );

/** The error of a call that must fail. */
async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  throw new Error("the call succeeded");
}

describe("reward service", function () {
  this.timeout(60_000);
  let server: ServiceProcess;
  let client: ReturnType<typeof connect>;
  const connect = (address: string) =>
    createClient(RewardService, address, { deadlineMs: 20_000, retry: false });

  before(async () => {
    server = await startService(MAIN, [
      "--model",
      golden("bert-tiny-classifier"),
      "--threads",
      "1",
      "--log-level",
      "warn",
    ]);
    client = connect(server.address);
  });
  after(async () => {
    client.close();
    assert.equal(await server.stop(), 0);
  });

  it("says what it serves and what it accepts", async () => {
    const info = await client.getInfo({});
    assert.deepEqual(info.labels, ["LABEL_0", "LABEL_1"]);
    assert.deepEqual([info.defaultLabel, info.defaultFunction], ["LABEL_1", ScoreFunction.SOFTMAX]);
    assert.deepEqual(
      [info.model?.name, info.model?.family, info.model?.maxTokens],
      ["bert-tiny-classifier", "bert", 512],
    );
    assert.match(info.model?.weights?.digest ?? "", /^[0-9a-f]{64}$/);
    assert.equal(info.server?.limits.max_items, 256n);
    assert.equal(info.server?.limits.max_text_bytes, 262_144n);
    assert.equal(info.server?.device, "cpu");
  });

  it("gives the reference's probabilities and logits for every text, in order", async () => {
    const { results, label, model, weights } = await client.score({ texts: BERT.texts });
    assert.deepEqual([results.length, label, model], [BERT.texts.length, "LABEL_1", "bert-tiny-classifier"]);
    assert.match(weights?.digest ?? "", /^[0-9a-f]{64}$/);
    for (const [i, { input_ids, logits, softmax }] of BERT.items.entries()) {
      const { reward, scores, tokenCount, truncated } = results[i];
      close(reward, softmax[1], 2e-6);
      assert.deepEqual(
        scores.map((score) => score.label),
        ["LABEL_0", "LABEL_1"],
      );
      for (const [j, score] of scores.entries()) {
        close(score.logit, logits[j], 5e-6);
        close(score.score, softmax[j], 2e-6);
      }
      assert.deepEqual([tokenCount, truncated], [input_ids.length, false]);
    }
  });

  it("scores a text the same alone and in any batch", async () => {
    const { results: together } = await client.score({
      texts: [...BERT.texts, ...BERT.texts.slice().reverse()],
    });
    for (const [i, text] of BERT.texts.entries()) {
      const { results } = await client.score({ texts: [text] });
      for (const j of [i, 2 * BERT.texts.length - 1 - i]) {
        for (const k of [0, 1]) close(together[j].scores[k].logit, results[0].scores[k].logit, 1e-5);
      }
    }
  });

  it("scores text pairs", async () => {
    const { text, text_pair, logits } = BERT.pair;
    const { results } = await client.score({ texts: [text, text], textPairs: [text_pair, text] });
    close(results[0].scores[0].logit, logits[0], 5e-6);
    close(results[0].scores[1].logit, logits[1], 5e-6);
    assert.notEqual(results[1].scores[0].logit, results[0].scores[0].logit);
  });

  it("takes label and score function from the request", async () => {
    const texts = [BERT.texts[0]];
    const [x0, x1] = BERT.items[0].logits;
    const first = await client.score({ texts, label: "LABEL_0" });
    close(first.results[0].reward, BERT.items[0].softmax[0], 2e-6);
    const logit = await client.score({ texts, label: "0", function: ScoreFunction.NONE });
    close(logit.results[0].reward, x0, 5e-6);
    assert.deepEqual([logit.label, logit.function], ["LABEL_0", ScoreFunction.NONE]);
    const sigmoid = await client.score({ texts, function: ScoreFunction.SIGMOID });
    close(sigmoid.results[0].reward, 1 / (1 + Math.exp(-x1)), 2e-6);
  });

  it("refuses a text that is too long, or cuts it when asked", async () => {
    const long = "word ".repeat(700);
    const error = await failure(client.score({ texts: ["short", long] }));
    assert.equal(error.status, "INVALID_ARGUMENT");
    assert.equal(error.violations[0].field, "texts[1]");
    assert.match(error.violations[0].description, /has \d+ tokens; accepted: at most 512/);
    const { results } = await client.score({ texts: ["short", long], truncate: true });
    assert.deepEqual([results[0].truncated, results[1].truncated, results[1].tokenCount], [false, true, 512]);
  });

  it("scores anything a string may hold: empty, control characters, other scripts, special tokens", async () => {
    const texts = [
      "",
      " ",
      "\u0000\u200b\ufeff",
      "中文 🙂 ẞ",
      "[SEP] [MASK] [CLS]",
      "a".repeat(5000),
      "\ud83d\ude00".repeat(300),
    ];
    const { results } = await client.score({ texts });
    assert.deepEqual(
      results.slice(0, 3).map((r) => r.tokenCount),
      [2, 2, 2],
    );
    for (const { reward } of results) assert.ok(reward !== undefined && reward > 0 && reward < 1);
    close(results[1].reward, results[0].reward ?? 0, 0);
  });

  it("scores 256 texts at once, and refuses 257", async () => {
    const texts = Array.from({ length: 256 }, (_, i) => `${BERT.texts[i % BERT.texts.length]} ${i % 50}`);
    const { results } = await client.score({ texts });
    assert.equal(results.length, 256);
    assert.ok(results.every(({ reward }) => reward !== undefined));
    const [alone] = (await client.score({ texts: [texts[200]] })).results;
    close(results[200].reward, alone.reward ?? 0, 1e-5);
    const error = await failure(client.score({ texts: [...texts, "one more"] }));
    assert.equal(error.status, "INVALID_ARGUMENT");
    assert.deepEqual(error.violations, [
      { field: "texts", description: "has 257 items; accepted: at most 256" },
    ]);
  });

  it("answers many calls at once, each with its own results", async () => {
    const calls = Array.from({ length: 60 }, async (_, i) => {
      const k = i % BERT.texts.length;
      const { results } = await client.score({
        texts: [BERT.texts[k], BERT.texts[(k + 1) % BERT.texts.length]],
      });
      close(results[0].scores[1].logit, BERT.items[k].logits[1], 1e-5);
      close(results[1].scores[1].logit, BERT.items[(k + 1) % BERT.texts.length].logits[1], 1e-5);
    });
    await Promise.all(calls);
  });

  const bad: [string, Parameters<typeof client.score>[0], string, RegExp][] = [
    ["no texts", { texts: [] }, "texts", /has 0 items; accepted: at least 1/],
    [
      "pairs that do not match",
      { texts: ["a", "b"], textPairs: ["c"] },
      "text_pairs",
      /has 1 items; accepted: none, or 2/,
    ],
    [
      "an unknown label",
      { texts: ["a"], label: "GOOD" },
      "label",
      /"GOOD"; accepted: "LABEL_0", "LABEL_1" or an index/,
    ],
    ["a label index that is too high", { texts: ["a"], label: "2" }, "label", /from 0 to 1/],
    ["an unknown score function", { texts: ["a"], function: 9 as ScoreFunction }, "function", /9/],
    [
      "a text of too many bytes",
      { texts: ["ok", "é".repeat(140_000)] },
      "texts[1]",
      /280000 bytes; accepted: at most 262144/,
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

  it("refuses to answer for a model it does not serve", async () => {
    const error = await failure(client.score({ texts: ["a"], model: "other" }));
    assert.equal(error.status, "NOT_FOUND");
    assert.match(error.message, /bert-tiny-classifier/);
    assert.equal((await client.score({ texts: ["a"], model: "bert-tiny-classifier" })).results.length, 1);
  });

  it("answers the README's example", async () => {
    process.env.REWARD_ADDRESS = server.address;
    const { rewards } = (await runReadmeExample("services/reward")) as { rewards: number[] };
    assert.equal(rewards.length, 2);
  });

  it("gives up at the deadline and on cancellation, and goes on serving", async () => {
    const texts = Array.from({ length: 256 }, (_, i) => `${"many words of text ".repeat(25)}${i}`);
    const late = await failure(client.score({ texts }, { deadlineMs: 5 }));
    assert.equal(late.status, "DEADLINE_EXCEEDED");
    const abort = new AbortController();
    const call = client.score({ texts }, { signal: abort.signal });
    abort.abort();
    assert.equal((await failure(call)).status, "CANCELLED");
    assert.equal((await client.score({ texts: ["a"] })).results.length, 1);
  });
});

describe("reward service, when its worker dies", function () {
  this.timeout(60_000);

  it("fails the calls in flight with UNAVAILABLE and serves again within 5 s", async () => {
    const server = await startService(MAIN, [
      "--model",
      golden("distilbert-tiny-classifier"),
      "--threads",
      "1",
    ]);
    const client = createClient(RewardService, server.address, { deadlineMs: 20_000, retry: false });
    const worker = workerOf(server.pid);
    const texts = Array.from({ length: 256 }, (_, i) => `${"many words of text ".repeat(25)}${i}`);
    const health = createClient(Health, server.address, { deadlineMs: 5000, retry: false });
    const statusNow = async () => (await health.check({ service: RewardService.typeName })).status;
    assert.equal(await statusNow(), HealthCheckResponse_ServingStatus.SERVING);
    const before = (await client.score({ texts: ["a text"] })).results[0].reward;
    const inFlight = failure(client.score({ texts }));
    process.kill(worker, "SIGKILL");
    const killedAt = Date.now();
    assert.equal((await inFlight).status, "UNAVAILABLE");
    for (;;) {
      const again = await client.score({ texts: ["a text"] }).catch((error: RpcError) => error);
      if (!(again instanceof Error)) {
        assert.equal(again.results[0].reward, before);
        break;
      }
      assert.equal(again.status, "UNAVAILABLE");
      assert.ok(Date.now() - killedAt < 5000, "not back after 5 s");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(await statusNow(), HealthCheckResponse_ServingStatus.SERVING);
    health.close();
    client.close();
    assert.equal(await server.stop(), 0);
  });
});

describe("reward service, when more comes than it can take", function () {
  this.timeout(60_000);

  it("refuses some at once with a delay, scores the others, and recovers", async () => {
    const flags = ["--queue-items", "100", "--batch-items", "32", "--threads", "1", "--log-level", "error"];
    const server = await startService(MAIN, ["--model", golden("bert-tiny-classifier"), ...flags]);
    const client = createClient(RewardService, server.address, { deadlineMs: 30_000, retry: false });
    const expected = (await client.score({ texts: ["many words of text"] })).results[0].reward ?? Number.NaN;
    const texts = Array.from({ length: 64 }, (_, i) => `${"many words of text ".repeat(20)}${i}`);
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, () => client.score({ texts }).catch((error: unknown) => error)),
    );
    const refused = outcomes.filter((outcome) => outcome instanceof RpcError);
    assert.ok(refused.length > 0 && refused.length < outcomes.length, `${refused.length} of 30 refused`);
    for (const error of refused) {
      assert.equal(error.status, "RESOURCE_EXHAUSTED");
      assert.ok((error.retryDelayMs ?? 0) > 0);
    }
    close((await client.score({ texts: ["many words of text"] })).results[0].reward, expected, 1e-6);
    client.close();
    assert.equal(await server.stop(), 0);
  });
});

describe("reward service, when it cannot start", function () {
  this.timeout(60_000);

  const cases: [string, string[], number, RegExp][] = [
    ["no model is named", [], 2, /model: missing/],
    ["a flag is unknown", ["--model", "x", "--lable", "1"], 2, /lable: unknown key → did you mean "label"/],
    ["the directory is not there", ["--model", "/nowhere/model"], 3, /\/nowhere\/model/],
    [
      "the label is not the model's",
      ["--model", golden("bert-tiny-classifier"), "--label", "2"],
      2,
      /label: "2" is no label of the model; accepted: "LABEL_0", "LABEL_1"/,
    ],
    ["the model has no classifier", ["--model", golden("roberta-tiny")], 3, /classifier/],
    [
      "it would listen in the clear on all addresses",
      ["--model", golden("bert-tiny-classifier"), "--listen", "0.0.0.0:0"],
      3,
      /--insecure/,
    ],
  ];
  for (const [name, args, code, message] of cases) {
    it(`says why if ${name}, and exits with ${code}`, async () => {
      const failed = await failService(MAIN, [...args, "--log-level", "silent"]);
      assert.match(failed.log, message);
      assert.equal(failed.code, code);
    });
  }
});

/** Process id of the only child of a process. */
function workerOf(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(/\s+/);
  assert.equal(children.length, 1);
  return Number(children[0]);
}
