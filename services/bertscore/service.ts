/**
 * @file BertScoreService: checks a request, has its sentences tokenized, weighs tokens, has pairs scored, and rescales.
 * The model is behind `BertScoreBackend`, so that nothing here computes for long.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  BertScoreService,
  type ExplainedTokenSchema,
  type ExplainRequest,
  type ExplainResponseSchema,
  type ScoreOptions,
  type ScoreRequest,
  type ScoreResponseSchema,
} from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { ElementType, type ServerInfoSchema } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { type Batched, holding, type Reservation, type SubmitOptions } from "../../lib/rpc/admission.js";
import { KitError } from "../../lib/rpc/errors.js";
import { implement, type ServiceImplementation } from "../../lib/rpc/implement.js";
import { buildVersion } from "../../lib/rpc/server-info.js";
import { Validator } from "../../lib/rpc/validate.js";
import { countScored } from "../../lib/telemetry/index.js";
import { type BaselineTable, rescale } from "./baselines.js";
import { NoBaselineError, NonFiniteEmbeddingError } from "./errors.js";
import { scoreHash } from "./hash.js";
import { computeIdf, idfWeights, plainWeights } from "./idf.js";
import type { BertScore } from "./matching.js";
import type {
  DecodeTokensCall,
  EncoderFacts,
  Explanation,
  ItemScore,
  ScoreItem,
  TokenizeCall,
  TokenizedSentence,
  WeightedSentence,
} from "./protocol.js";

/** What one request may hold. */
export const LIMITS = {
  /** Pairs. */
  maxItems: 256,
  /** References of one pair. */
  maxReferences: 32,
  /** References of all pairs together. */
  maxTotalReferences: 2048,
  /** Sentences of options.idf_corpus. */
  maxCorpus: 8192,
  /** Tokens of one pair, candidate and references, times the layers that are compared: bounds its embeddings in memory. */
  maxPairTokens: 131_072,
  /** UTF-8 bytes of one sentence before it is tokenized. */
  maxTextBytes: 256 * 1024,
} as const;

/** Until when work is wanted. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Epoch milliseconds. */
  deadline?: number;
}

/** The model behind the service. */
export interface BertScoreBackend {
  /** What the model is. Throws NOT_READY while it loads. */
  facts(): EncoderFacts;
  /** Keeps places in the queue. Throws QUEUE_FULL where this many more pairs would not be accepted, or would wait too long for the deadline. */
  reserve(pairs: number, options: CallOptions): Reservation;
  tokenize(call: TokenizeCall, options: CallOptions): Promise<TokenizedSentence[]>;
  /** Raw scores of each item, computed together with items of other calls. */
  score(items: readonly ScoreItem[], options: SubmitOptions): Promise<Batched<ItemScore>>;
  /** Text of each token on its own. */
  decodeTokens(call: DecodeTokensCall, options: CallOptions): Promise<string[]>;
}

/** What the server was started with, once the model is known. */
export interface BertScoreDefaults {
  /** Name under which the model is served. */
  name: string;
  /** Layer that is compared if a request names none. */
  layer: number;
  /** Baseline rows by layer, and whether they are those published with bert_score or came from a file. */
  baseline?: { table: BaselineTable; origin: "published" | "custom" };
}

/** Joins the service with a model. `server` gives the build and limits for GetInfo. */
export function bertScoreService(
  backend: BertScoreBackend,
  defaultsFor: (facts: EncoderFacts) => BertScoreDefaults,
  server: (facts: EncoderFacts) => MessageInitShape<typeof ServerInfoSchema>,
): ServiceImplementation {
  const ready = () => {
    const facts = backend.facts();
    return { backend, facts, defaults: defaultsFor(facts) };
  };
  return implement(BertScoreService, {
    score: (request, ctx) => countScored(request.pairs.length, () => score(ready(), request, ctx)),
    explain: (request, ctx) => explain(ready(), request, ctx),
    getInfo: () => {
      const { facts, defaults } = ready();
      return {
        model: {
          name: defaults.name,
          family: facts.family,
          weights: weightsRef(facts),
          parameterCount: BigInt(facts.parameterCount),
          maxTokens: facts.maxTokens,
          vocabSize: facts.vocabSize,
        },
        defaultLayer: defaults.layer,
        layerCount: facts.layerCount,
        hasBaseline: defaults.baseline !== undefined,
        hash: hashOf(facts, defaults, resolveOptions(undefined, defaults)),
        server: server(facts),
      };
    },
  });
}

