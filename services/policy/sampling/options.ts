/**
 * @file How one sequence is generated: the request's options over the model's generation_config.json over Hugging Face's
 * defaults (5.x). In: plain objects. Out: one frozen record with nothing left open. Pure.
 */

/** What a request may say; names and meanings of GenerationOptions in rlhf/policy/v1. Absent = not said. */
export interface RequestedOptions {
  readonly maxNewTokens?: number;
  readonly minNewTokens?: number;
  readonly doSample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly typicalP?: number;
  readonly repetitionPenalty?: number;
  readonly noRepeatNgramSize?: number;
  /** Empty = not said. */
  readonly eosTokenIds?: readonly number[];
  readonly ignoreEos?: boolean;
  readonly stopStrings?: readonly string[];
  readonly numReturnSequences?: number;
  readonly suppressTokenIds?: readonly number[];
}

/** What a model's generation_config.json says, read once by `parseGenerationDefaults`. Absent = not said. */
export interface GenerationDefaults extends RequestedOptions {
  /** Prompt and new tokens together. */
  readonly maxLength?: number;
  /** Prompt and new tokens together. */
  readonly minLength?: number;
  readonly topH?: number;
  readonly epsilonCutoff?: number;
  readonly etaCutoff?: number;
  readonly badWordsIds?: readonly (readonly number[])[];
  readonly beginSuppressTokenIds?: readonly number[];
  readonly forcedBosTokenId?: number;
  readonly forcedEosTokenIds?: readonly number[];
  readonly exponentialDecayLengthPenalty?: { readonly start: number; readonly factor: number };
  readonly removeInvalidValues?: boolean;
  readonly renormalizeLogits?: boolean;
  readonly bosTokenId?: number;
  readonly padTokenId?: number;
}

/** Every setting of one sequence. Neutral values switch a rule off. */
export interface SamplingOptions {
  /** Most tokens to generate, ≥ 1. */
  readonly maxNewTokens: number;
  readonly minNewTokens: number;
  /** Prompt and new tokens together; 0 is off. */
  readonly minLength: number;
  readonly doSample: boolean;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly typicalP: number;
  /** 0 is off. */
  readonly topH: number;
  readonly epsilonCutoff: number;
  readonly etaCutoff: number;
  readonly repetitionPenalty: number;
  readonly noRepeatNgramSize: number;
  readonly badWordsIds: readonly (readonly number[])[];
  readonly suppressTokenIds: readonly number[];
  readonly beginSuppressTokenIds: readonly number[];
  readonly forcedBosTokenId: number | undefined;
  readonly forcedEosTokenIds: readonly number[];
  readonly exponentialDecayLengthPenalty: { readonly start: number; readonly factor: number } | undefined;
  readonly removeInvalidValues: boolean;
  readonly renormalizeLogits: boolean;
  /** Ids that end a sequence; empty: none does. */
  readonly eosTokenIds: readonly number[];
  readonly stopStrings: readonly string[];
}

/** New tokens where neither request nor model says. */
const DEFAULT_MAX_NEW_TOKENS = 20;

/** What a model allows. */
export interface ModelBounds {
  readonly vocabSize: number;
  /** Longest row, prompt and new tokens together. */
  readonly maxTokens: number;
}

/** Most new tokens for a prompt of `promptLength`: what is said, else the default cut to what the model can hold. */
export function resolveMaxNewTokens(
  requested: RequestedOptions,
  defaults: GenerationDefaults,
  promptLength: number,
  maxTokens: number,
): number {
  const said = requested.maxNewTokens;
  if (said !== undefined) return said;
  const room = Math.max(0, maxTokens - promptLength);
  if (defaults.maxNewTokens !== undefined) return Math.min(defaults.maxNewTokens, room);
  if (defaults.maxLength !== undefined) return Math.min(Math.max(1, defaults.maxLength - promptLength), room);
  return Math.min(DEFAULT_MAX_NEW_TOKENS, room);
}

/** Sequences for each prompt. */
export function resolveReturnSequences(requested: RequestedOptions, defaults: GenerationDefaults): number {
  return requested.numReturnSequences ?? defaults.numReturnSequences ?? 1;
}

/** Whether tokens are drawn (true) or the most probable one is taken (false). */
export function resolveDoSample(requested: RequestedOptions, defaults: GenerationDefaults): boolean {
  return requested.doSample ?? defaults.doSample ?? false;
}

/** Ids that end a sequence. Ids outside the vocabulary can never be chosen and are left out. */
export function resolveEos(
  requested: RequestedOptions,
  defaults: GenerationDefaults,
  vocabSize: number,
): number[] {
  if (requested.ignoreEos) return [];
  const ids = requested.eosTokenIds?.length ? requested.eosTokenIds : (defaults.eosTokenIds ?? []);
  return [...new Set(ids)].filter((id) => id >= 0 && id < vocabSize);
}

/** All settings of a sequence whose prompt has `promptLength` ids. The caller has checked the ranges. */
export function resolveOptions(
  requested: RequestedOptions,
  defaults: GenerationDefaults,
  promptLength: number,
  bounds: ModelBounds,
): SamplingOptions {
  return Object.freeze({
    maxNewTokens: resolveMaxNewTokens(requested, defaults, promptLength, bounds.maxTokens),
    minNewTokens: requested.minNewTokens ?? defaults.minNewTokens ?? 0,
    minLength: defaults.minLength ?? 0,
    doSample: resolveDoSample(requested, defaults),
    temperature: requested.temperature ?? defaults.temperature ?? 1,
    topK: requested.topK ?? defaults.topK ?? 50,
    topP: requested.topP ?? defaults.topP ?? 1,
    minP: requested.minP ?? defaults.minP ?? 0,
    typicalP: requested.typicalP ?? defaults.typicalP ?? 1,
    topH: defaults.topH ?? 0,
    epsilonCutoff: defaults.epsilonCutoff ?? 0,
    etaCutoff: defaults.etaCutoff ?? 0,
    repetitionPenalty: requested.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    noRepeatNgramSize: requested.noRepeatNgramSize ?? defaults.noRepeatNgramSize ?? 0,
    badWordsIds: defaults.badWordsIds ?? [],
    suppressTokenIds: requested.suppressTokenIds?.length
      ? requested.suppressTokenIds
      : (defaults.suppressTokenIds ?? []),
    beginSuppressTokenIds: defaults.beginSuppressTokenIds ?? [],
    forcedBosTokenId: defaults.forcedBosTokenId,
    forcedEosTokenIds: defaults.forcedEosTokenIds ?? [],
    exponentialDecayLengthPenalty: defaults.exponentialDecayLengthPenalty,
    removeInvalidValues: defaults.removeInvalidValues ?? false,
    renormalizeLogits: defaults.renormalizeLogits ?? false,
    eosTokenIds: resolveEos(requested, defaults, bounds.vocabSize),
    stopStrings: requested.stopStrings?.length ? requested.stopStrings : (defaults.stopStrings ?? []),
  });
}
