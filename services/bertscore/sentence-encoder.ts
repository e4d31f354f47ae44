/**
 * @file The embedding model as it runs in the worker process: a Hugging Face encoder directory, loaded.
 * In: sentences, or items of token ids with weights. Out: token ids, or scores. Each distinct sentence is encoded once
 * a batch and kept in a cache between batches.
 */
import { basename, resolve } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { loadCheckpoint } from "../../lib/checkpoint/index.js";
import { createEngines } from "../../lib/engine/engines.js";
import type { Engine } from "../../lib/engine/index.js";
import { maxTokens, parseEncoderConfig } from "../../lib/models/config.js";
import type { Encoder } from "../../lib/models/encoder-runner.js";
import { encoderOn } from "../../lib/models/parallel-encoder.js";
import { parameterCount, parameterSpecs } from "../../lib/models/parameters.js";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/index.js";
import { Cosines } from "./cosines.js";
import { EmbeddingCache } from "./embedding-cache.js";
import { ModelMismatchError } from "./errors.js";
import {
  type BertScore,
  bestOfReferences,
  type GreedyMatches,
  greedyMatches,
  normalizeRows,
  scoreMatches,
  type WeightedRows,
} from "./matching.js";
import type {
  EncoderFacts,
  Explanation,
  ItemScore,
  ScoreItem,
  TokenizedSentence,
  WeightedSentence,
  WorkerConfig,
} from "./protocol.js";
import { pythonStrip } from "./python-strip.js";

/** A loaded encoder. */
export class SentenceEncoder {
  private constructor(
    readonly facts: EncoderFacts,
    private readonly engines: readonly Engine[],
    private readonly tokenizer: Tokenizer,
    private readonly encoder: Encoder,
    private readonly cosines: Cosines,
    private readonly cache: EmbeddingCache,
  ) {}

  /** Loads model and tokenizer and encodes one sentence, so that a model that cannot work fails here. */
  static async load(options: WorkerConfig): Promise<SentenceEncoder> {
    const { model, device, threads, cacheBytes, layer, batchInvariant } = options;
    const specsOf = (json: unknown) => parameterSpecs(parseEncoderConfig(json), "encoder");
    const [tokenizer, checkpoint] = await Promise.all([loadTokenizer(model), loadCheckpoint(model, specsOf)]);
    const config = parseEncoderConfig(checkpoint.config);
    if (tokenizer.vocabSize > config.vocabSize) {
      throw new ModelMismatchError(
        `the tokenizer has ${tokenizer.vocabSize} tokens, config.json: vocab_size allows ${config.vocabSize}`,
      );
    }
    const engines = await createEngines({ device, threads, oneThreadEach: batchInvariant });
    const [engine] = engines as [Engine];
    try {
      const runs = encoderOn(engines, config, checkpoint.tensors, batchInvariant);
      const { cls, sep } = tokenizer.specialIds;
      const facts: EncoderFacts = {
        name: basename(resolve(model)),
        family: config.modelType,
        weightVersion: checkpoint.weightVersion,
        digest: checkpoint.digest,
        parameterCount: parameterCount(specsOf(checkpoint.config)),
        maxTokens: Math.min(maxTokens(config), tokenizer.modelMaxLength),
        vocabSize: config.vocabSize,
        layerCount: config.layers,
        wrapper: { cls, sep },
        prefixSpaceMatters: config.modelType === "roberta",
        device: engine.device,
        engine: engine.name,
      };
      const cosines = await Cosines.create(engine);
      const cache = new EmbeddingCache(cacheBytes);
      const encoder = new SentenceEncoder(facts, engines, tokenizer, runs, cosines, cache);
      const { ids } = encoder.tokenize("", false);
      await runs.hiddenStates([{ ids }], [Math.min(layer ?? config.layers, config.layers)]);
      return encoder;
    } catch (error) {
      await Promise.all(engines.map((each) => each.close()));
      throw error;
    }
  }

  /** Token ids of a sentence, stripped as Python does and cut to the model's length. */
  tokenize(sentence: string, addPrefixSpace: boolean): TokenizedSentence {
    const { ids, truncated } = this.tokenizer.encode(pythonStrip(sentence), {
      maxLength: this.facts.maxTokens,
      prefixSpace: addPrefixSpace && this.facts.prefixSpaceMatters,
    });
    return { ids: Int32Array.from(ids), truncated };
  }

  /** Text of each token on its own. */
  decodeTokens(ids: ArrayLike<number>): string[] {
    return Array.from(ids, (id) => this.tokenizer.decodeToken(id));
  }

