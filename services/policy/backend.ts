/**
 * @file The policy model seen from the front process: a worker process that generates and scores, and what it last said of
 * itself. A worker that replaces another must hold at least the weights that the other had before it answers.
 */
import { worthQueueing } from "../../lib/rpc/deadlines.js";
import { NotReadyError, QueueFullError } from "../../lib/rpc/errors.js";
import type { Logger } from "../../lib/rpc/log.js";
import { type HostCallOptions, ModelHost } from "../../lib/rpc/model-host.js";
import { observe } from "../../lib/telemetry/instruments.js";
import type {
  GenerateCall,
  GenerateEvent,
  GenerateReply,
  LoadCall,
  LogProbsCall,
  PolicyFacts,
  WeightsStatus,
  WorkerConfig,
  WorkerStats,
} from "./protocol.js";
import { resolveReturnSequences } from "./sampling/options.js";
import type { ScoreOutcome } from "./scoring/scorer.js";
import type { PolicyBackend } from "./service.js";
import type { PolicyWorker } from "./worker.js";

/** How long the worker may take to send its last spans. */
const FLUSH_MS = 3000;

/** A worker and what is known of it. */
export class PolicyHost implements PolicyBackend {
  readonly #host: ModelHost<PolicyWorker>;
  readonly #config: WorkerConfig;
  readonly #stopMetrics: (() => void)[];
  #weights: WeightsStatus | undefined;
  #stats: WorkerStats | undefined;
  /** Sequences of calls that were not answered yet. */
  #sequences = 0;
  /** Smoothed time that a sequence holds a row, in milliseconds; 0 before the first call was answered. */
  #rowMs = 0;

  constructor(config: WorkerConfig, log: Logger) {
    this.#config = config;
    this.#host = new ModelHost<PolicyWorker>({
      script: new URL("./worker.js", import.meta.url),
      config,
      log,
    });
    this.#host.on("event", (name, value) => {
      if (name === "weights") this.#noteWeights(value as WeightsStatus);
      else if (name === "stats") this.#stats = value as WorkerStats;
    });
    this.#host.on("state", (state) => {
      if (state !== "ready") this.#stats = undefined;
    });
    const run = { "rlhf.run": config.bus?.run ?? "", "rlhf.weights.role": "serving" };
    this.#stopMetrics = [
      observe("rlhf.generate.active", (record) => record(this.#stats?.active ?? 0)),
      observe("rlhf.queue.items", (record) => {
        record(this.#stats?.waiting ?? 0, { "rlhf.queue": "generate" });
        record(this.#stats?.scoring ?? 0, { "rlhf.queue": "logprobs" });
      }),
      observe("rlhf.engine.tensors", (record) => record(this.#stats?.engine.liveTensors ?? 0)),
      observe("rlhf.engine.memory", (record) => record(this.#stats?.engine.bytes ?? 0)),
      observe("rlhf.weights.version", (record) => {
        if (this.#weights) record(this.#weights.serving.version, run);
      }),
    ];
  }

  get pinned(): boolean {
    return this.#config.pinned;
  }

  /** Process id of the worker, for tests. */
  get workerPid(): number | undefined {
    return this.#host.pid;
  }

  /** What runs and waits in the worker, as it last said. */
  get stats(): WorkerStats | undefined {
    return this.#stats;
  }

  /** Starts the worker and waits until the model is loaded. */
  async start(): Promise<PolicyFacts> {
    await this.#host.start();
    const facts = this.facts();
    this.#noteWeights(facts.weights);
    return facts;
  }

  /** Calls `listener` whenever the worker is lost (false) or back with the weights it must hold (true). */
  watch(listener: (able: boolean) => void): void {
    this.#host.on("state", (state) => listener(state === "ready"));
  }

  facts(): PolicyFacts {
    const facts = this.#host.info as PolicyFacts | undefined;
    if (!facts || this.#host.state !== "ready") {
      throw new NotReadyError(facts ? "the model worker is restarting" : "the model is loading");
    }
    return { ...facts, weights: this.#weights ?? facts.weights };
  }

  async generate(call: GenerateCall, options: HostCallOptions): Promise<GenerateReply> {
    const entered = this.#enter(call, options);
    try {
      const reply = await this.#host.call("generate", call, options);
      entered.answered(reply);
      return reply;
    } finally {
      entered.leave();
    }
  }

  async *generateStream(
    call: GenerateCall,
    options: HostCallOptions,
  ): AsyncGenerator<GenerateEvent, GenerateReply> {
    const entered = this.#enter(call, options);
    try {
      const reply = yield* this.#host.stream<"generate", GenerateEvent>("generate", call, options);
      entered.answered(reply);
      return reply;
    } finally {
      entered.leave();
    }
  }

  logprobs(call: LogProbsCall, options: HostCallOptions): Promise<ScoreOutcome> {
    return this.#host.call("logprobs", call, options);
  }

  async load(call: LoadCall, options: HostCallOptions): Promise<WeightsStatus> {
    const status = await this.#host.call("load", call, options);
    this.#noteWeights(status);
    return status;
  }

  async rollback(version: number, options: HostCallOptions): Promise<WeightsStatus> {
    const status = await this.#host.call("rollback", { version }, options);
    this.#noteWeights(status);
    return status;
  }

  /** Ends the worker. */
  async close(): Promise<void> {
    for (const stop of this.#stopMetrics) stop();
    // a worker that is gone or hangs has nothing to say any more
    await this.#host.call("flush", {}, { deadline: Date.now() + FLUSH_MS }).catch(() => undefined);
    await this.#host.close();
  }

  /** What the worker serves now, and what one that replaces it must hold. */
  #noteWeights(status: WeightsStatus): void {
    this.#weights = status;
    const { resume } = this.#config; // the very object that the host hands to the next worker
    resume.version = status.serving.version;
    if (status.loaded) resume.loaded = status.loaded;
    else delete resume.loaded;
  }

  /**
   * Counts a call's sequences in; gives what counts them out, and what hears of the reply. Throws QUEUE_FULL where the worker
   * could only refuse, or where the call would wait too long for its deadline.
   */
  #enter(call: GenerateCall, { deadline }: HostCallOptions): Entered {
    const { maxRows, maxWaiting } = this.#config.decoder;
    const sequences = call.prompts.length * resolveReturnSequences(call.options, this.facts().defaults);
    const present = this.#sequences;
    if (present > 0 && present + sequences > maxRows + maxWaiting) {
      throw new QueueFullError(
        `${present} sequences run or wait, ${sequences} more would exceed ${maxRows + maxWaiting}`,
        1000,
      );
    }
    const waitMs = (Math.max(0, present + sequences - maxRows) * this.#rowMs) / maxRows;
    if (present > maxRows && !worthQueueing(waitMs, this.#rowMs, deadline)) {
      const why = `${present} sequences run or wait; a turn comes in about ${Math.round(waitMs)} ms`;
      throw new QueueFullError(`${why}, too late for the deadline`, Math.round(Math.min(5000, waitMs / 2)));
    }
    this.#sequences += sequences;
    const started = performance.now();
    return {
      answered: ({ queueMs }) => {
        // more sequences than there are rows take turns
        const rowMs = (performance.now() - started - queueMs) / Math.ceil(sequences / maxRows);
        this.#rowMs = this.#rowMs === 0 ? rowMs : 0.95 * this.#rowMs + 0.05 * rowMs;
      },
      leave: () => {
        this.#sequences -= sequences;
      },
    };
  }
}

/** A call that was admitted. */
interface Entered {
  answered(reply: GenerateReply): void;
  leave(): void;
}
