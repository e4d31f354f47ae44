/** @file A toy BERTScore server: a token's embedding is a hash of its word and the layer; all else is as arXiv:1904.09675 has it. */
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  BertScoreService,
  ExplainResponseSchema,
  GetInfoResponseSchema,
  type Pair,
  type ScoreOptions,
  ScoreResponseSchema,
} from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { type BaseToy, baseToy, DIGEST, serverInfo } from "./base.js";
import { hash } from "./hash.js";
import { Checks, Refusal } from "./refusal.js";
import type { Methods } from "./server.js";
import { floats } from "./tensors.js";

const MODEL = "toy-encoder";
const LAYERS = 2;
const MOST_TOKENS = 64;
const DIMENSIONS = 8;
const MS_PER_PAIR = 8;
const SPECIAL = ["[CLS]", "[SEP]"] as const;

/** Precision, recall and F1. */
export interface Scores {
  precision: number;
  recall: number;
  f1: number;
}

/** A sentence as the model reads it. */
export interface Sentence {
  readonly words: readonly string[];
  readonly truncated: boolean;
}

/** A toy BERTScore server and what a mutation may change of it. */
export interface BertscoreToy extends BaseToy {
  readonly methods: Methods<typeof BertScoreService.method>;
  readonly most: { items: number; textBytes: number; references: number };
  /** Mean F1 that rescaling maps to 0; undefined where the server has none. */
  baseline: number | undefined;
  /** Score of a pair; `batch` is what it is computed with. */
  pairScore: (
    candidate: Sentence,
    reference: Sentence,
    layer: number,
    weight: (word: string) => number,
    batch: readonly Pair[],
  ) => Scores;
}

interface Asked {
  readonly layer: number;
  readonly idf: boolean;
  readonly idfCorpus: readonly string[];
  readonly rescale: boolean;
}

/** Makes one that keeps the contract. */
export function bertscoreToy(): BertscoreToy {
  const methods: BertscoreToy["methods"] = {
    score: async ({ pairs, options, model }, { signal }) => {
      checkScore(toy, pairs, options);
      if (model !== undefined && model !== MODEL) {
        throw new Refusal(status.NOT_FOUND, `this is ${MODEL}`, "UNKNOWN_MODEL");
      }
      const asked = resolve(toy, options);
      await toy.queue.run(pairs.length, MS_PER_PAIR * pairs.length, signal);
      const weight = weighting(
        asked,
        pairs.flatMap(({ references }) => references),
      );
      const results = pairs.map(({ candidate, references }) => {
        const read = { candidate: sentence(candidate), references: references.map(sentence) };
        const at = (layer: number) =>
          rescaled(
            toy,
            asked,
            best(read.references.map((one) => toy.pairScore(read.candidate, one, layer, weight, pairs))),
          );
        return {
          score: at(asked.layer),
          candidateTokens: read.candidate.words.length,
          referenceTokens: read.references.map(({ words }) => words.length),
          truncated: [read.candidate, ...read.references].some(({ truncated }) => truncated),
          layers: options?.allLayers ? Array.from({ length: LAYERS + 1 }, (_, layer) => at(layer)) : [],
        };
      });
      return create(ScoreResponseSchema, {
        results,
        hash: hashOf(asked),
        model: MODEL,
        weights: { version: 0n, digest: DIGEST },
      });
    },
    explain: async ({ candidate, reference, options }) => {
      const checks = new Checks();
      checks.must(!options?.allLayers, "options.all_layers", "is true");
      checks.done(toy.counts);
      const asked = resolve(toy, options);
      const [left, right] = [sentence(candidate), sentence(reference)];
      const weight = weighting(asked, [reference]);
      const matrix = left.words.map((a) => right.words.map((b) => cosine(a, b, asked.layer)));
      const turned = right.words.map((_, j) => matrix.map((row) => row[j] as number));
      return create(ExplainResponseSchema, {
        candidateTokens: explained(left, matrix, right, weight),
        referenceTokens: explained(right, turned, left, weight),
        similarity: floats(matrix.flat(), [left.words.length, right.words.length]),
        score: toy.pairScore(left, right, asked.layer, weight, []),
        hash: hashOf(asked),
        weights: { version: 0n, digest: DIGEST },
      });
    },
    getInfo: async () =>
      create(GetInfoResponseSchema, {
        model: { name: MODEL, weights: { version: 0n, digest: DIGEST }, maxTokens: MOST_TOKENS },
        defaultLayer: LAYERS,
        layerCount: LAYERS,
        hasBaseline: toy.baseline !== undefined,
        hash: hashOf(resolve(toy, undefined)),
        server: serverInfo(toy),
      }),
  };
  const limits = { max_items: 32, max_text_bytes: 4096, max_references: 8, max_queue_items: 192 };
  const toy: BertscoreToy = Object.assign(baseToy(BertScoreService, methods, limits), {
    methods,
    most: { items: 32, textBytes: 4096, references: 8 },
    baseline: undefined,
    pairScore,
  });
  toy.queue.capacity = 192;
  return toy;
}