/** A service whose model is loaded. */
interface Ready {
  backend: BertScoreBackend;
  facts: EncoderFacts;
  defaults: BertScoreDefaults;
}

/** ScoreOptions with defaults filled in. */
interface Options {
  layer: number;
  idf: boolean;
  idfCorpus: readonly string[];
  rescale: boolean;
  addPrefixSpace: boolean;
  allLayers: boolean;
}

function resolveOptions(options: ScoreOptions | undefined, defaults: BertScoreDefaults): Options {
  return {
    layer: options?.layer ?? defaults.layer,
    idf: options?.idf ?? false,
    idfCorpus: options?.idfCorpus ?? [],
    rescale: options?.rescale ?? false,
    addPrefixSpace: options?.addPrefixSpace ?? true,
    allLayers: options?.allLayers ?? false,
  };
}

async function score(
  { backend, facts, defaults }: Ready,
  request: ScoreRequest,
  call: CallOptions,
): Promise<MessageInitShape<typeof ScoreResponseSchema>> {
  if (request.model !== undefined && request.model !== defaults.name) {
    throw new KitError(
      "UNKNOWN_MODEL",
      `model: this server holds "${defaults.name}", not ${JSON.stringify(request.model)}`,
    );
  }
  const options = resolveOptions(request.options, defaults);
  const check = new Validator();
  checkPairs(check, request);
  checkOptions(check, options, facts, defaults);
  return holding(backend.reserve(request.pairs.length, call), async (place) => {
    const references = request.pairs.flatMap((pair) => pair.references);
    const candidates = request.pairs.map((pair) => pair.candidate);
    const started = performance.now();
    const tokens = await tokenizeAll(
      backend,
      [...candidates, ...references, ...options.idfCorpus],
      options,
      call,
    );
    const weigh = weighting(facts, options, tokens, references);
    const tokenizeMs = performance.now() - started;

    const layers = options.allLayers ? upTo(facts.layerCount) : [options.layer];
    const items = request.pairs.map((pair) => ({
      candidate: weigh(pair.candidate),
      references: pair.references.map(weigh),
      layers,
      explain: false,
    }));
    checkCosts(items);
    const { results, queueMs, runMs } = await backend.score(items, {
      signal: call.signal,
      deadline: call.deadline,
      place,
    });
    return {
      results: request.pairs.map((pair, i) => {
        const raw = scoresOf(results[i]);
        const final = raw.map((layerScore, j) => rescaled(layerScore, layers[j], options, defaults));
        const sentences = [pair.candidate, ...pair.references].map((text) => token(tokens, text));
        return {
          score: final[options.allLayers ? options.layer : 0],
          candidateTokens: sentences[0].ids.length,
          referenceTokens: sentences.slice(1).map(({ ids }) => ids.length),
          truncated: sentences.some(({ truncated }) => truncated),
          layers: options.allLayers ? final : [],
        };
      }),
      hash: hashOf(facts, defaults, options),
      model: defaults.name,
      weights: weightsRef(facts),
      timing: { tokenizeMs, queueMs, modelMs: runMs },
    };
  });
}

