/**
 * @file RewardService: checks a request, has its texts tokenized and scored, and turns logits into rewards. The model
 * is behind `RewardBackend`, so that nothing here computes for long.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  ScoreFunction as ProtoFunction,
  RewardService,
  type ScoreRequest,
  type ScoreResponseSchema,
  type TextScoreSchema,
} from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import type { ServerInfoSchema } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { type Batched, holding, type Reservation, type SubmitOptions } from "../../lib/rpc/admission.js";
import { KitError } from "../../lib/rpc/errors.js";
import { implement, type ServiceImplementation } from "../../lib/rpc/implement.js";
import { Validator } from "../../lib/rpc/validate.js";
import { countScored } from "../../lib/telemetry/index.js";
import { NonFiniteLogitsError } from "./errors.js";
import { acceptedLabels, defaultLabel, findLabel } from "./labels.js";
import type { ClassifierFacts, TextToScore, TokenizeCall, TokenizedText } from "./protocol.js";
import { defaultScoreFunction, labelScores, type ScoreFunction } from "./score-functions.js";

/** Most texts of one request, and most UTF-8 bytes of one text before it is tokenized. */
export const LIMITS = { maxItems: 256, maxTextBytes: 256 * 1024 } as const;

/** Until when work is wanted. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Epoch milliseconds. */
  deadline?: number;
}

/** The model behind the service. */
export interface RewardBackend {
  /** What the model is. Throws NOT_READY while it loads. */
  facts(): ClassifierFacts;
  /** Keeps places in the queue. Throws QUEUE_FULL where this many more rows would not be accepted, or would wait too long for the deadline. */
  reserve(rows: number, options: CallOptions): Reservation;
  tokenize(call: TokenizeCall, options: CallOptions): Promise<TokenizedText[]>;
  /** Logits of each row, computed together with rows of other calls. */
  logits(rows: readonly TokenizedText[], options: SubmitOptions): Promise<Batched<Float32Array>>;
}

/** What the server was started with. */
export interface RewardDefaults {
  /** Name of a label, or its index as digits; default: the last label. */
  label?: string;
  /** Default: the model's own rule. */
  function?: ScoreFunction;
  /** Name under which the model is served; default: the name of its directory. */
  name?: string;
}

/** Joins the service with a model. `server` gives the build and limits for GetInfo. */
export function rewardService(
  backend: RewardBackend,
  defaults: RewardDefaults,
  server: (facts: ClassifierFacts) => MessageInitShape<typeof ServerInfoSchema>,
): ServiceImplementation {
  return implement(RewardService, {
    score: (request, ctx) => countScored(request.texts.length, () => score(backend, defaults, request, ctx)),
    getInfo: () => {
      const facts = backend.facts();
      return {
        model: {
          name: defaults.name ?? facts.name,
          family: facts.family,
          weights: weightsRef(facts),
          parameterCount: BigInt(facts.parameterCount),
          maxTokens: facts.maxTokens,
          vocabSize: facts.vocabSize,
        },
        labels: facts.labels,
        defaultLabel: facts.labels[defaultLabelIndex(facts, defaults)],
        defaultFunction: TO_PROTO[defaults.function ?? defaultScoreFunction(facts)],
        server: server(facts),
      };
    },
  });
}

/** Index of the label used when a request names none. The flag was checked against the model when it was loaded. */
function defaultLabelIndex(facts: ClassifierFacts, { label }: RewardDefaults): number {
  return (label === undefined ? undefined : findLabel(facts.labels, label)) ?? defaultLabel(facts.labels);
}

