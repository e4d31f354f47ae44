/**
 * @file The rows that run on one set of weights, and their cache. A lane reads prompts, then steps all its rows together;
 * rows that end leave at once and the last rows move into their places, so a step costs what is alive.
 */
import { groupByLength } from "../../../lib/models/encoder-feeds.js";
import {
  type CacheView,
  cacheBytes,
  type KvCache,
  type RowCopy,
  rowCapacity,
  timeCapacity,
} from "../model/kv-cache.js";
import type { RolloutBatch, RolloutResult } from "../model/policy-model.js";
import type { WeightSnapshot } from "../model/weight-store.js";
import type { GenerateJob } from "./generate-job.js";
import type { Sequence } from "./sequence.js";

/** What a lane needs of the model. */
export interface StepModel {
  readonly vocabSize: number;
  step(weights: WeightSnapshot, batch: RolloutBatch, cache: CacheView): Promise<RolloutResult>;
}

/** A sequence and the job that it belongs to. */
export interface Row {
  readonly sequence: Sequence;
  readonly job: GenerateJob;
}

/** Share of a prompt run that may be padding; rows of more different lengths are run apart. */
const MAX_PROMPT_PADDING = 0.2;

/** Rows in lockstep. Row i of the lane is row i of the cache. Methods must not overlap. */
export class Lane {
  readonly #rows: Row[] = [];

  constructor(
    readonly weights: WeightSnapshot,
    private readonly model: StepModel,
    readonly cache: KvCache,
    /**
     * Never runs a single row: its matrix products are summed in another order than those of two and more, which all agree
     * to the bit. A single row is run twice then.
     */
    private readonly batchInvariant = false,
  ) {}

  /** Rows that hold a place in the cache. */
  get size(): number {
    return this.#rows.length;
  }

