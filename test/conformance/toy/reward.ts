/** @file A toy reward server: labels, logits that are a hash of the text, and everything that the contract asks of a real one. */
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  GetInfoResponseSchema,
  RewardService,
  ScoreFunction,
  type ScoreRequest,
  ScoreResponseSchema,
} from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { type BaseToy, baseToy, DIGEST, serverInfo } from "./base.js";
import { hash } from "./hash.js";
import { Checks, Refusal } from "./refusal.js";
import type { Methods } from "./server.js";

const MODEL = "toy-classifier";
const MOST_TOKENS = 64;
const MS_PER_TEXT = 8;

/** A toy reward server and what a mutation may change of it. */
export interface RewardToy extends BaseToy {
  readonly methods: Methods<typeof RewardService.method>;
  readonly labels: string[];
  /** What is kept of the limits that are published. */
  readonly most: { items: number; textBytes: number };
  /** Logits of a text in its batch, one a label. */
  logits: (text: string, pair: string | undefined, batch: readonly string[]) => number[];
}

/** Makes one that keeps the contract. */
export function rewardToy(): RewardToy {
  const most = { items: 32, textBytes: 4096 };
  const methods: RewardToy["methods"] = {
    score: async (request, { signal }) => {
      check(toy, request);
      const { texts, textPairs } = request;
      await toy.queue.run(texts.length, MS_PER_TEXT * texts.length, signal);
      const fn = request.function || usual(toy);
      const label = labelIndex(toy, request.label) as number;
      return create(ScoreResponseSchema, {
        results: texts.map((text, i) => {
          const logits = toy.logits(text, textPairs[i], texts);
          const scores = apply(fn, logits);
          return {
            reward: scores[label],
            scores: toy.labels.map((name, j) => ({ label: name, score: scores[j], logit: logits[j] })),
            tokenCount: Math.min(tokens(text), MOST_TOKENS),
            truncated: tokens(text) > MOST_TOKENS,
          };
        }),
        model: MODEL,
        weights: { version: 0n, digest: DIGEST },
        function: fn,
        label: toy.labels[label],
      });
    },
    getInfo: async () =>
      create(GetInfoResponseSchema, {
        model: { name: MODEL, weights: { version: 0n, digest: DIGEST }, maxTokens: MOST_TOKENS },
        labels: toy.labels,
        defaultLabel: toy.labels.at(-1),
        defaultFunction: usual(toy),
        server: serverInfo(toy),
      }),
  };
  const limits = { max_items: 32, max_text_bytes: 4096, max_queue_items: 192 };
  const toy: RewardToy = Object.assign(baseToy(RewardService, methods, limits), {
    methods,
    labels: ["curt", "kind"],
    most,
    logits: (text: string, pair: string | undefined) =>
      toy.labels.map((label) => hash(`${label} ${text} ${pair ?? ""}`)),
  });
  toy.queue.capacity = 192;
  return toy;
}

function check(
  toy: RewardToy,
  { texts, textPairs, label, function: fn, model, truncate }: ScoreRequest,
): void {
  const checks = new Checks();
  checks.must(texts.length > 0, "texts", "is empty");
  checks.must(texts.length <= toy.most.items, "texts", `has more than ${toy.most.items} items`);
  checks.must(
    textPairs.length === 0 || textPairs.length === texts.length,
    "text_pairs",
    `has ${textPairs.length} items`,
  );
  for (const [i, text] of texts.entries()) {
    const bytes = Buffer.byteLength(text);
    checks.must(bytes <= toy.most.textBytes, `texts[${i}]`, `has ${bytes} bytes`);
    checks.must(truncate || tokens(text) <= MOST_TOKENS, `texts[${i}]`, `has ${tokens(text)} tokens`);
  }
  checks.must(labelIndex(toy, label) !== undefined, "label", `is ${label}`);
  checks.must(ScoreFunction[fn] !== undefined, "function", `is ${fn}`);
  checks.done(toy.counts);
  if (model !== undefined && model !== MODEL) {
    throw new Refusal(status.NOT_FOUND, `this is ${MODEL}`, "UNKNOWN_MODEL");
  }
}

/** The function of the model's own rule. */
function usual({ labels }: RewardToy): ScoreFunction {
  return labels.length === 1 ? ScoreFunction.SIGMOID : ScoreFunction.SOFTMAX;
}

function labelIndex({ labels }: RewardToy, wanted: string | undefined): number | undefined {
  if (wanted === undefined) return labels.length - 1;
  const byName = labels.indexOf(wanted);
  if (byName >= 0) return byName;
  return /^\d+$/.test(wanted) && Number(wanted) < labels.length ? Number(wanted) : undefined;
}

function apply(fn: ScoreFunction, logits: readonly number[]): number[] {
  if (fn === ScoreFunction.NONE) return [...logits];
  if (fn === ScoreFunction.SIGMOID) return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const powers = logits.map(Math.exp);
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Words and two special tokens. */
function tokens(text: string): number {
  return text.split(/\s+/).filter(Boolean).length + 2;
}
