/**
 * @file Every metric and span of the project, with unit and description, in one place. An instrument that is not listed
 * here cannot be created, and an attribute that its entry does not list is dropped before aggregation, so that
 * nothing unbounded (a weight version, a request id) becomes a time series. Units are UCUM.
 */
import {
  ATTR_ERROR_TYPE,
  ATTR_RPC_METHOD,
  ATTR_RPC_STATUS_CODE,
  ATTR_RPC_SYSTEM_NAME,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
  METRIC_RPC_CLIENT_CALL_DURATION,
  METRIC_RPC_SERVER_CALL_DURATION,
} from "@opentelemetry/semantic-conventions";
import { GEN_AI_METRICS } from "./gen-ai.js";

/** What an instrument does with the numbers it gets. */
export type InstrumentKind = "counter" | "upDownCounter" | "histogram" | "gauge";

/** One metric of the catalogue. */
export interface MetricEntry {
  readonly kind: InstrumentKind;
  /** UCUM: `s`, `By`, `1`, or what is counted in braces, `{token}`. */
  readonly unit: string;
  readonly description: string;
  /** The only attributes that reach a time series. */
  readonly attributes: readonly string[];
  /** Bucket bounds of a histogram, in its unit. */
  readonly bounds?: readonly number[];
}

const RPC_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const LONG_BOUNDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const COUNT_BOUNDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const TOKEN_BOUNDS = [16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536];