  /** Most tokens that any row can come to. */
  get mostTokens(): number {
    return Math.max(0, ...this.#rows.map(({ sequence }) => sequence.mostTokens));
  }

  /** Bytes the cache can come to with these rows more, the longest of them `mostTokens`. */
  bytesWith(rows: number, mostTokens: number): number {
    const { geometry } = this.cache;
    const count = this.#rows.length + rows + this.#spare;
    const time = Math.max(this.mostTokens, mostTokens);
    const current = count <= this.cache.rows && time <= this.cache.time;
    return current
      ? this.cache.bytes
      : cacheBytes(geometry, rowCapacity(geometry, count), timeCapacity(geometry, time));
  }

  /** Reads the prompts of new rows, `maxTokens` padded tokens a run at most, and chooses their first tokens. */
  async admit(rows: readonly Row[], maxTokens: number): Promise<void> {
    const prompts = distinctPrompts(rows);
    const lengths = prompts.map(([{ sequence }]) => sequence.history.length);
    const filled = this.#filled();
    const all = [...this.#rows, ...rows];
    const mostTokens = Math.max(...all.map(({ sequence }) => sequence.mostTokens));
    const time = Math.max(...lengths, ...filled);
    await this.cache.reserve(all.length + this.#spare, time, filled, mostTokens);
    // prompts of like length side by side, so that a run over them is a run over one view; behind them the rows that
    // continue a prompt once more, which get a copy of what was read
    const groups = groupByLength(lengths, { maxTokens, maxPadding: MAX_PROMPT_PADDING }).map((group) =>
      group.map((i) => prompts[i]),
    );
    let first = this.#rows.length;
    this.#rows.push(
      ...groups.flat().map(([row]) => row),
      ...groups.flat().flatMap(([, ...others]) => others),
    );
    const copies: RowCopy[] = [];
    for (const group of groups) {
      copies.push(...(await this.#readPrompts(group, first)));
      first += group.length;
    }
    await this.cache.copyRows(copies);
  }

  /** Reads the newest token of every row and chooses the next. */
  async step(): Promise<void> {
    const rows = [...this.#rows];
    if (rows.length === 0) return;
    const past = this.#filled();
    await this.cache.reserve(rows.length + this.#spare, Math.max(...past) + 1, past, this.mostTokens);
    if (rows.every(({ job }) => job.ended)) return this.compact(); // and the weights may be gone
    const inputIds = BigInt64Array.from(rows, ({ sequence }) => BigInt(sequence.history.ids.at(-1)!));
    const batch: RolloutBatch = {
      rows: rows.length,
      time: 1,
      inputIds,
      positions: BigInt64Array.from(past, BigInt),
      counts: rows.map(() => 1),
      past,
    };
    const started = performance.now();
    const result = await this.#run(batch, 0);
    const runMs = performance.now() - started;
    for (const [i, row] of rows.entries()) this.#advance(row, this.#rowOf(result, i));
    this.#settle(rows, runMs);
    await this.compact();
  }

  /** Takes rows whose sequence or job has ended out, and moves the last rows into their places. */
  async compact(): Promise<void> {
    const rows = this.#rows;
    const alive = (row: Row) => !row.job.ended && row.sequence.finish === undefined;
    const moves: RowCopy[] = [];
    let end = rows.length;
    for (let at = 0; at < end; at++) {
      if (alive(rows[at])) continue;
      do end--;
      while (end > at && !alive(rows[end]));
      if (end === at) break;
      moves.push({ from: end, to: at, length: this.#cached(rows[end]) });
      rows[at] = rows[end];
    }
    rows.length = end;
    await this.cache.copyRows(moves);
  }

  /** Fails every job that has a row here. */
  fail(error: unknown): void {
    for (const { job } of this.#rows) job.fail(error);
  }

  /** Rows of the cache beyond those that are alive, for the second run of a single row. */
  get #spare(): number {
    return this.batchInvariant ? 1 : 0;
  }

  /** Runs the rows that begin at `first` in the cache. */
  #run(batch: RolloutBatch, first: number): Promise<RolloutResult> {
    const twice = this.batchInvariant && batch.rows === 1;
    const all = twice ? doubled(batch) : batch;
    return this.model.step(this.weights, all, this.cache.view(first, all.rows));
  }

  /** Each entry: the row at `first + i`, then the rows that continue the same prompt and need a copy of what was read. */
  async #readPrompts(group: readonly (readonly Row[])[], first: number): Promise<RowCopy[]> {
    if (group.flat().every(({ job }) => job.ended)) return []; // and the weights may be gone
    const prompts = group.map(([{ sequence }]) => sequence.history.ids);
    const lengths = prompts.map((ids) => ids.length);
    const time = Math.max(...lengths);
    const inputIds = new BigInt64Array(group.length * time);
    const positions = new BigInt64Array(group.length * time);
    for (const [r, ids] of prompts.entries()) {
      for (let t = 0; t < time; t++) {
        inputIds[r * time + t] = BigInt(ids[t] ?? 0);
        positions[r * time + t] = BigInt(t);
      }
    }
    const past = lengths.map(() => 0);
    const batch: RolloutBatch = { rows: group.length, time, inputIds, positions, counts: lengths, past };
    const started = performance.now();
    const result = await this.#run(batch, first);
    const runMs = performance.now() - started;
    const copies = group.flatMap(([, ...others], i) =>
      others.map((row) => ({ from: first + i, to: this.#rows.indexOf(row), length: lengths[i] })),
    );
    for (const [i, rows] of group.entries()) {
      const { logits, logprobs } = this.#rowOf(result, i);
      // choosing changes the logits, so each sequence but the last gets its own
      for (const [n, row] of rows.entries()) {
        this.#advance(row, { logits: n < rows.length - 1 ? logits.slice() : logits, logprobs });
      }
    }
    this.#settle(group.flat(), runMs);
    return copies;
  }

  #advance({ sequence, job }: Row, { logits, logprobs }: RolloutResult): void {
    if (job.ended) return;
    try {
      job.chose({ sequence, ...sequence.advance(logits, logprobs, this.weights.version) });
    } catch (error) {
      job.fail(error); // the other rows go on
    }
  }

  #settle(rows: readonly Row[], runMs: number): void {
    for (const job of new Set(rows.map((row) => row.job))) job.afterRun(runMs);
  }

  #rowOf({ logits, logprobs }: RolloutResult, row: number): RolloutResult {
    const v = this.model.vocabSize;
    return {
      logits: logits.subarray(row * v, (row + 1) * v),
      logprobs: logprobs.subarray(row * v, (row + 1) * v),
    };
  }

  /** Cached tokens of a row: all but the newest, which the next step reads. */
  #cached({ sequence }: Row): number {
    return sequence.history.length - 1;
  }

  #filled(): number[] {
    return this.#rows.map((row) => this.#cached(row));
  }
}

/** A batch of one row as a batch of two equal rows. */
function doubled({ time, inputIds, positions, counts, past }: RolloutBatch): RolloutBatch {
  const twice = (ids: BigInt64Array) => BigInt64Array.from({ length: 2 * time }, (_, i) => ids[i % time]);
  return {
    rows: 2,
    time,
    inputIds: twice(inputIds),
    positions: twice(positions),
    counts: [counts[0], counts[0]],
    past: [past[0], past[0]],
  };
}

/** Rows by prompt: those that continue the same prompt of the same job together, in order. */
function distinctPrompts(rows: readonly Row[]): Row[][] {
  const byJob = new Map<GenerateJob, Map<number, Row[]>>();
  for (const row of rows) {
    const prompts = byJob.get(row.job) ?? new Map<number, Row[]>();
    byJob.set(row.job, prompts);
    const same = prompts.get(row.sequence.spec.promptIndex) ?? [];
    prompts.set(row.sequence.spec.promptIndex, same);
    same.push(row);
  }
  return [...byJob.values()].flatMap((prompts) => [...prompts.values()]);
}