async function score(
  backend: RewardBackend,
  defaults: RewardDefaults,
  request: ScoreRequest,
  call: CallOptions,
): Promise<MessageInitShape<typeof ScoreResponseSchema>> {
  const facts = backend.facts();
  const name = defaults.name ?? facts.name;
  if (request.model !== undefined && request.model !== name) {
    throw new KitError(
      "UNKNOWN_MODEL",
      `model: this server holds "${name}", not ${JSON.stringify(request.model)}`,
    );
  }
  const { label, scoreFunction } = checkRequest(request, facts, defaults);
  return holding(backend.reserve(request.texts.length, call), async (place) => {
    const started = performance.now();
    const texts = toTexts(request);
    const rows = await backend.tokenize({ texts, truncate: request.truncate ?? false }, call);
    const tokenizeMs = performance.now() - started;
    checkLengths(rows, facts.maxTokens);

    const { results, queueMs, runMs } = await backend.logits(rows, {
      signal: call.signal,
      deadline: call.deadline,
      place,
    });
    return {
      results: results.map((logits, i) => textScore(i, rows[i], logits, facts, label, scoreFunction)),
      model: name,
      weights: weightsRef(facts),
      function: TO_PROTO[scoreFunction],
      label: facts.labels[label],
      timing: { tokenizeMs, queueMs, modelMs: runMs },
    };
  });
}

/** Refuses what cannot be scored, with the path of every wrong field. */
function checkRequest(
  request: ScoreRequest,
  facts: ClassifierFacts,
  defaults: RewardDefaults,
): { label: number; scoreFunction: ScoreFunction } {
  const { texts, textPairs } = request;
  const check = new Validator();
  check.list("texts", texts).minItems(1).maxItems(LIMITS.maxItems);
  check.list("text_pairs", textPairs).emptyOrAsLongAs("texts", texts.length);
  if (texts.length <= LIMITS.maxItems) {
    for (const [i, text] of texts.entries()) check.text(`texts[${i}]`, text).maxBytes(LIMITS.maxTextBytes);
    for (const [i, text] of textPairs.slice(0, LIMITS.maxItems).entries()) {
      check.text(`text_pairs[${i}]`, text).maxBytes(LIMITS.maxTextBytes);
    }
  }
  let label: number | undefined = defaultLabelIndex(facts, defaults);
  if (request.label !== undefined) {
    label = findLabel(facts.labels, request.label);
    if (label === undefined) {
      check.reject("label", `is ${JSON.stringify(request.label)}; accepted: ${acceptedLabels(facts.labels)}`);
    }
  }
  check.check();
  const asked = FROM_PROTO[request.function];
  return { label: label ?? 0, scoreFunction: asked ?? defaults.function ?? defaultScoreFunction(facts) };
}

/** Refuses texts that are longer than the model, unless they were cut. */
function checkLengths(rows: readonly TokenizedText[], maxTokens: number): void {
  const check = new Validator();
  for (const [i, { ids, fullLength }] of rows.entries()) {
    if (ids.length <= maxTokens) continue;
    check.reject(
      `texts[${i}]`,
      `has ${fullLength} tokens; accepted: at most ${maxTokens}, or truncate = true`,
      {
        reason: "INPUT_TOO_LONG",
        facts: { max: String(maxTokens), actual: String(fullLength) },
      },
    );
  }
  check.check();
}

function toTexts({ texts, textPairs }: ScoreRequest): TextToScore[] {
  return texts.map((text, i) => (textPairs.length > 0 ? { text, pair: textPairs[i] } : { text }));
}

function textScore(
  index: number,
  row: TokenizedText,
  logits: Float32Array,
  { labels }: ClassifierFacts,
  label: number,
  scoreFunction: ScoreFunction,
): MessageInitShape<typeof TextScoreSchema> {
  if (!logits.every(Number.isFinite)) throw new NonFiniteLogitsError(index, logits);
  const scores = labelScores(logits, scoreFunction);
  return {
    reward: scores[label],
    scores: labels.map((name, i) => ({ label: name, score: scores[i], logit: logits[i] })),
    tokenCount: row.ids.length,
    truncated: row.fullLength > row.ids.length,
  };
}

function weightsRef({ weightVersion, digest }: ClassifierFacts) {
  return { version: BigInt(weightVersion), digest };
}

const TO_PROTO = {
  softmax: ProtoFunction.SOFTMAX,
  sigmoid: ProtoFunction.SIGMOID,
  none: ProtoFunction.NONE,
} as const;

const FROM_PROTO: Readonly<Record<ProtoFunction, ScoreFunction | undefined>> = {
  [ProtoFunction.UNSPECIFIED]: undefined,
  [ProtoFunction.SOFTMAX]: "softmax",
  [ProtoFunction.SIGMOID]: "sigmoid",
  [ProtoFunction.NONE]: "none",
};
