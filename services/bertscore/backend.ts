/**
 * @file The encoder seen from the front process: a worker process that computes, and a queue that puts the pairs of many
 * calls into batches.
 */
import { availableParallelism } from "node:os";
import { runsEnvironment } from "../../lib/engine/run-queue.js";
import { Batcher, type Reservation, type SubmitOptions } from "../../lib/rpc/admission.js";
import { NotReadyError } from "../../lib/rpc/errors.js";
import type { Logger } from "../../lib/rpc/log.js";
import { ModelHost } from "../../lib/rpc/model-host.js";
import type { EncoderFacts, ItemScore, ScoreItem, WorkerConfig } from "./protocol.js";
import { type BertScoreBackend, tokensOf } from "./service.js";
import type { BertScoreWorker } from "./worker.js";

/** How pairs are queued and batched. Tokens of a pair: those of candidate and references, times the layers compared. */
export interface QueueConfig {
  /** Most pairs of one batch. */
  batchItems: number;
  /** Most tokens of one batch. */
  batchTokens: number;
  /** How long the first pair of a batch waits for company, in milliseconds. */
  batchDelayMs: number;
  /** Most pairs that wait. */
  queueItems: number;
  /** Most tokens that wait. */
  queueTokens: number;
}

/** A worker with its queue. */
export class BertScoreModel implements BertScoreBackend {
  readonly #host: ModelHost<BertScoreWorker>;
  readonly #batcher: Batcher<ScoreItem, ItemScore>;

  constructor(worker: WorkerConfig, queue: QueueConfig, log: Logger) {
    this.#host = new ModelHost<BertScoreWorker>({
      script: new URL("./worker.js", import.meta.url),
      config: worker,
      env: worker.batchInvariant ? runsEnvironment(worker.threads ?? availableParallelism()) : {},
      log,
    });
    this.#batcher = new Batcher<ScoreItem, ItemScore>({
      name: "bertscore",
      maxItems: queue.batchItems,
      maxTokens: queue.batchTokens,
      delayMs: queue.batchDelayMs,
      maxQueueItems: queue.queueItems,
      maxQueueTokens: queue.queueTokens,
      cost: tokensOf,
      padded: false,
      run: (items, { signal, deadline }) => this.#host.call("score", { items }, { signal, deadline }),
    });
  }

  /** Starts the worker and waits until the model is loaded. */
  async load(): Promise<EncoderFacts> {
    return (await this.#host.start()) as EncoderFacts;
  }

  /** Calls `listener` whenever the worker is lost (false) or back (true). */
  watch(listener: (able: boolean) => void): void {
    this.#host.on("state", (state) => listener(state === "ready"));
  }

  facts(): EncoderFacts {
    const facts = this.#host.info as EncoderFacts | undefined;
    if (!facts) throw new NotReadyError("the model is loading");
    return facts;
  }

  reserve(pairs: number, { deadline }: SubmitOptions): Reservation {
    return this.#batcher.reserve(pairs, deadline);
  }

  tokenize: BertScoreBackend["tokenize"] = (call, options) => this.#host.call("tokenize", call, options);

  score: BertScoreBackend["score"] = (items, options) => this.#batcher.submitAll(items, options);

  decodeTokens: BertScoreBackend["decodeTokens"] = (call, options) =>
    this.#host.call("decodeTokens", call, options);

  async close(): Promise<void> {
    this.#batcher.close();
    await this.#host.close();
  }
}
