/**
 * What callers get when the model fails or cannot keep up, over a real socket in this process: a failed score is an error,
 * never a number.
 */
import assert from "node:assert/strict";
import { RewardService, ScoreFunction } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { createClient } from "../../lib/rpc/client.js";
import { NotReadyError, QueueFullError } from "../../lib/rpc/errors.js";
import { silentLog } from "../../lib/rpc/log.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { startServer } from "../../lib/rpc/server.js";
import type { ClassifierFacts } from "./protocol.js";
import { type RewardBackend, type RewardDefaults, rewardService } from "./service.js";

const FACTS: ClassifierFacts = {
  name: "fake",
  family: "bert",
  weightVersion: 7,
  digest: "d".repeat(64),
  parameterCount: 10,
  maxTokens: 8,
  vocabSize: 9,
  labels: ["bad", "good"],
  device: "cpu",
  engine: "fake",
};

/** A backend whose logits are the text's length and 0. */
const WORKING: RewardBackend = {
  facts: () => FACTS,
  reserve: () => ({ release() {} }),
  tokenize: async ({ texts }) =>
    texts.map(({ text }) => ({
      ids: new Int32Array(text.length),
      typeIds: new Uint8Array(text.length),
      fullLength: text.length,
    })),
  logits: async (rows) => ({
    results: rows.map(({ ids }) => Float32Array.of(ids.length, 0)),
    queueMs: 1,
    runMs: 2,
  }),
};

async function withService<T>(
  parts: Partial<RewardBackend>,
  defaults: RewardDefaults,
  use: (client: ReturnType<typeof connect>) => Promise<T>,
): Promise<T> {
  const service = rewardService({ ...WORKING, ...parts }, defaults, () => ({ device: "cpu" }));
  const server = await startServer({
    name: "reward",
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

const connect = (address: string) => createClient(RewardService, address, { deadlineMs: 5000, retry: false });

async function errorOf(parts: Partial<RewardBackend>): Promise<RpcError> {
  const outcome = await withService(parts, {}, (client) =>
    client.score({ texts: ["ab", "c"] }).catch((error: unknown) => error),
  );
  assert.ok(outcome instanceof RpcError, "the call succeeded");
  return outcome;
}

describe("reward service, when the model fails", () => {
  it("answers INTERNAL for NaN or infinite logits, without their values", async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const error = await errorOf({
        logits: async () => ({
          results: [Float32Array.of(1, 2), Float32Array.of(bad, 0)],
          queueMs: 0,
          runMs: 0,
        }),
      });
      assert.equal(error.status, "INTERNAL");
      assert.doesNotMatch(error.message, /NaN|Infinity|logits/);
    }
  });

  it("answers UNAVAILABLE with a delay while the model loads", async () => {
    const error = await errorOf({
      facts: () => {
        throw new NotReadyError("the model is loading");
      },
    });
    assert.equal(error.status, "UNAVAILABLE");
    assert.ok((error.retryDelayMs ?? 0) > 0);
  });

  it("answers RESOURCE_EXHAUSTED with a delay when the queue is full, before it tokenizes", async () => {
    let tokenized = false;
    const error = await errorOf({
      reserve: () => {
        throw new QueueFullError("the queue is full", 250);
      },
      tokenize: async () => {
        tokenized = true;
        return [];
      },
    });
    assert.equal(error.status, "RESOURCE_EXHAUSTED");
    assert.equal(error.retryDelayMs, 250);
    assert.equal(tokenized, false);
  });

  it("answers INTERNAL for anything unexpected, with nothing of it in the message", async () => {
    const error = await errorOf({
      logits: async () => {
        throw new Error("secret path /srv/model");
      },
    });
    assert.equal(error.status, "INTERNAL");
    assert.doesNotMatch(error.message, /secret/);
  });

  it("reports every text that is too long", async () => {
    const outcome = await withService({}, {}, (client) =>
      client.score({ texts: ["123456789", "ok", "1234567890"] }).catch((error: unknown) => error),
    );
    assert.ok(outcome instanceof RpcError);
    assert.deepEqual(
      outcome.violations.map(({ field }) => field),
      ["texts[0]", "texts[2]"],
    );
    assert.deepEqual([outcome.reason, outcome.facts.max, outcome.facts.actual], ["INPUT_TOO_LONG", "8", "9"]);
  });
});

describe("reward service defaults", () => {
  it("are those of the flags, and of the model where there are none", async () => {
    await withService({}, { label: "bad", function: "none", name: "served" }, async (client) => {
      const { results, label, model, weights, timing, ...rest } = await client.score({ texts: ["abc"] });
      assert.deepEqual(
        [results[0].reward, label, model, rest.function],
        [3, "bad", "served", ScoreFunction.NONE],
      );
      assert.deepEqual([weights?.version, weights?.digest], [7n, "d".repeat(64)]);
      assert.deepEqual([timing?.queueMs, timing?.modelMs], [1, 2]);
      const info = await client.getInfo({});
      assert.deepEqual(
        [info.defaultLabel, info.defaultFunction, info.model?.name],
        ["bad", ScoreFunction.NONE, "served"],
      );
    });
    await withService(
      { facts: () => ({ ...FACTS, problemType: "regression", labels: ["a", "b"] }) },
      {},
      async (client) => {
        const info = await client.getInfo({});
        assert.deepEqual([info.defaultLabel, info.defaultFunction], ["b", ScoreFunction.NONE]);
      },
    );
  });
});
