/**
 * @file From what the worker says to wire messages. Pure.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  FinishReason,
  type GenerateResponseSchema,
  type GenerateStreamResponseSchema,
  type GenerationOptionsSchema,
  type LogProbsResponseSchema,
  type SequenceSchema,
} from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { ElementType, type TensorSchema } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import type { WeightsIdentity } from "./model/weight-store.js";
import type { GenerateEvent, GenerateReply, PolicyFacts, SequenceReply } from "./protocol.js";
import { resolveMaxNewTokens, resolveOptions } from "./sampling/options.js";
import type { ScoreOutcome } from "./scoring/scorer.js";

const FINISH = { eos: FinishReason.EOS, stop: FinishReason.STOP, length: FinishReason.LENGTH } as const;

/** The reply to a Generate. */
export function generateResponse(reply: GenerateReply): MessageInitShape<typeof GenerateResponseSchema> {
  const { queueMs, tokenizeMs, modelMs } = reply;
  return {
    sequences: reply.sequences.map(sequence),
    weights: weightsRef(reply.weights),
    timing: { queueMs, tokenizeMs, modelMs },
  };
}

/** The events of a GenerateStream that one run of the model gives: tokens, each sequence's end after its last token. */
export function streamResponses({
  tokens,
  ended,
  weights,
}: GenerateEvent): MessageInitShape<typeof GenerateStreamResponseSchema>[] {
  const ref = weightsRef(weights);
  return [
    ...tokens.map((value) => ({ event: { case: "token" as const, value }, weights: ref })),
    ...ended.map((each) => ({ event: { case: "sequence" as const, value: sequence(each) }, weights: ref })),
  ];
}

/** The reply to a LogProbs. */
export function logProbsResponse(
  { results, weights, queueMs, modelMs }: ScoreOutcome,
  vocabSize: number,
): MessageInitShape<typeof LogProbsResponseSchema> {
  return {
    results: results.map(({ logprobs, entropy, distribution }) => ({
      logprobs: floats(logprobs, [logprobs.length]),
      ...(entropy && { entropy: floats(entropy, [entropy.length]) }),
      ...(distribution && { distribution: floats(distribution, [logprobs.length, vocabSize]) }),
    })),
    weights: weightsRef(weights),
    timing: { queueMs, modelMs },
  };
}

/** What a request gets that leaves all options out. */
export function defaultOptions(facts: PolicyFacts): MessageInitShape<typeof GenerationOptionsSchema> {
  const o = resolveOptions({}, facts.defaults, 0, facts);
  return {
    maxNewTokens: resolveMaxNewTokens({}, facts.defaults, 0, facts.maxTokens),
    minNewTokens: o.minNewTokens,
    doSample: o.doSample,
    temperature: o.temperature,
    topK: o.topK,
    topP: o.topP,
    minP: o.minP,
    typicalP: o.typicalP,
    repetitionPenalty: o.repetitionPenalty,
    noRepeatNgramSize: o.noRepeatNgramSize,
    eosTokenIds: [...o.eosTokenIds],
    ignoreEos: false,
    stopStrings: [...o.stopStrings],
    numReturnSequences: facts.defaults.numReturnSequences ?? 1,
    suppressTokenIds: [...o.suppressTokenIds],
  };
}

/** Weights on the wire. */
export function weightsRef({ version, digest }: WeightsIdentity) {
  return { version: BigInt(version), digest };
}

function sequence(reply: SequenceReply): MessageInitShape<typeof SequenceSchema> {
  return {
    promptIndex: reply.promptIndex,
    returnIndex: reply.returnIndex,
    tokens: { ids: reply.ids },
    text: reply.text,
    logprobs: floats(reply.logprobs, [reply.logprobs.length]),
    finishReason: FINISH[reply.finish],
    promptTokens: { ids: reply.promptIds },
    seed: reply.seed,
  };
}

const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Elements as a tensor, little-endian whatever this machine's order; no copy where the orders agree. */
function floats(values: Float32Array, shape: readonly number[]): MessageInitShape<typeof TensorSchema> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const data = IS_LITTLE_ENDIAN ? bytes : Buffer.from(bytes).swap32();
  return { elementType: ElementType.FLOAT32, shape: shape.map(BigInt), data };
}