async function explain(
  { backend, facts, defaults }: Ready,
  { candidate, reference, options: asked }: ExplainRequest,
  call: CallOptions,
): Promise<MessageInitShape<typeof ExplainResponseSchema>> {
  const options = resolveOptions(asked, defaults);
  const check = new Validator();
  check.text("candidate", candidate).maxBytes(LIMITS.maxTextBytes);
  check.text("reference", reference).maxBytes(LIMITS.maxTextBytes);
  check.require(
    !options.allLayers,
    "options.all_layers",
    "is true; accepted: false, one matrix is of one layer",
  );
  checkOptions(check, options, facts, defaults);
  return holding(backend.reserve(1, call), async (place) => {
    const tokens = await tokenizeAll(backend, [candidate, reference, ...options.idfCorpus], options, call);
    const weigh = weighting(facts, options, tokens, [reference]);
    const item = {
      candidate: weigh(candidate),
      references: [weigh(reference)],
      layers: [options.layer],
      explain: true,
    };
    const ids = Int32Array.of(...item.candidate.ids, ...item.references[0].ids);
    const [{ results }, texts] = await Promise.all([
      backend.score([item], { signal: call.signal, deadline: call.deadline, place }),
      backend.decodeTokens({ ids }, call),
    ]);
    const [raw] = scoresOf(results[0]);
    const explanation = (results[0] as { explanation: Explanation }).explanation;
    const candidateLength = item.candidate.ids.length;
    return {
      candidateTokens: explainedTokens(
        item.candidate,
        texts.slice(0, candidateLength),
        explanation.candidateMatch,
        explanation.candidateBest,
      ),
      referenceTokens: explainedTokens(
        item.references[0],
        texts.slice(candidateLength),
        explanation.referenceMatch,
        explanation.referenceBest,
      ),
      similarity: {
        elementType: ElementType.FLOAT32,
        shape: [BigInt(candidateLength), BigInt(item.references[0].ids.length)],
        data: littleEndian(explanation.similarity),
      },
      score: rescaled(raw, options.layer, options, defaults),
      hash: hashOf(facts, defaults, options),
      weights: weightsRef(facts),
    };
  });
}

function checkPairs(check: Validator, { pairs }: ScoreRequest): void {
  check.list("pairs", pairs).minItems(1).maxItems(LIMITS.maxItems);
  if (pairs.length > LIMITS.maxItems) return;
  let total = 0;
  for (const [i, { candidate, references }] of pairs.entries()) {
    check.text(`pairs[${i}].candidate`, candidate).maxBytes(LIMITS.maxTextBytes);
    check.list(`pairs[${i}].references`, references).minItems(1).maxItems(LIMITS.maxReferences);
    for (const [j, reference] of references.slice(0, LIMITS.maxReferences).entries()) {
      check.text(`pairs[${i}].references[${j}]`, reference).maxBytes(LIMITS.maxTextBytes);
    }
    total += references.length;
  }
  const max = LIMITS.maxTotalReferences;
  check.require(total <= max, "pairs", `have ${total} references in all; accepted: at most ${max}`);
}

/** Checks the options and throws everything noted so far; a baseline that is not there is told last. */
function checkOptions(
  check: Validator,
  options: Options,
  facts: EncoderFacts,
  defaults: BertScoreDefaults,
): void {
  check.number("options.layer", options.layer).atLeast(0).atMost(facts.layerCount);
  check.list("options.idf_corpus", options.idfCorpus).maxItems(LIMITS.maxCorpus);
  check.require(
    options.idf || options.idfCorpus.length === 0,
    "options.idf_corpus",
    `has ${options.idfCorpus.length} items; accepted: none unless options.idf is true`,
  );
  for (const [i, sentence] of options.idfCorpus.slice(0, LIMITS.maxCorpus).entries()) {
    check.text(`options.idf_corpus[${i}]`, sentence).maxBytes(LIMITS.maxTextBytes);
  }
  check.check();
  if (options.rescale && !defaults.baseline) throw new NoBaselineError(defaults.name);
}

