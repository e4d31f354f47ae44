/**
 * @file The reward model seen from the front process: a worker process that computes, and a queue that puts the rows of
 * many calls into batches.
 */
import { availableParallelism } from "node:os";
import { runsEnvironment } from "../../lib/engine/run-queue.js";
import { Batcher, type Reservation, type SubmitOptions } from "../../lib/rpc/admission.js";
import { NotReadyError } from "../../lib/rpc/errors.js";
import type { Logger } from "../../lib/rpc/log.js";
import { ModelHost } from "../../lib/rpc/model-host.js";
import type { ClassifierFacts, TokenizedText, WorkerConfig } from "./protocol.js";
import type { RewardBackend } from "./service.js";
import type { RewardWorker } from "./worker.js";

/** How rows are queued and batched. Tokens are counted without padding: the worker puts rows of like length together. */
export interface QueueConfig {
  /** Most rows of one batch. */
  batchItems: number;
  /** Most tokens of one batch. */
  batchTokens: number;
  /** How long the first row of a batch waits for company, in milliseconds. */
  batchDelayMs: number;
  /** Most rows that wait. */
  queueItems: number;
  /** Most tokens that wait. */
  queueTokens: number;
}

/** A worker with its queue. */
export class RewardModel implements RewardBackend {
  readonly #host: ModelHost<RewardWorker>;
  readonly #batcher: Batcher<TokenizedText, Float32Array>;

  constructor(worker: WorkerConfig, queue: QueueConfig, log: Logger) {
    this.#host = new ModelHost<RewardWorker>({
      script: new URL("./worker.js", import.meta.url),
      config: worker,
      env: worker.batchInvariant ? runsEnvironment(worker.threads ?? availableParallelism()) : {},
      log,
    });
    this.#batcher = new Batcher<TokenizedText, Float32Array>({
      name: "reward",
      maxItems: queue.batchItems,
      maxTokens: queue.batchTokens,
      delayMs: queue.batchDelayMs,
      maxQueueItems: queue.queueItems,
      maxQueueTokens: queue.queueTokens,
      cost: (row) => row.ids.length,
      padded: false,
      run: (rows, { signal, deadline }) => this.#host.call("logits", { rows }, { signal, deadline }),
    });
  }

  /** Starts the worker and waits until the model is loaded. */
  async load(): Promise<ClassifierFacts> {
    return (await this.#host.start()) as ClassifierFacts;
  }

  /** Calls `listener` whenever the worker is lost (false) or back (true). */
  watch(listener: (able: boolean) => void): void {
    this.#host.on("state", (state) => listener(state === "ready"));
  }

  facts(): ClassifierFacts {
    const facts = this.#host.info as ClassifierFacts | undefined;
    if (!facts) throw new NotReadyError("the model is loading");
    return facts;
  }

  reserve(rows: number, { deadline }: SubmitOptions): Reservation {
    return this.#batcher.reserve(rows, deadline);
  }

  tokenize: RewardBackend["tokenize"] = (call, options) => this.#host.call("tokenize", call, options);

  logits: RewardBackend["logits"] = (rows, options) => this.#batcher.submitAll(rows, options);

  async close(): Promise<void> {
    this.#batcher.close();
    await this.#host.close();
  }
}