/** Metrics by name. */
export const METRICS = {
  // calls; stable RPC conventions
  [METRIC_RPC_SERVER_CALL_DURATION]: {
    kind: "histogram",
    unit: "s",
    description: "Time a server took for one call.",
    attributes: [ATTR_RPC_SYSTEM_NAME, ATTR_RPC_METHOD, ATTR_RPC_STATUS_CODE, ATTR_ERROR_TYPE],
    bounds: RPC_BOUNDS,
  },
  [METRIC_RPC_CLIENT_CALL_DURATION]: {
    kind: "histogram",
    unit: "s",
    description: "Time a client waited for one call, retries included.",
    attributes: [
      ATTR_RPC_SYSTEM_NAME,
      ATTR_RPC_METHOD,
      ATTR_RPC_STATUS_CODE,
      ATTR_ERROR_TYPE,
      ATTR_SERVER_ADDRESS,
      ATTR_SERVER_PORT,
    ],
    bounds: RPC_BOUNDS,
  },
  "rlhf.rpc.client.retries": {
    kind: "counter",
    unit: "{retry}",
    description: "Calls that a client made again or hedged.",
    attributes: [ATTR_RPC_METHOD, "rlhf.retry.reason"],
  },

  // generation; development conventions, isolated in gen-ai.ts
  ...GEN_AI_METRICS,
  "rlhf.generate.tokens": {
    kind: "counter",
    unit: "{token}",
    description: "Tokens sampled by a policy server.",
    attributes: [],
  },
  "rlhf.generate.sequences": {
    kind: "counter",
    unit: "{sequence}",
    description: "Sequences finished by a policy server, by finish reason.",
    attributes: ["rlhf.finish_reason"],
  },
  "rlhf.generate.active": {
    kind: "gauge",
    unit: "{sequence}",
    description: "Sequences that hold a row of the KV cache now.",
    attributes: [],
  },

  // admission and batching
  "rlhf.queue.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time from admission of an item to the start of the batch that ran it.",
    attributes: ["rlhf.queue"],
    bounds: RPC_BOUNDS,
  },
  "rlhf.queue.items": {
    kind: "gauge",
    unit: "{item}",
    description: "Items that wait in the admission queue.",
    attributes: ["rlhf.queue"],
  },
  "rlhf.queue.tokens": {
    kind: "gauge",
    unit: "{token}",
    description: "Tokens that wait in the admission queue.",
    attributes: ["rlhf.queue"],
  },
  "rlhf.queue.refused": {
    kind: "counter",
    unit: "{item}",
    description: "Items not run: queue full, deadline passed, cancelled or draining.",
    attributes: ["rlhf.queue", "rlhf.refusal"],
  },
  "rlhf.batch.size": {
    kind: "histogram",
    unit: "{item}",
    description: "Items that one model run handled together.",
    attributes: ["rlhf.queue"],
    bounds: COUNT_BOUNDS,
  },
  "rlhf.batch.tokens": {
    kind: "histogram",
    unit: "{token}",
    description: "Tokens that one model run computed, padding included.",
    attributes: ["rlhf.queue"],
    bounds: TOKEN_BOUNDS,
  },
  "rlhf.requests.active": {
    kind: "upDownCounter",
    unit: "{request}",
    description: "Calls in progress on a server.",
    attributes: [ATTR_RPC_METHOD],
  },

  // models and engine
  "rlhf.model.run.duration": {
    kind: "histogram",
    unit: "s",
    description:
      "Time of one model run, by phase (prefill, decode, score, logprobs, embed, learn, optimize).",
    attributes: ["rlhf.phase"],
    bounds: RPC_BOUNDS,
  },
  "rlhf.model.worker.restarts": {
    kind: "counter",
    unit: "{restart}",
    description: "Times a model worker ended unasked and was started again.",
    attributes: [],
  },
  "rlhf.model.ready": {
    kind: "gauge",
    unit: "1",
    description: "1 while the model of this server answers, else 0.",
    attributes: [],
  },
  "rlhf.score.items": {
    kind: "counter",
    unit: "{item}",
    description: "Texts or pairs that a scorer was asked for, by outcome: scored, failed.",
    attributes: ["rlhf.outcome"],
  },
  "rlhf.score.truncated": {
    kind: "counter",
    unit: "{item}",
    description: "Texts or pairs of which something was cut to the model's length before scoring.",
    attributes: [],
  },
  "rlhf.engine.tensors": {
    kind: "gauge",
    unit: "{tensor}",
    description: "Tensors alive in the engine.",
    attributes: [],
  },
  "rlhf.engine.memory": {
    kind: "gauge",
    unit: "By",
    description: "Bytes of tensors alive in the engine.",
    attributes: [],
  },

  // weights on the bus
  "rlhf.weights.version": {
    kind: "gauge",
    unit: "{version}",
    description: "Weight version: of the head of the bus, or the one this server serves.",
    attributes: ["rlhf.run", "rlhf.weights.role"],
  },
  "rlhf.weights.lag": {
    kind: "gauge",
    unit: "{version}",
    description: "Versions between the head of the bus and what this server serves.",
    attributes: ["rlhf.run"],
  },
  "rlhf.weights.publish.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time to write one version to the bus and move the head.",
    attributes: ["rlhf.weights.bus", ATTR_ERROR_TYPE],
    bounds: LONG_BOUNDS,
  },
  "rlhf.weights.fetch.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time to read one version from the bus and verify it.",
    attributes: ["rlhf.weights.bus", ATTR_ERROR_TYPE],
    bounds: LONG_BOUNDS,
  },
  "rlhf.weights.apply.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time from seeing a new head to serving it, or to failing.",
    attributes: ["rlhf.outcome"],
    bounds: LONG_BOUNDS,
  },
  "rlhf.weights.io": {
    kind: "counter",
    unit: "By",
    description: "Bytes of weights sent to or read from the bus.",
    attributes: ["rlhf.weights.bus", "rlhf.direction"],
  },
  "rlhf.weights.failures": {
    kind: "counter",
    unit: "{failure}",
    description: "Versions that a server could not apply; the old one kept serving.",
    attributes: [ATTR_ERROR_TYPE],
  },
  "rlhf.weights.superseded": {
    kind: "counter",
    unit: "{version}",
    description: "Versions that a server skipped because a newer one came first.",
    attributes: [],
  },
  "rlhf.weights.reconnects": {
    kind: "counter",
    unit: "{reconnect}",
    description: "Times the connection to the bus was lost and made again.",
    attributes: ["rlhf.weights.bus"],
  },
  "rlhf.weights.pause.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time that a swap of weights held up running generation.",
    attributes: [],
    bounds: RPC_BOUNDS,
  },

  // the trainer's loop
  "rlhf.batch.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time of one training batch, from prompts to published weights.",
    attributes: [],
    bounds: LONG_BOUNDS,
  },
  "rlhf.phase.duration": {
    kind: "histogram",
    unit: "s",
    description:
      "Time of one phase of a batch (generate, score, reference, logprobs, learn, publish, checkpoint).",
    attributes: ["rlhf.phase"],
    bounds: LONG_BOUNDS,
  },
  "rlhf.samples": {
    kind: "counter",
    unit: "{sample}",
    description: "Samples of the run by outcome: scored, or failed and so left out of their batch.",
    attributes: ["rlhf.outcome"],
  },
  "rlhf.staleness": {
    kind: "histogram",
    unit: "{version}",
    description: "Learner version minus the version that wrote a sample.",
    attributes: [],
    bounds: [0, 1, 2, 3, 4, 8],
  },
  "rlhf.reward": {
    kind: "gauge",
    unit: "1",
    description:
      "Mean reward of the last batch: of a term, or of all composed (term `all`); of samples with the first control token (`good`), the second (`bad`), or of all.",
    attributes: ["rlhf.control_token", "rlhf.reward.term"],
  },
  "rlhf.reward.term.failures": {
    kind: "counter",
    unit: "{sample}",
    description: "Samples that a reward term could not score.",
    attributes: ["rlhf.reward.term", ATTR_ERROR_TYPE],
  },
  "rlhf.reward.term.circuit": {
    kind: "gauge",
    unit: "1",
    description:
      "Circuit of a reward term: 0 closed (calls pass), 1 open (calls are not tried), 0.5 half open.",
    attributes: ["rlhf.reward.term"],
  },
  "rlhf.ppo.stat": {
    kind: "gauge",
    unit: "1",
    description:
      "A statistic of the last PPO step under its name in metrics.jsonl, e.g. ppo/policy/approxkl.",
    attributes: ["rlhf.ppo.stat.name"],
  },
  "rlhf.run.step": {
    kind: "gauge",
    unit: "{batch}",
    description: "Batches that the run has learned from.",
    attributes: ["rlhf.run"],
  },
  "rlhf.run.stalls": {
    kind: "counter",
    unit: "{stall}",
    description: "Waits that went past their bound, by what was waited for.",
    attributes: ["rlhf.wait"],
  },
  "rlhf.run.alarms": {
    kind: "counter",
    unit: "{alarm}",
    description: "Alarms about the health of learning, by name.",
    attributes: ["rlhf.alarm"],
  },
  "rlhf.checkpoint.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time to write one checkpoint to disk, synced.",
    attributes: [],
    bounds: LONG_BOUNDS,
  },
  "rlhf.checkpoint.size": {
    kind: "gauge",
    unit: "By",
    description: "Bytes of the last checkpoint.",
    attributes: [],
  },

  // the process
  "rlhf.process.memory": {
    kind: "gauge",
    unit: "By",
    description: "Memory of the process: rss, heap, external.",
    attributes: ["rlhf.memory.kind"],
  },
  "rlhf.process.event_loop.delay": {
    kind: "gauge",
    unit: "s",
    description: "Delay of the event loop since the last collection: p50, p99, max.",
    attributes: ["rlhf.statistic"],
  },
} as const satisfies Record<string, MetricEntry>;

