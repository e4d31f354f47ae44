/**
 * What a policy server says about its work: one trace across front process, worker and bus.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { createClient } from "../../lib/rpc/client.js";
import { startService } from "../../lib/rpc/testing/service-process.js";
import { readTraceFile } from "../../lib/telemetry/index.js";
import { openWeightsBus } from "../../lib/weights/index.js";
import { GOLDEN, versionedWeights } from "./testing.js";

const MAIN = new URL("./main.js", import.meta.url);
const TRACE = "0af7651916cd43dd8448eb211c80319c";

describe("the trace of a policy server", function () {
  this.timeout(60_000);

  it("joins the caller's trace, and the publisher's when it takes up weights", async () => {
    const folder = await mkdtemp(join(tmpdir(), "rlhf-trace-"));
    const traceFile = join(folder, "spans.jsonl");
    const url = `file:${join(folder, "bus")}`;
    const bus = await openWeightsBus(url, { run: "r", model: "policy" });
    const server = await startService(MAIN, [
      ...["--model", GOLDEN, "--threads", "1", "--log-level", "error"],
      ...["--trace-file", traceFile, "--weights", url, "--run", "r"],
    ]);
    const client = createClient(PolicyService, server.address, { deadlineMs: 20_000, retry: false });
    const metadata = { traceparent: `00-${TRACE}-b7ad6b7169203331-01` };
    const prompts = [{ input: { case: "text" as const, value: "question: why?" } }];
    await client.generate({ prompts, options: { maxNewTokens: 3 }, seed: 1n }, { metadata });
    await client.logProbs({ sequences: [{ tokens: { ids: [1, 2, 3] } }] }, { metadata });
    const publisher = "1af7651916cd43dd8448eb211c80319d";
    await bus.publish(await versionedWeights(1), {
      version: 1,
      traceparent: `00-${publisher}-c7ad6b7169203331-01`,
    });
    await bus.waitForServing(1, 1, { deadlineMs: 10_000 });
    client.close();
    assert.equal(await server.stop(), 0);
    await bus.close();

    const spans = await readTraceFile(traceFile);
    const named = (name: string) => {
      const found = spans.find((span) => span.name === name);
      assert.ok(found, `${name} is not among ${spans.map((span) => span.name).join(", ")}`);
      return found;
    };
    const call = named("rlhf.policy.v1.PolicyService/Generate");
    const completion = named("text_completion gpt2-tiny");
    assert.deepEqual([call.traceId, completion.traceId], [TRACE, TRACE]);
    assert.equal(completion.parentSpanId, call.spanId);
    assert.equal(completion.attributes["gen_ai.usage.output_tokens"], 3);
    assert.ok(!(await readFile(traceFile, "utf8")).includes("why?")); // no text in telemetry
    const scoring = named("rlhf.model.run");
    assert.equal(scoring.traceId, TRACE);
    assert.equal(scoring.parentSpanId, named("rlhf.policy.v1.PolicyService/LogProbs").spanId);
    const apply = named("rlhf.weights.apply");
    assert.equal(apply.traceId, publisher);
    assert.equal(named("rlhf.weights.fetch").parentSpanId, apply.spanId);
    await rm(folder, { recursive: true });
  });
});
