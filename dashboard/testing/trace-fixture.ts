/**
 * @file The trace of one batch over all processes of a run, written by the real telemetry: trace files with spans at given times.
 */
import { join } from "node:path";
import { type Context, ROOT_CONTEXT, type Span, trace } from "@opentelemetry/api";
import { type SpanName, startTelemetry } from "../../lib/telemetry/index.js";

/** A span: name, start and end in milliseconds of the batch, attributes, and why it failed. */
type Sketch = readonly [
  name: SpanName,
  from: number,
  to: number,
  attributes?: Record<string, string>,
  error?: string,
];

/** Writes the spans of batch `step` into the trace files of a run's servers and of the trainer. */
export async function writeTrace(runsDirectory: string, run: string, step: number): Promise<void> {
  const began = Date.UTC(2026, 10, 24, 10, 20, step);
  let root = ROOT_CONTEXT;
  const write = async (service: string, file: string, sketches: readonly Sketch[], isRoot = false) => {
    const telemetry = startTelemetry({
      service,
      instance: `${service}-host-1`,
      traceFile: file,
      otlpEndpoint: "",
      logLevel: "silent",
    });
    const start = ([name, from, , attributes]: Sketch, parent: Context): Span =>
      telemetry.tracer.startSpan(
        name,
        { startTime: began + from, ...(attributes ? { attributes } : {}) },
        parent,
      );
    const end = (span: Span, [, , to, , error]: Sketch) => {
      if (error) span.setStatus({ code: 2, message: error });
      span.end(began + to);
    };
    if (isRoot) {
      const sketch: Sketch = ["rlhf.batch", 0, 5400, { "rlhf.run": run }];
      const span = start(sketch, ROOT_CONTEXT).setAttribute("rlhf.batch.number", step);
      root = trace.setSpan(ROOT_CONTEXT, span);
      for (const each of sketches) end(start(each, root), each);
      end(span, sketch);
    } else for (const each of sketches) end(start(each, root), each);
    await telemetry.shutdown();
  };
  const traces = join(runsDirectory, run, "traces");
  await write(
    "trainer",
    join(traces, "trainer.jsonl"),
    [
      ["rlhf.generate", 5, 2100, { "rlhf.batch.size": "8" }],
      ["rlhf.generate.shard", 8, 1700, { "server.address": "127.0.0.1:50061" }],
      ["rlhf.generate.shard", 8, 2095, { "server.address": "127.0.0.1:50062" }],
      ["rlhf.score", 1702, 2000, { "rlhf.reward.term": "classifier" }],
      ["rlhf.score", 1702, 2300, { "rlhf.reward.term": "bertscore" }],
      ["rlhf.reference", 1703, 2150],
      ["rlhf.learn", 2400, 5000],
      ["rlhf.learn.epoch", 2410, 3700],
      ["rlhf.learn.epoch", 3700, 4990],
      ["rlhf.publish", 5000, 5390],
      ["rlhf.weights.wait", 5100, 5385],
    ],
    true,
  );
  await write("policy", join(traces, "policy-1.jsonl"), [
    ["rlhf.policy.v1.PolicyService/Generate", 12, 1695],
    ["text_completion gpt2", 15, 1690],
    ["rlhf.weights.apply", 5120, 5300, { "rlhf.weight_version": String(step) }],
  ]);
  await write("policy", join(traces, "policy-2.jsonl"), [
    ["rlhf.policy.v1.PolicyService/Generate", 12, 2090],
    ["text_completion gpt2", 15, 2080],
    ["rlhf.weights.apply", 5125, 5380, {}, "fetch timed out once"],
  ]);
  await write("policy", join(traces, "reference.jsonl"), [
    ["rlhf.policy.v1.PolicyService/LogProbs", 1710, 2140],
  ]);
  await write("reward", join(traces, "reward.jsonl"), [["rlhf.reward.v1.RewardService/Score", 1708, 1990]]);
  await write("bertscore", join(traces, "bertscore.jsonl"), [
    ["rlhf.bertscore.v1.BertScoreService/Score", 1708, 2290],
  ]);
}
