/** @file Cancelled calls leave nothing behind, and the model stops computing for them within a decode step. */
import assert from "node:assert/strict";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type FakeCollector, startFakeCollector } from "../../lib/telemetry/fake-collector.js";
import { useSandbox } from "../support/sandbox.js";
import { sizedPolicy } from "../support/sized-models.js";
import { cancelAtRandom } from "./cancellations.js";
import { noteFigure } from "./figures.js";
import { withPatience } from "./patience.js";
import { scale } from "./scale.js";

describe("cancelled calls", function () {
  this.timeout(scale.full ? 180_000 : 60_000);
  const sandbox = useSandbox("each");

  it("leave no row, no queue item, no live request and no memory behind", async () => {
    const counts = await cancelAtRandom(sandbox(), {
      test: "cancellation: leaks",
      count: scale.cancellations,
    });
    noteFigure({
      test: "cancellation",
      load: `${counts.cancelled} calls of 5 kinds cancelled at random, ${counts.finished} finished between them`,
      measured: "rows, queues and live requests back at 0 after each round",
    });
  });

  it("stop computing within a decode step", async () => {
    const box = sandbox();
    const collector = await startFakeCollector();
    box.defer(() => collector.close());
    const model = await sizedPolicy({ layers: 6, width: 512 }); // a step takes longer than a word from process to process
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
    const server = await box.serve("policy", ["--model", model], { env });
    const policy = box.client(PolicyService, server.address, { retry: false });
    const random = Rng.from(3, "steps");
    const cancelled = Math.max(10, scale.cancellations / 20);
    let received = 0;
    const { patience } = await withPatience(async () => {
      for (let i = 0; i < cancelled; i++) {
        const abort = new AbortController();
        const wanted = 2 + random.int(12);
        let tokens = 0;
        const prompts = [{ input: { case: "tokens" as const, value: { ids: [1, 2, 3, 4] } } }];
        const request = { prompts, options: { maxNewTokens: 200, ignoreEos: true } };
        const streamed = (async () => {
          for await (const _ of policy.generateStream({ request }, { signal: abort.signal })) {
            if (++tokens === wanted) abort.abort();
          }
        })();
        await assert.rejects(streamed, (error) => error instanceof RpcError && error.code === "CANCELLED");
        received += tokens;
      }
    });
    assert.equal(await server.stop(), 0); // sends the worker's last metrics
    const runs = decodeRuns(collector);
    const computed = runs.prefill + runs.decode; // each gives the only row a token
    const beyond = (computed - received) / cancelled;
    noteFigure({
      test: "cancellation: compute",
      load: `${cancelled} streams cancelled after 2 to 13 tokens`,
      measured: `${beyond.toFixed(2)} steps computed beyond the last token received, on average`,
    });
    assert.ok(runs.decode > 0, "no decode step was counted");
    // the step that runs when the word comes, and the one whose token was on its way to us
    assert.ok(
      beyond <= 2 * patience.factor,
      `${computed} steps for ${received} tokens of ${cancelled} streams`,
    );
  });
});

/** Runs of the model in a worker that has ended, by phase. */
function decodeRuns({ points }: FakeCollector): { prefill: number; decode: number } {
  const last = (phase: string) =>
    points.filter(
      ({ name, attributes }) => name === "rlhf.model.run.duration" && attributes["rlhf.phase"] === phase,
    );
  return { prefill: last("prefill").at(-1)?.count ?? 0, decode: last("decode").at(-1)?.count ?? 0 };
}