/** Tokens of an item, times the layers that are compared. */
export function tokensOf({ candidate, references, layers }: ScoreItem): number {
  const tokens = references.reduce((sum, reference) => sum + reference.ids.length, candidate.ids.length);
  return tokens * layers.length;
}

/** Refuses pairs whose embeddings would take too much memory. */
function checkCosts(items: readonly ScoreItem[]): void {
  const check = new Validator();
  const max = LIMITS.maxPairTokens;
  for (const [i, item] of items.entries()) {
    const cost = tokensOf(item);
    check.require(
      cost <= max,
      `pairs[${i}]`,
      `has ${cost / item.layers.length} tokens at ${item.layers.length} layers; accepted: at most ${max} in all`,
    );
  }
  check.check();
}

/** Tokens by sentence; each distinct sentence is tokenized once. */
async function tokenizeAll(
  backend: BertScoreBackend,
  sentences: readonly string[],
  { addPrefixSpace }: Options,
  call: CallOptions,
): Promise<ReadonlyMap<string, TokenizedSentence>> {
  const distinct = [...new Set(sentences)];
  const tokens = await backend.tokenize({ sentences: distinct, addPrefixSpace }, call);
  return new Map(distinct.map((sentence, i) => [sentence, tokens[i]]));
}

/** How the tokens of a sentence weigh: alike, or by idf over the corpus given or else over all references. */
function weighting(
  facts: EncoderFacts,
  { idf, idfCorpus }: Options,
  tokens: ReadonlyMap<string, TokenizedSentence>,
  references: readonly string[],
): (sentence: string) => WeightedSentence {
  const corpus = idfCorpus.length > 0 ? idfCorpus : references;
  const frequencies = idf ? computeIdf(corpus.map((sentence) => token(tokens, sentence).ids)) : undefined;
  const known = new Map<string, WeightedSentence>();
  return (sentence) => {
    let weighted = known.get(sentence);
    if (!weighted) {
      const { ids } = token(tokens, sentence);
      const weights = frequencies ? idfWeights(ids, frequencies) : plainWeights(ids, facts.wrapper);
      weighted = { ids, weights };
      known.set(sentence, weighted);
    }
    return weighted;
  };
}

function token(tokens: ReadonlyMap<string, TokenizedSentence>, sentence: string): TokenizedSentence {
  const found = tokens.get(sentence);
  if (!found) throw new Error("a sentence of the request was not tokenized");
  return found;
}

function scoresOf(result: ItemScore): BertScore[] {
  if ("nonFinite" in result) throw new NonFiniteEmbeddingError(result.nonFinite);
  return result.scores;
}

function rescaled(
  raw: BertScore,
  layer: number,
  { rescale: asked }: Options,
  { baseline }: BertScoreDefaults,
) {
  return asked && baseline ? rescale(raw, baseline.table[layer]) : raw;
}

function explainedTokens(
  { ids, weights }: WeightedSentence,
  texts: readonly string[],
  match: Int32Array,
  best: Float64Array,
): MessageInitShape<typeof ExplainedTokenSchema>[] {
  return texts.map((text, i) => ({
    text,
    id: ids[i],
    weight: weights[i],
    bestMatch: match[i],
    bestSimilarity: best[i],
  }));
}

function hashOf(facts: EncoderFacts, defaults: BertScoreDefaults, options: Options): string {
  return scoreHash({
    model: defaults.name,
    layer: options.layer,
    idf: options.idf,
    version: buildVersion(),
    rescaled: options.rescale ? defaults.baseline?.origin : undefined,
    prefixSpace: facts.prefixSpaceMatters ? options.addPrefixSpace : undefined,
  });
}

function weightsRef({ weightVersion, digest }: EncoderFacts) {
  return { version: BigInt(weightVersion), digest };
}

/** The elements as little-endian bytes, whatever this machine's order. */
function littleEndian(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true);
  return bytes;
}

function upTo(last: number): number[] {
  return Array.from({ length: last + 1 }, (_, i) => i);
}