/** Name of a metric in the catalogue. */
export type MetricName = keyof typeof METRICS;

/** Names of the catalogue's metrics of one kind. */
export type MetricNameOf<K extends InstrumentKind> = {
  [N in MetricName]: (typeof METRICS)[N]["kind"] extends K ? N : never;
}[MetricName];

/** Spans by name; a name in braces is a pattern. */
export const SPANS = {
  "{package}.{Service}/{Method}": "One gRPC call, client or server side; stable RPC conventions.",
  "text_completion {model}": "One generation request inside a policy server.",
  "rlhf.batch": "One batch of a run, from prompts to published weights; root of its trace.",
  "rlhf.generate": "Generation of the batch, all shards.",
  "rlhf.generate.shard": "Generation of one shard on one policy server.",
  "rlhf.score": "Scoring of a shard by one reward term.",
  "rlhf.reference": "Log probabilities of the reference policy for a shard.",
  "rlhf.experience": "Old log probabilities and values of a shard, by the learner.",
  "rlhf.learn": "All epochs of learning from a batch.",
  "rlhf.learn.epoch": "One pass over the batch.",
  "rlhf.publish": "Publishing the learned weights and waiting for servers.",
  "rlhf.checkpoint": "Writing one checkpoint.",
  "rlhf.evaluate": "Generating and scoring the evaluation rows.",
  "rlhf.train.step": "One step of supervised training (sft, train-reward or train-encoder).",
  "rlhf.model.run": "One run of a model over one dynamic batch; linked to every request in it.",
  "rlhf.model.load": "Loading a model and its tokenizer.",
  "rlhf.weights.publish": "Writing one version of the weights to the bus and moving the head.",
  "rlhf.weights.wait": "Waiting until enough servers report a version.",
  "rlhf.weights.apply":
    "A server taking up a new version: fetch, verify, swap; child of the publisher's span.",
  "rlhf.weights.fetch": "Reading one version from the bus and verifying it.",
  "rlhf.weights.prune": "Deleting versions that nobody needs.",
} as const;

/** A name that a span may have: one of the catalogue, an RPC (`package.Service/Method`) or a text completion. */
export type SpanName =
  | Exclude<keyof typeof SPANS, `${string}{${string}`>
  | `${string}.${string}/${string}`
  | "_OTHER"
  | "text_completion"
  | `text_completion ${string}`;

/** True when a span name is in the catalogue or fits one of its patterns. */
export function isSpanName(name: string): name is SpanName {
  return (
    (Object.hasOwn(SPANS, name) && !name.includes("{")) ||
    name === "_OTHER" ||
    /^text_completion( .+)?$/.test(name) ||
    /^[\w.]+\.\w+\/\w+$/.test(name)
  );
}
