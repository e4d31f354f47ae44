/**
 * @file The reward model as it runs in the worker process: a Hugging Face classifier directory, loaded.
 * In: texts, or rows of token ids. Out: token ids, or the logits of each row.
 */
import { basename, resolve } from "node:path";
import { loadCheckpoint } from "../../lib/checkpoint/index.js";
import { createEngines } from "../../lib/engine/engines.js";
import type { Engine } from "../../lib/engine/index.js";
import { type EncoderConfig, maxTokens, parseEncoderConfig } from "../../lib/models/config.js";
import type { EncoderRow } from "../../lib/models/encoder-feeds.js";
import type { Encoder } from "../../lib/models/encoder-runner.js";
import { encoderOn } from "../../lib/models/parallel-encoder.js";
import { parameterCount, parameterSpecs } from "../../lib/models/parameters.js";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/index.js";
import { ModelMismatchError } from "./errors.js";
import type { ClassifierFacts, TextToScore, TokenizedText, WorkerConfig } from "./protocol.js";
import { usesSegments } from "./segments.js";

/** A loaded classifier. */
export class Classifier {
  private constructor(
    readonly facts: ClassifierFacts,
    private readonly engines: readonly Engine[],
    private readonly tokenizer: Tokenizer,
    private readonly segments: boolean,
    private readonly encoder: Encoder,
  ) {}

  /** Loads model and tokenizer and runs one text, so that a model that cannot work fails here and not at the first call. */
  static async load({ model, device, threads, batchInvariant }: WorkerConfig): Promise<Classifier> {
    const specsOf = (json: unknown) => parameterSpecs(parseEncoderConfig(json), "sequence-classification");
    const [tokenizer, checkpoint, segments] = await Promise.all([
      loadTokenizer(model),
      loadCheckpoint(model, specsOf),
      usesSegments(model),
    ]);
    const config = parseEncoderConfig(checkpoint.config);
    checkVocabulary(tokenizer, config);
    const engines = await createEngines({ device, threads, oneThreadEach: batchInvariant });
    const [engine] = engines as [Engine];
    try {
      const encoder = encoderOn(engines, config, checkpoint.tensors, batchInvariant);
      const facts: ClassifierFacts = {
        name: basename(resolve(model)),
        family: config.modelType,
        weightVersion: checkpoint.weightVersion,
        digest: checkpoint.digest,
        parameterCount: parameterCount(specsOf(checkpoint.config)),
        maxTokens: Math.min(maxTokens(config), tokenizer.modelMaxLength),
        vocabSize: config.vocabSize,
        labels: [...config.labels],
        problemType: config.problemType,
        device: engine.device,
        engine: engine.name,
      };
      const classifier = new Classifier(facts, engines, tokenizer, segments, encoder);
      await classifier.logits([classifier.tokenize({ text: "" }, false)]);
      return classifier;
    } catch (error) {
      await Promise.all(engines.map((each) => each.close()));
      throw error;
    }
  }

  /** Token ids of a text or pair; cut to the model's length where `truncate` allows it. */
  tokenize({ text, pair }: TextToScore, truncate: boolean): TokenizedText {
    const whole = this.tokenizer.encode(text, { pair });
    const fullLength = whole.ids.length;
    const tooLong = fullLength > this.facts.maxTokens;
    const { ids, typeIds } =
      tooLong && truncate ? this.tokenizer.encode(text, { pair, maxLength: this.facts.maxTokens }) : whole;
    const types = this.segments ? Uint8Array.from(typeIds) : new Uint8Array(ids.length);
    return { ids: Int32Array.from(ids), typeIds: types, fullLength };
  }

  /** Logits of each row, in order. Rows must not be longer than the model allows. */
  logits(rows: readonly EncoderRow[]): Promise<Float32Array[]> {
    return this.encoder.classify(rows);
  }

  async close(): Promise<void> {
    await this.encoder.release();
    await Promise.all(this.engines.map((engine) => engine.close()));
  }
}

/** An id beyond the embedding table would make the engine fail at the first text that holds it. */
function checkVocabulary(tokenizer: Tokenizer, config: EncoderConfig): void {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new ModelMismatchError(
      `the tokenizer has ${tokenizer.vocabSize} tokens, config.json: vocab_size allows ${config.vocabSize}`,
    );
  }
}
