import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BertScoreService } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { ElementType } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { implement, type RunningServer, startServer } from "../../../lib/rpc/index.js";
import { silentLog } from "../../../lib/telemetry/index.js";
import { Evaluator } from "../evaluate/evaluator.js";
import { TestMesh } from "../testing/mesh.js";
import { toEvaluation } from "../wire.js";

describe("the report of a real run", function () {
  this.timeout(120_000);
  let mesh: TestMesh;
  let judge: RunningServer;
  const { signal } = new AbortController();

  before(async () => {
    mesh = await TestMesh.start();
    await mesh.run("one", { batches: 2 });
    const token = (text: string, id: number) => ({ text, id, weight: 1 });
    judge = await startServer({
      name: "bertscore",
      listen: "127.0.0.1:0",
      log: silentLog(),
      services: [
        implement(BertScoreService, {
          score: ({ pairs }) => ({
            results: pairs.map(({ candidate }) => ({
              score: { precision: 0.5, recall: 0.5, f1: candidate.length / 1000 },
            })),
          }),
          explain: () => ({
            candidateTokens: [token("<s>", 0), token("<script>", 1)],
            referenceTokens: [token("<s>", 0), token("so", 2), token("it", 3)],
            similarity: {
              elementType: ElementType.FLOAT32,
              shape: [2n, 3n],
              data: new Uint8Array(Float32Array.of(1, 0.1, 0.2, 0.3, 0.75, 0.4).buffer),
            },
            score: { precision: 0.8, recall: 0.7, f1: 0.7467 },
          }),
          getInfo: () => ({
            model: { name: "tiny-bert", weights: { version: 0n, digest: "feedc0de".repeat(8) } },
            hash: "tiny-bert_L2_no-idf",
          }),
        }),
      ],
    });
  });
  after(async () => {
    await judge?.drain();
    await mesh?.close();
  });

  /** The run's own run file with this BERTScore server. */
  function judgedBy(addresses: readonly string[]): string {
    const { config } = mesh.manager.get("one");
    return config.replace(
      /( +)bertscore:\n +addresses:(\n +- .*)*/,
      `$1bertscore:\n$1  addresses: ${JSON.stringify(addresses)}`,
    );
  }

  it("is written beside the comparison and named in the reply, with digests of all who took part", async () => {
    const config = judgedBy([judge.address]);
    const evaluation = await new Evaluator(mesh.manager).evaluate("one", {
      rows: 4,
      seed: 5,
      config,
      signal,
    });
    const { record, directory } = mesh.manager.get("one");
    assert.equal(evaluation.paths.report, join(directory, "evaluation", "report.html"));
    const reply = toEvaluation(evaluation.variants, evaluation.rows, evaluation.paths);
    assert.equal(reply.reportPath, evaluation.paths.report);
    const page = readFileSync(evaluation.paths.report, "utf8");
    for (const part of [
      record.weights?.digest ?? "no digest",
      "tiny-bert_L2_no-idf",
      "feedc0de".repeat(8),
      "&lt;script&gt; · so: 0.750",
      "rlhf eval one --rows 4 --seed 5",
      "rows.csv",
      "model.safetensors",
      "what is number",
      "paired bootstrap",
    ]) {
      assert.ok(page.includes(part), part);
    }
    assert.equal(page.match(/<rect class="cell/g)?.length, 6);
    assert.ok((page.match(/<polyline/g)?.length ?? 0) >= 4, "curves of two steps");
    assert.ok(!page.includes("<script"));
  });

  it("says why there is no heat map where BERTScore gives none, and is written all the same", async () => {
    const evaluator = new Evaluator(mesh.manager);
    const refused = await evaluator.evaluate("one", { rows: 2, signal });
    assert.match(readFileSync(refused.paths.report, "utf8"), /BERTScore could not explain the pair: /);
    const without = await evaluator.evaluate("one", { rows: 2, config: judgedBy([]), signal });
    assert.match(readFileSync(without.paths.report, "utf8"), /The run has no BERTScore server/);
  });
});
