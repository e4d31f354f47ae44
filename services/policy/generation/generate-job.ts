/**
 * @file One Generate request inside the worker: its sequences, the weights that all of them use, and what its caller
 * waits for. A job is admitted row by row as the cache has room, in order of arrival.
 */
import type { VersionDemand, WeightSnapshot, WeightsIdentity } from "../model/weight-store.js";
import type { TokenBytes } from "../sampling/stop-rules.js";
import { type ChosenToken, Sequence, type SequenceSpec } from "./sequence.js";

/** A token of a sequence, as it is chosen. */
export interface TokenStep extends ChosenToken {
  readonly sequence: Sequence;
}

/** What a caller gives. */
export interface GenerateJobOptions {
  readonly sequences: readonly SequenceSpec[];
  readonly demand: VersionDemand;
  /** Ends the job; rows leave the cache before the next step. */
  readonly signal?: AbortSignal;
  /** Epoch milliseconds; a job that cannot be done by then is not begun. The signal ends one that runs. */
  readonly deadline?: number | undefined;
  /** Called after each run with what the job's sequences got from it. */
  readonly onTokens?: (steps: readonly TokenStep[], weights: WeightsIdentity) => void;
}

/** What a caller gets. */
export interface GenerateOutcome {
  /** In the order of the specs. */
  readonly sequences: readonly Sequence[];
  readonly weights: WeightsIdentity;
  /** Waiting for the first row to be admitted, in ms. */
  readonly queueMs: number;
  /** Runs that computed rows of this job, in ms. */
  readonly modelMs: number;
  /** From arrival to the first token, in ms. */
  readonly firstTokenMs: number;
}

/** A request in progress. */
export class GenerateJob {
  readonly sequences: readonly Sequence[];
  /** Not yet admitted, in order. */
  waiting: Sequence[];
  /** Set when the first row is admitted, or at arrival where an exact version is demanded. */
  weights: WeightSnapshot | undefined;
  /** Set when the job has ended, however. */
  ended = false;
  modelMs = 0;
  readonly outcome: Promise<GenerateOutcome>;
  readonly #arrived = performance.now();
  #queueMs: number | undefined;
  #firstTokenMs: number | undefined;
  #unfinished: number;
  #fresh: TokenStep[] = [];
  #resolve!: (outcome: GenerateOutcome) => void;
  #reject!: (error: unknown) => void;

  constructor(
    readonly options: GenerateJobOptions,
    tokenBytes: TokenBytes,
  ) {
    this.sequences = options.sequences.map((spec) => new Sequence(spec, tokenBytes));
    this.waiting = [...this.sequences];
    this.#unfinished = this.sequences.length;
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Whether a row was admitted. */
  get begun(): boolean {
    return this.#queueMs !== undefined;
  }

  /** Notes that the first row is admitted. */
  admitted(): void {
    this.#queueMs ??= performance.now() - this.#arrived;
  }

  /** Notes a token of one of the sequences. */
  chose(step: TokenStep): void {
    this.#firstTokenMs ??= performance.now() - this.#arrived;
    if (this.options.onTokens) this.#fresh.push(step);
    if (step.sequence.finish !== undefined) this.#unfinished--;
  }

  /** Hands out the tokens of a run, and ends the job where that run finished it. */
  afterRun(runMs: number): void {
    if (this.ended || !this.weights) return;
    this.modelMs += runMs;
    if (this.#fresh.length > 0) {
      const steps = this.#fresh;
      this.#fresh = [];
      this.options.onTokens?.(steps, this.weights);
    }
    if (this.#unfinished > 0) return;
    const { version, digest } = this.weights;
    const outcome: GenerateOutcome = {
      sequences: this.sequences,
      weights: { version, digest },
      queueMs: this.#queueMs ?? 0,
      modelMs: this.modelMs,
      firstTokenMs: this.#firstTokenMs ?? 0,
    };
    this.#end(() => this.#resolve(outcome));
  }

  /** Ends the job with an error. Its rows must leave the cache. */
  fail(error: unknown): void {
    this.#end(() => this.#reject(error));
  }

  #end(settle: () => void): void {
    if (this.ended) return;
    this.ended = true;
    this.waiting = [];
    this.#fresh = [];
    this.weights?.release();
    settle();
  }
}