  /** Scores of each item, in order. An item whose embeddings are not finite fails alone. Rejects once the signal fires. */
  async score(items: readonly ScoreItem[], signal?: AbortSignal): Promise<ItemScore[]> {
    const embeddings = await this.#embed(items);
    const results: ItemScore[] = [];
    let turn = performance.now();
    for (const item of items) {
      signal?.throwIfAborted(); // nobody waits for the rest
      results.push(await this.#scoreItem(item, embeddings));
      if (performance.now() - turn < 20) continue;
      await nextTurn(); // matching is plain code: let other calls in between
      turn = performance.now();
    }
    return results;
  }

  async close(): Promise<void> {
    this.cosines.release();
    await this.encoder.release();
    await Promise.all(this.engines.map((engine) => engine.close()));
  }

  async #scoreItem(
    { candidate, references, layers, explain }: ScoreItem,
    embeddings: Embeddings,
  ): Promise<ItemScore> {
    let explanation: Explanation | undefined;
    const scores: BertScore[] = [];
    for (const layer of layers) {
      for (const sentence of [candidate, ...references]) {
        if (!embeddings.get(embeddingKey(sentence, layer))) {
          return { nonFinite: { tokens: sentence.ids.length, layer } };
        }
      }
      const weighted = (sentence: WeightedSentence) => weightedRows(sentence, layer, embeddings);
      const perReference: BertScore[] = [];
      for (const reference of references) {
        const [a, b] = [weighted(candidate), weighted(reference)];
        const similarity = await this.cosines.matrix(a, b);
        const matches = greedyMatches(similarity, a.length, b.length);
        if (explain) explanation ??= explanationOf(similarity, matches);
        perReference.push(scoreMatches(matches, a.weights, b.weights));
      }
      scores.push(bestOfReferences(perReference));
    }
    return { scores, explanation };
  }

  /** Unit rows of every sentence of the items at every layer asked for, from the cache or the model. */
  async #embed(items: readonly ScoreItem[]): Promise<Embeddings> {
    const embeddings: Embeddings = new Map();
    const missing = new Map<string, { layers: number[]; sentences: Map<string, Int32Array> }>();
    for (const { candidate, references, layers } of items) {
      for (const sentence of [candidate, ...references]) {
        if (this.#known(sentence, layers, embeddings)) continue;
        const group = missing.get(layers.join()) ?? { layers, sentences: new Map() };
        missing.set(layers.join(), group);
        group.sentences.set(sentence.ids.join(), sentence.ids);
      }
    }
    for (const { layers, sentences } of missing.values()) {
      const rows = [...sentences.values()].map((ids) => ({ ids }));
      const states = await this.encoder.hiddenStates(rows, layers);
      for (const [i, { ids }] of rows.entries()) {
        for (const [j, layer] of layers.entries()) {
          const key = embeddingKey({ ids }, layer);
          const unit = normalizeRows(states[i][j], states[i][j].length / ids.length);
          const finite = unit.every(Number.isFinite); // a row of zeros has no direction either
          embeddings.set(key, finite ? unit : undefined);
          if (finite) this.cache.set(key, unit);
        }
      }
    }
    return embeddings;
  }

  /** Whether all layers of a sentence are at hand; copies what the cache has. */
  #known(sentence: WeightedSentence, layers: readonly number[], embeddings: Embeddings): boolean {
    return layers.every((layer) => {
      const key = embeddingKey(sentence, layer);
      const rows = embeddings.get(key) ?? this.cache.get(key);
      if (rows) embeddings.set(key, rows);
      return rows !== undefined;
    });
  }
}

function explanationOf(similarity: Float32Array, matches: GreedyMatches): Explanation {
  return {
    similarity,
    candidateMatch: matches.candidate,
    candidateBest: matches.candidateBest,
    referenceMatch: matches.reference,
    referenceBest: matches.referenceBest,
  };
}

/** Unit rows by sentence and layer; undefined where the model gave no finite ones. */
type Embeddings = Map<string, Float32Array | undefined>;

function embeddingKey({ ids }: { ids: Int32Array }, layer: number): string {
  return `${layer}:${ids.join()}`;
}

function weightedRows(
  { ids, weights }: WeightedSentence,
  layer: number,
  embeddings: Embeddings,
): WeightedRows {
  const rows = embeddings.get(embeddingKey({ ids }, layer)) ?? new Float32Array();
  return { rows, length: ids.length, width: rows.length / ids.length, weights };
}
