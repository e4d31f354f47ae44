/**
 * @file From wire requests to worker calls, with every field checked first. Throws InvalidFieldError that names each wrong
 * field by its path. What needs the tokenizer (how long a text is) is checked in the worker. Pure but for random seeds.
 */
import { randomBytes } from "node:crypto";
import type {
  GenerateRequest,
  GenerationOptions,
  LogProbsRequest,
  Prompt,
} from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { Validator } from "../../lib/rpc/validate.js";
import type { RequestLimits } from "./limits.js";
import type { VersionDemand } from "./model/weight-store.js";
import type { GenerateCall, LogProbsCall, PolicyFacts, PromptCall } from "./protocol.js";
import {
  type RequestedOptions,
  resolveDoSample,
  resolveMaxNewTokens,
  resolveReturnSequences,
} from "./sampling/options.js";

/** Checks a Generate. `path` leads every field: "" or "request.". A request without a seed gets a random one. */
export function toGenerateCall(
  request: GenerateRequest,
  facts: PolicyFacts,
  limits: RequestLimits,
  { path = "", stream = false }: { path?: string; stream?: boolean } = {},
): GenerateCall {
  const check = new Validator();
  const options = requestedOptions(request.options);
  checkOptions(check, `${path}options`, options, facts, limits);
  check.list(`${path}prompts`, request.prompts).minItems(1).maxItems(limits.maxPrompts);
  const prompts = request.prompts
    .slice(0, limits.maxPrompts)
    .map((prompt, i) => toPrompt(check, `${path}prompts[${i}]`, prompt, facts, limits));
  const sequences = prompts.length * resolveReturnSequences(options, facts.defaults);
  check.require(
    sequences <= limits.maxSequences,
    `${path}options.num_return_sequences`,
    `makes ${sequences} sequences of ${prompts.length} prompts; accepted: at most ${limits.maxSequences} together`,
  );
  const demand = toDemand(check, path, request);
  check.check();
  return { prompts, options, seed: request.seed ?? randomSeed(), demand, stream };
}

/** Checks a LogProbs. */
export function toLogProbsCall(
  request: LogProbsRequest,
  { vocabSize, maxTokens }: PolicyFacts,
  limits: RequestLimits,
): LogProbsCall {
  const check = new Validator();
  check.list("sequences", request.sequences).minItems(1).maxItems(limits.maxPrompts);
  let places = 0;
  const sequences = request.sequences.slice(0, limits.maxPrompts).map(({ tokens, start = 1 }, i) => {
    const ids = tokens?.ids ?? [];
    const field = `sequences[${i}]`;
    check.list(`${field}.tokens.ids`, ids).minItems(2);
    checkLength(check, `${field}.tokens.ids`, ids.length, maxTokens);
    checkIds(check, `${field}.tokens.ids`, ids, vocabSize);
    check
      .number(`${field}.start`, start)
      .atLeast(1)
      .atMost(Math.max(1, ids.length - 1));
    places += Math.max(0, ids.length - start);
    return { ids, start };
  });
  const bytes = places * vocabSize * Float32Array.BYTES_PER_ELEMENT;
  const distribution = request.fullDistribution ?? false;
  check.require(
    !distribution || bytes <= limits.maxDistributionBytes,
    "full_distribution",
    `would be ${bytes} bytes; accepted: at most ${limits.maxDistributionBytes} in one reply`,
  );
  const demand = toDemand(check, "", request);
  check.check();
  return { sequences, entropy: request.entropy ?? false, distribution, demand };
}

/** The options as they were said, without what the wire adds. */
export function requestedOptions(options: GenerationOptions | undefined): RequestedOptions {
  if (!options) return {};
  const { $typeName: _, $unknown: __, ...said } = options;
  return said;
}

