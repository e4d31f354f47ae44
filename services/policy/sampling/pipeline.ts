/**
 * @file The rules of one sequence in the order Hugging Face applies them: processors always, warpers only when sampling,
 * renormalisation last. A rule that is off is not in the list, so a plain greedy row costs one pass.
 */
import type { SamplingOptions } from "./options.js";
import type { LogitsProcessor } from "./processors.js";
import * as processors from "./processors.js";
import * as warpers from "./warpers.js";

/** The rules that `options` switches on, in order. */
export function logitsPipeline(options: SamplingOptions): readonly LogitsProcessor[] {
  const o = options;
  const eos = o.eosTokenIds;
  const steps: LogitsProcessor[] = [];
  if (o.repetitionPenalty !== 1) steps.push(processors.repetitionPenalty(o.repetitionPenalty));
  if (o.noRepeatNgramSize > 0) steps.push(processors.noRepeatNgram(o.noRepeatNgramSize));
  if (o.badWordsIds.length > 0) steps.push(processors.badWords(o.badWordsIds, eos));
  if (o.minLength > 0 && eos.length > 0) steps.push(processors.minLength(o.minLength, eos));
  if (o.minNewTokens > 0 && eos.length > 0) steps.push(processors.minNewTokens(o.minNewTokens, eos));
  if (o.forcedBosTokenId !== undefined) steps.push(processors.forcedBos(o.forcedBosTokenId));
  if (o.forcedEosTokenIds.length > 0) steps.push(processors.forcedEos(o.forcedEosTokenIds, o.maxNewTokens));
  if (o.removeInvalidValues) steps.push(processors.removeInvalidValues);
  if (o.exponentialDecayLengthPenalty && eos.length > 0) {
    const { start, factor } = o.exponentialDecayLengthPenalty;
    steps.push(processors.exponentialDecayLength(start, factor, eos));
  }
  if (o.suppressTokenIds.length > 0) steps.push(processors.suppressTokens(o.suppressTokenIds));
  if (o.beginSuppressTokenIds.length > 0) steps.push(processors.beginSuppressTokens(o.beginSuppressTokenIds));
  if (o.doSample) {
    if (o.temperature !== 1) steps.push(warpers.temperature(o.temperature));
    if (o.topH > 0) steps.push(warpers.topH(o.topH));
    if (o.topK > 0) steps.push(warpers.topK(o.topK));
    if (o.topP < 1) steps.push(warpers.topP(o.topP));
    if (o.minP > 0) steps.push(warpers.minP(o.minP));
    if (o.typicalP < 1) steps.push(warpers.typicalP(o.typicalP));
    if (o.epsilonCutoff > 0 && o.epsilonCutoff < 1) steps.push(warpers.epsilonCutoff(o.epsilonCutoff));
    if (o.etaCutoff > 0 && o.etaCutoff < 1) steps.push(warpers.etaCutoff(o.etaCutoff));
  }
  if (o.renormalizeLogits) steps.push(warpers.renormalize);
  return steps;
}
