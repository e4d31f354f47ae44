/**
 * @file Reads a model's generation_config.json, and the generation ids of its config.json, into defaults for requests.
 * In: parsed JSON. Out: defaults, and warnings about settings that this server does not have (beams and the like). A
 * value of the wrong kind is an error that names the key. Pure.
 */
import type { GenerationDefaults } from "./options.js";

/** A value in generation_config.json that cannot be used. */
export class GenerationConfigError extends Error {
  readonly code = "CHECKPOINT_CORRUPT";
  constructor(key: string, expected: string, found: unknown) {
    super(`generation_config.json: ${key}: expected ${expected}, found ${JSON.stringify(found)}`);
    this.name = "GenerationConfigError";
  }
}

type Json = Readonly<Record<string, unknown>>;

/** Keys that would change the output but that this server does not implement, with the value that is neutral. */
const UNSUPPORTED: Readonly<Record<string, unknown>> = {
  num_beams: 1,
  num_beam_groups: 1,
  penalty_alpha: undefined,
  diversity_penalty: 0,
  constraints: undefined,
  force_words_ids: undefined,
  guidance_scale: 1,
  sequence_bias: undefined,
  watermarking_config: undefined,
  encoder_repetition_penalty: 1,
  encoder_no_repeat_ngram_size: 0,
  forced_decoder_ids: undefined,
  max_time: undefined,
};

function number(json: Json, key: string, ok: (n: number) => boolean, expected: string): number | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number" || !ok(value)) throw new GenerationConfigError(key, expected, value);
  return value;
}

function flag(json: Json, key: string): boolean | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "boolean") throw new GenerationConfigError(key, "true or false", value);
  return value;
}

const isCount = (n: number) => Number.isSafeInteger(n) && n >= 0;
const isPositive = (n: number) => Number.isFinite(n) && n > 0;
const isShare = (n: number) => Number.isFinite(n) && n >= 0 && n <= 1;

/** An id or a list of ids; null, and ids below 0, mean none. */
function idList(json: Json, key: string): number[] | undefined {
  const value = json[key];
  if (value === undefined) return undefined;
  if (value === null) return [];
  const list = Array.isArray(value) ? value : [value];
  if (!list.every((id) => Number.isSafeInteger(id)))
    throw new GenerationConfigError(key, "an id or a list of ids", value);
  return (list as number[]).filter((id) => id >= 0);
}

function idLists(json: Json, key: string): number[][] | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  const ok = (ids: unknown) =>
    Array.isArray(ids) && ids.length > 0 && ids.every((id) => isCount(id as number));
  if (!Array.isArray(value) || !value.every(ok))
    throw new GenerationConfigError(key, "a list of lists of ids", value);
  return value as number[][];
}

function strings(json: Json, key: string): string[] | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  const list = Array.isArray(value) ? value : [value];
  if (!list.every((s) => typeof s === "string" && s !== "")) {
    throw new GenerationConfigError(key, "a text or a list of texts", value);
  }
  return list as string[];
}

function decay(json: Json): { start: number; factor: number } | undefined {
  const key = "exponential_decay_length_penalty";
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.length !== 2 || !value.every((n) => typeof n === "number")) {
    throw new GenerationConfigError(key, "[start, factor]", value);
  }
  return { start: value[0], factor: value[1] };
}

/** What `parseGenerationDefaults` found. */
export interface ParsedGenerationDefaults {
  readonly defaults: GenerationDefaults;
  /** One sentence for each setting that has no effect here. */
  readonly warnings: readonly string[];
}

/**
 * Defaults of a model. `generationConfig` is its generation_config.json, if it has one; `config` its config.json, which
 * names the eos, pad and bos ids where the former does not. Throws GenerationConfigError.
 */
export function parseGenerationDefaults(
  generationConfig: Json | undefined,
  config: { eosTokenId?: number | readonly number[]; padTokenId?: number; bosTokenId?: number },
): ParsedGenerationDefaults {
  const json: Json = generationConfig ?? {};
  const warnings = Object.entries(UNSUPPORTED)
    .filter(([key, neutral]) => json[key] !== undefined && json[key] !== null && json[key] !== neutral)
    .map(
      ([key]) => `generation_config.json: ${key}: ${JSON.stringify(json[key])} has no effect in this server`,
    );
  const configEos = [config.eosTokenId ?? []].flat().filter((id) => id >= 0);
  const forcedEos = idList(json, "forced_eos_token_id");
  const defaults: GenerationDefaults = {
    maxNewTokens: number(json, "max_new_tokens", (n) => isCount(n) && n > 0, "a whole number from 1"),
    maxLength: number(json, "max_length", (n) => isCount(n) && n > 0, "a whole number from 1"),
    minNewTokens: number(json, "min_new_tokens", isCount, "a whole number from 0"),
    minLength: number(json, "min_length", isCount, "a whole number from 0"),
    doSample: flag(json, "do_sample"),
    temperature: number(json, "temperature", isPositive, "a number above 0"),
    topK: number(json, "top_k", isCount, "a whole number from 0"),
    topP: number(json, "top_p", isShare, "a number from 0 to 1"),
    topH: number(json, "top_h", isShare, "a number from 0 to 1"),
    minP: number(json, "min_p", isShare, "a number from 0 to 1"),
    typicalP: number(json, "typical_p", isShare, "a number from 0 to 1"),
    epsilonCutoff: number(json, "epsilon_cutoff", isShare, "a number from 0 to 1"),
    etaCutoff: number(json, "eta_cutoff", isShare, "a number from 0 to 1"),
    repetitionPenalty: number(json, "repetition_penalty", isPositive, "a number above 0"),
    noRepeatNgramSize: number(json, "no_repeat_ngram_size", isCount, "a whole number from 0"),
    numReturnSequences: number(
      json,
      "num_return_sequences",
      (n) => isCount(n) && n > 0,
      "a whole number from 1",
    ),
    badWordsIds: idLists(json, "bad_words_ids"),
    suppressTokenIds: idList(json, "suppress_tokens"),
    beginSuppressTokenIds: idList(json, "begin_suppress_tokens"),
    forcedBosTokenId: idList(json, "forced_bos_token_id")?.[0],
    forcedEosTokenIds: forcedEos?.length ? forcedEos : undefined,
    exponentialDecayLengthPenalty: decay(json),
    removeInvalidValues: flag(json, "remove_invalid_values"),
    renormalizeLogits: flag(json, "renormalize_logits"),
    stopStrings: strings(json, "stop_strings"),
    eosTokenIds: idList(json, "eos_token_id") ?? configEos,
    padTokenId: idList(json, "pad_token_id")?.[0] ?? config.padTokenId,
    bosTokenId: idList(json, "bos_token_id")?.[0] ?? config.bosTokenId,
  };
  return {
    defaults: Object.fromEntries(Object.entries(defaults).filter(([, v]) => v !== undefined)),
    warnings,
  };
}
