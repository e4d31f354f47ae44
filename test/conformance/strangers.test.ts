/**
 * @file Servers that keep the contract in another way than ours: what they leave out is left open or passed over, and never held against
 * them.
 */
import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import type { CheckResult } from "../../cli/conformance/run.js";
import { ServerReflection } from "../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ScoreFunction } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { check, withToken } from "./mutants/run-mutants.js";
import { type BaseToy, remove } from "./toy/base.js";
import { bertscoreToy } from "./toy/bertscore.js";
import { policyToy } from "./toy/policy.js";
import { Refusal } from "./toy/refusal.js";
import { type RewardToy, rewardToy } from "./toy/reward.js";

/** Ids of checks that were left open, with the reasons; fails if one failed. */
function open(results: readonly CheckResult[]): Record<string, string> {
  assert.deepEqual(
    results.filter(({ outcome }) => outcome === "fail"),
    [],
  );
  const skipped = results.filter(({ outcome }) => outcome === "skip");
  return Object.fromEntries(skipped.map(({ id, detail }) => [id, detail]));
}

/** Does its work as fast as it comes. */
function fast<T extends BaseToy>(toy: T): T {
  toy.queue.slower = 0;
  return toy;
}

/** Refuses a field that it has no use for. */
function refuses(
  toy: RewardToy,
  field: string,
  isUsed: (request: Parameters<RewardToy["methods"]["score"]>[0]) => boolean,
) {
  const { score } = toy.methods;
  toy.methods.score = async (request, call) => {
    if (!isUsed(request)) return score(request, call);
    const violations = [{ field, description: "is not supported" }];
    throw new Refusal(status.INVALID_ARGUMENT, `${field}: is not supported`, "UNSUPPORTED", violations);
  };
}

describe("a stranger's server that is right", function () {
  this.timeout(60_000);

  it("may take one text at a time, and then has no order to keep", async () => {
    const toy = fast(withToken(rewardToy()));
    Object.assign(toy.limits, { max_items: 1 });
    toy.most.items = 1;
    const groups = ["info", "errors", "limits/items", "limits/text", "score"];
    assert.deepEqual(Object.keys(open(await check("reward", toy, { only: groups }))), ["score/order"]);
  });

  it("may know neither text_pairs nor all score functions, where it says so", async () => {
    const toy = withToken(rewardToy());
    refuses(
      toy,
      "text_pairs",
      ({ texts, textPairs }) => textPairs.length > 0 && textPairs.length === texts.length,
    );
    refuses(toy, "function", ({ function: fn }) => fn === ScoreFunction.SIGMOID || fn === ScoreFunction.NONE);
    const results = await check("reward", toy, { only: ["score"] });
    assert.deepEqual(open(results), { "score/pairs": "the server takes no text_pairs, and says so" });
    const functions = results.find(({ id }) => id === "score/functions");
    assert.equal(functions?.detail, "refused: none, sigmoid");
  });

  it("may have one label", async () => {
    const toy = withToken(rewardToy());
    toy.labels.splice(0, 1);
    assert.deepEqual(open(await check("reward", toy, { only: ["info", "score", "errors"] })), {});
  });

  it("may publish few limits, and have reflection v1alpha and no List, as Python's and older libraries do", async () => {
    const toy = withToken(rewardToy());
    toy.limits = { max_items: 32 };
    remove(toy, ServerReflection);
    toy.health.list = () =>
      Promise.reject(new Refusal(status.UNIMPLEMENTED, "no such method", "UNIMPLEMENTED"));
    assert.deepEqual(open(await check("reward", toy, { only: ["limits", "health", "reflection"] })), {
      "limits/message": "GetInfo publishes no limit max_receive_bytes",
      "limits/metadata": "GetInfo publishes no limit max_metadata_bytes",
      "limits/queue": "GetInfo publishes no limit max_queue_items",
      "limits/text": "GetInfo publishes no limit max_text_bytes",
      "health/list": "the server has no List, which is newer than Check and Watch",
      "reflection/v1": "the server has v1alpha only, which tools that ask for v1 fall back to",
    });
  });

  it("may ask for no token and keep no spans", async () => {
    const toy = rewardToy();
    const results = await check("reward", toy, { only: ["auth", "trace"] }, {});
    assert.deepEqual(open(results), {
      "auth/token": "no --token-file was given",
      "auth/health": "no --token-file was given",
      "trace/continued": "no --trace-file was given, in which the server's spans could be seen",
    });
  });

  it("may have a baseline to rescale with, and no Explain", async () => {
    const toy = withToken(bertscoreToy());
    toy.baseline = 0.4;
    toy.methods.explain = () =>
      Promise.reject(new Refusal(status.UNIMPLEMENTED, "not here", "UNIMPLEMENTED"));
    const results = await check("bertscore", toy, { only: ["score", "explain", "errors"] });
    assert.deepEqual(open(results), {
      "explain/agrees": "the server has no Explain",
      "errors/all-layers": "the server has no Explain",
    });
    assert.equal(results.find(({ id }) => id === "score/rescale")?.detail, "");
  });

  it("may take one pair or one prompt at a time", async () => {
    const pairs = fast(withToken(bertscoreToy()));
    Object.assign(pairs.limits, { max_items: 1, max_references: 1 });
    Object.assign(pairs.most, { items: 1, references: 1 });
    const groups = ["score", "errors", "limits/items", "limits/text", "limits/references"];
    assert.deepEqual(Object.keys(open(await check("bertscore", pairs, { only: groups }))).sort(), [
      "score/order",
      "score/references",
    ]);
    const prompts = fast(withToken(policyToy()));
    Object.assign(prompts.limits, { max_prompts: 1, max_sequences: 2 });
    Object.assign(prompts.most, { prompts: 1, sequences: 2 });
    const all = [
      "info",
      "generate",
      "stream",
      "logprobs",
      "version",
      "errors",
      "limits/items",
      "limits/text",
    ];
    assert.deepEqual(open(await check("policy", prompts, { only: all })), {});
  });
});
