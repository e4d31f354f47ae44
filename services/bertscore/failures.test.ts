/**
 * What callers get when the model fails or a pair is too large, over a real socket in this process.
 */
import assert from "node:assert/strict";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { createClient } from "../../lib/rpc/client.js";
import { NotReadyError, WorkerCrashedError } from "../../lib/rpc/errors.js";
import { silentLog } from "../../lib/rpc/log.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { startServer } from "../../lib/rpc/server.js";
import { resolveDefaults } from "./defaults.js";
import type { EncoderFacts, ItemScore } from "./protocol.js";
import { type BertScoreBackend, bertScoreService } from "./service.js";

const FACTS: EncoderFacts = {
  name: "roberta-large",
  family: "roberta",
  weightVersion: 0,
  digest: "e".repeat(64),
  parameterCount: 10,
  maxTokens: 512,
  vocabSize: 9,
  layerCount: 24,
  wrapper: { cls: 0, sep: 2 },
  prefixSpaceMatters: true,
  device: "cpu",
  engine: "fake",
};

/** A backend whose sentences have as many tokens as characters and whose pairs score the same. */
const WORKING: BertScoreBackend = {
  facts: () => FACTS,
  reserve: () => ({ release() {} }),
  tokenize: async ({ sentences }) =>
    sentences.map((sentence) => ({ ids: new Int32Array(sentence.length), truncated: false })),
  score: async (items) => ({
    results: items.map(
      ({ layers }): ItemScore => ({ scores: layers.map(() => ({ precision: 0.95, recall: 0.9, f1: 0.92 })) }),
    ),
    queueMs: 0,
    runMs: 0,
  }),
  decodeTokens: async ({ ids }) => Array.from(ids, String),
};

const connect = (address: string) =>
  createClient(BertScoreService, address, { deadlineMs: 5000, retry: false });

async function withService<T>(
  parts: Partial<BertScoreBackend>,
  use: (client: ReturnType<typeof connect>) => Promise<T>,
): Promise<T> {
  const backend = { ...WORKING, ...parts };
  const service = bertScoreService(
    backend,
    (facts) => resolveDefaults({ lang: "en" }, facts),
    () => ({ device: "cpu" }),
  );
  const server = await startServer({
    name: "bertscore",
    services: [service],
    listen: "127.0.0.1:0",
    log: silentLog,
  });
  const client = connect(server.address);
  try {
    return await use(client);
  } finally {
    client.close();
    await server.drain();
  }
}

async function errorOf(parts: Partial<BertScoreBackend>, candidate = "ab", options = {}): Promise<RpcError> {
  const outcome = await withService(parts, (client) =>
    client.score({ pairs: [{ candidate, references: ["c"] }], options }).catch((error: unknown) => error),
  );
  assert.ok(outcome instanceof RpcError, "the call succeeded");
  return outcome;
}

describe("bertscore service, when the model fails", () => {
  it("answers INTERNAL where an embedding is not finite, never a score", async () => {
    const error = await errorOf({
      score: async () => ({ results: [{ nonFinite: { tokens: 3, layer: 17 } }], queueMs: 0, runMs: 0 }),
    });
    assert.equal(error.status, "INTERNAL");
  });

  it("answers UNAVAILABLE while the model loads or its worker is gone", async () => {
    for (const error of [new NotReadyError("the model is loading"), new WorkerCrashedError("gone")]) {
      const answer = await errorOf({
        tokenize: async () => {
          throw error;
        },
      });
      assert.equal(answer.status, "UNAVAILABLE");
      assert.ok((answer.retryDelayMs ?? 0) > 0);
    }
  });

  it("refuses a pair whose embeddings would not fit in memory", async () => {
    const error = await errorOf({}, "x".repeat(5300), { allLayers: true });
    assert.deepEqual([error.status, error.violations[0].field], ["INVALID_ARGUMENT", "pairs[0]"]);
    assert.match(error.violations[0].description, /has 5301 tokens at 25 layers; accepted: at most 131072/);
  });
});

describe("bertscore service on a published model", () => {
  it("takes layer and baseline from bert_score's tables", async () => {
    await withService({}, async (client) => {
      const info = await client.getInfo({});
      assert.deepEqual([info.defaultLayer, info.hasBaseline], [17, true]);
      const pairs = [{ candidate: "ab", references: ["c"] }];
      const { results, hash } = await client.score({ pairs, options: { rescale: true } });
      assert.match(hash, /^roberta-large_L17_no-idf_.*\)-rescaled$/);
      const { precision = 0, f1 = 0 } = results[0].score ?? {};
      assert.ok(Math.abs(precision - (0.95 - 0.83150584) / (1 - 0.83150584)) < 1e-9);
      assert.ok(Math.abs(f1 - (0.92 - 0.83122575) / (1 - 0.83122575)) < 1e-9);
    });
  });

  it("does not take the baseline of a model that only shares the name", () => {
    const { layer, baseline } = resolveDefaults({ lang: "en" }, { ...FACTS, layerCount: 6 });
    assert.deepEqual([layer, baseline], [6, undefined]);
    assert.equal(resolveDefaults({ lang: "fi" }, FACTS).baseline, undefined);
    assert.equal(resolveDefaults({ lang: "en", name: "mine" }, FACTS).layer, 24);
  });
});