function checkOptions(
  check: Validator,
  path: string,
  options: RequestedOptions,
  { vocabSize, maxTokens, defaults }: PolicyFacts,
  limits: RequestLimits,
): void {
  const number = (name: string, value: number | undefined) => check.number(`${path}.${name}`, value);
  number("max_new_tokens", options.maxNewTokens).atLeast(1).atMost(maxTokens);
  number("min_new_tokens", options.minNewTokens).atLeast(0);
  const most = resolveMaxNewTokens(options, defaults, 0, maxTokens);
  check.require(
    (options.minNewTokens ?? 0) <= most,
    `${path}.min_new_tokens`,
    `is ${options.minNewTokens}; accepted: at most max_new_tokens, which is ${most}`,
  );
  number("temperature", options.temperature).above(0);
  number("top_k", options.topK).atLeast(0);
  number("top_p", options.topP).above(0).atMost(1);
  number("min_p", options.minP).atLeast(0).atMost(1);
  number("typical_p", options.typicalP).above(0).atMost(1);
  number("repetition_penalty", options.repetitionPenalty).above(0);
  number("no_repeat_ngram_size", options.noRepeatNgramSize).atLeast(0);
  number("num_return_sequences", options.numReturnSequences).atLeast(1);
  const count = options.numReturnSequences ?? 1;
  check.require(
    count === 1 || resolveDoSample(options, defaults),
    `${path}.num_return_sequences`,
    `is ${count}; accepted: 1 unless do_sample is true, because every sequence would be the same`,
  );
  check.list(`${path}.eos_token_ids`, options.eosTokenIds).maxItems(limits.maxListedIds);
  checkIds(check, `${path}.eos_token_ids`, options.eosTokenIds ?? [], vocabSize);
  check.require(
    !(options.ignoreEos && options.eosTokenIds?.length),
    `${path}.eos_token_ids`,
    "names ids; accepted: none where ignore_eos is true",
  );
  check.list(`${path}.suppress_token_ids`, options.suppressTokenIds).maxItems(limits.maxListedIds);
  checkIds(check, `${path}.suppress_token_ids`, options.suppressTokenIds ?? [], vocabSize);
  check.list(`${path}.stop_strings`, options.stopStrings).maxItems(limits.maxStopStrings);
  for (const [i, text] of (options.stopStrings ?? []).slice(0, limits.maxStopStrings).entries()) {
    check.text(`${path}.stop_strings[${i}]`, text).notEmpty().maxBytes(limits.maxStopStringBytes);
  }
}

function toPrompt(
  check: Validator,
  field: string,
  { input, seed }: Prompt,
  { vocabSize, maxTokens }: PolicyFacts,
  limits: RequestLimits,
): PromptCall {
  const own = seed === undefined ? {} : { seed };
  switch (input.case) {
    case "text":
      check.text(`${field}.text`, input.value).notEmpty().maxBytes(limits.maxTextBytes);
      return { text: input.value, ...own };
    case "tokens": {
      const { ids } = input.value;
      check.list(`${field}.tokens.ids`, ids).minItems(1);
      checkLength(check, `${field}.tokens.ids`, ids.length, maxTokens);
      checkIds(check, `${field}.tokens.ids`, ids, vocabSize);
      return { ids, ...own };
    }
    default:
      check.reject(field, "has no input; accepted: text or tokens");
      return {};
  }
}

function checkLength(check: Validator, field: string, length: number, maxTokens: number): void {
  check.require(length <= maxTokens, field, `has ${length} tokens; accepted: at most ${maxTokens}`, {
    reason: "INPUT_TOO_LONG",
    facts: { max: String(maxTokens), actual: String(length) },
  });
}

/** Names the first id that the vocabulary does not have. */
function checkIds(check: Validator, field: string, ids: readonly number[], vocabSize: number): void {
  const at = ids.findIndex((id) => id >= vocabSize);
  if (at >= 0) check.reject(`${field}[${at}]`, `is ${ids[at]}; accepted: 0 to ${vocabSize - 1}`);
}

function toDemand(
  check: Validator,
  path: string,
  request: { minWeightVersion?: bigint; weightVersion?: bigint },
): VersionDemand {
  const { minWeightVersion, weightVersion } = request;
  check.number(`${path}min_weight_version`, minWeightVersion).atLeast(0).atMost(Number.MAX_SAFE_INTEGER);
  check.number(`${path}weight_version`, weightVersion).atLeast(0).atMost(Number.MAX_SAFE_INTEGER);
  check.require(
    minWeightVersion === undefined || weightVersion === undefined || weightVersion >= minWeightVersion,
    `${path}weight_version`,
    `is ${weightVersion}; accepted: at least min_weight_version, which is ${minWeightVersion}`,
  );
  return {
    ...(minWeightVersion !== undefined && { minVersion: Number(minWeightVersion) }),
    ...(weightVersion !== undefined && { version: Number(weightVersion) }),
  };
}

/** A seed of 48 random bits, which every language's integers and JSON can carry. */
function randomSeed(): bigint {
  return BigInt(`0x${randomBytes(6).toString("hex")}`);
}