function checkScore(toy: BertscoreToy, pairs: readonly Pair[], options: ScoreOptions | undefined): void {
  const { most } = toy;
  const checks = new Checks();
  checks.must(pairs.length > 0, "pairs", "is empty");
  checks.must(pairs.length <= most.items, "pairs", `has more than ${most.items} items`);
  for (const [i, { candidate, references }] of pairs.entries()) {
    checks.must(references.length > 0, `pairs[${i}].references`, "is empty");
    checks.must(
      references.length <= most.references,
      `pairs[${i}].references`,
      `has more than ${most.references} items`,
    );
    const bytes = Buffer.byteLength(candidate);
    checks.must(bytes <= most.textBytes, `pairs[${i}].candidate`, `has ${bytes} bytes`);
  }
  const layer = options?.layer ?? LAYERS;
  checks.must(layer >= 0 && layer <= LAYERS, "options.layer", `is ${layer}`);
  checks.done(toy.counts);
}

function resolve(toy: BertscoreToy, options: ScoreOptions | undefined): Asked {
  const { layer = LAYERS, idf = false, idfCorpus = [], rescale = false } = options ?? {};
  if (rescale && toy.baseline === undefined) {
    throw new Refusal(status.FAILED_PRECONDITION, "there is no baseline", "NO_BASELINE");
  }
  return { layer, idf, idfCorpus, rescale };
}

const hashOf = ({ layer, idf, rescale }: Asked) =>
  `toy_L${layer}_${idf ? "idf" : "no-idf"}${rescale ? "_rescaled" : ""}`;

/** Words between special tokens, cut to the model's length. */
function sentence(text: string): Sentence {
  const words = text.split(/\s+/).filter(Boolean);
  const room = MOST_TOKENS - SPECIAL.length;
  return { words: [SPECIAL[0], ...words.slice(0, room), SPECIAL[1]], truncated: words.length > room };
}

/** 0 for special tokens, else 1 or log((N + 1) / (df + 1)). */
function weighting({ idf, idfCorpus }: Asked, references: readonly string[]): (word: string) => number {
  const isSpecial = (word: string) => (SPECIAL as readonly string[]).includes(word);
  if (!idf) return (word) => (isSpecial(word) ? 0 : 1);
  const corpus = (idfCorpus.length > 0 ? idfCorpus : references).map((text) => new Set(sentence(text).words));
  return (word) => {
    const count = corpus.filter((words) => words.has(word)).length;
    return isSpecial(word) ? 0 : Math.log((corpus.length + 1) / (count + 1));
  };
}

/** Greedy matching of each side's tokens with the other's. */
export const pairScore: BertscoreToy["pairScore"] = (candidate, reference, layer, weight) => {
  const side = (one: Sentence, other: Sentence) => {
    const weights = one.words.map(weight);
    const total = weights.reduce((a, b) => a + b, 0);
    if (total === 0) return 0;
    const matches = one.words.map((a) => Math.max(...other.words.map((b) => cosine(a, b, layer))));
    return matches.reduce((sum, match, i) => sum + match * (weights[i] as number), 0) / total;
  };
  const [precision, recall] = [side(candidate, reference), side(reference, candidate)];
  return { precision, recall, f1: harmonic(precision, recall) };
};

/** 2pr / (p + r). */
export function harmonic(precision: number, recall: number): number {
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

function cosine(a: string, b: string, layer: number): number {
  const [u, v] = [embedding(a, layer), embedding(b, layer)];
  return u.reduce((sum, value, i) => sum + value * (v[i] as number), 0);
}

const embeddings = new Map<string, number[]>();

function embedding(word: string, layer: number): number[] {
  const key = `${word} ${layer}`;
  let known = embeddings.get(key);
  if (!known) {
    const raw = Array.from({ length: DIMENSIONS }, (_, i) => hash(`${key} ${i}`));
    const norm = Math.hypot(...raw);
    known = raw.map((value) => value / norm);
    embeddings.set(key, known);
  }
  return known;
}

function best(scores: readonly Scores[]): Scores {
  const most = (measure: keyof Scores) => Math.max(...scores.map((score) => score[measure]));
  return { precision: most("precision"), recall: most("recall"), f1: most("f1") };
}

function rescaled(
  { baseline = 0 }: BertscoreToy,
  { rescale }: Asked,
  { precision, recall, f1 }: Scores,
): Scores {
  const map = (value: number) => (rescale ? (value - baseline) / (1 - baseline) : value);
  return { precision: map(precision), recall: map(recall), f1: map(f1) };
}

function explained(
  one: Sentence,
  matrix: readonly number[][],
  other: Sentence,
  weight: (word: string) => number,
) {
  return one.words.map((text, i) => {
    const row = matrix[i] as number[];
    const bestSimilarity = Math.max(...other.words.map((_, j) => row[j] as number));
    return { text, id: i, weight: weight(text), bestMatch: row.indexOf(bestSimilarity), bestSimilarity };
  });
}
