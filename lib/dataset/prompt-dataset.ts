/**
 * @file Rows into prompts, in a seeded order that changes each epoch and can be resumed anywhere.
 * The order is a function of seed and epoch alone, so a cursor {epoch, index} is all there is to remember.
 */
import { Rng } from "./rng.js";

/** Where a dataset stands: `index` rows of `epoch` have been handed out. Plain JSON. */
export interface DatasetCursor {
  readonly epoch: number;
  readonly index: number;
}

/** Settings of a {@link PromptDataset}. */
export interface PromptDatasetOptions {
  /** Prompt with `{column}` where a row's value goes; other braces stand for themselves. */
  readonly template: string;
  /** Rows of a batch. */
  readonly batchSize: number;
  /** Seed of the order. */
  readonly seed: number;
  /** A new order each epoch (default), or the file's own. */
  readonly shuffle?: boolean;
  /** At the end of an epoch: leave out a batch that is not full (default), or hand it out short. */
  readonly dropLast?: boolean;
}

/** One row with its prompt. */
export interface PromptRow<R> {
  /** Place of the row in the file, from 0. */
  readonly row: number;
  readonly prompt: string;
  readonly data: R;
}

/** Rows of one batch and where they came from. */
export interface PromptBatch<R> {
  readonly epoch: number;
  readonly rows: readonly PromptRow<R>[];
}

/** Fills `{column}` in `template` from `row`. The template is checked by {@link templateColumns}. */
export function fillTemplate(template: string, row: Readonly<Record<string, unknown>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, column: string) =>
    Object.hasOwn(row, column) ? String(row[column]) : whole,
  );
}

/**
 * The columns that a template names. Throws RangeError when it names none, or one that is not in `columns`.
 */
export function templateColumns(template: string, columns: readonly string[]): string[] {
  const named = [...template.matchAll(/\{(\w+)\}/g)].map(([, column]) => column as string);
  const unknown = named.find((column) => !columns.includes(column));
  if (unknown !== undefined) {
    throw new RangeError(`template: {${unknown}} is no column; the columns are ${columns.join(", ")}`);
  }
  if (named.length === 0) {
    throw new RangeError(`template: expected one of ${columns.map((c) => `{${c}}`).join(", ")}, found none`);
  }
  return [...new Set(named)];
}

/** Hands out batches of prompts without end, epoch after epoch. */
export class PromptDataset<R extends object> {
  private order: number[] = [];
  private orderEpoch = -1;
  private epoch = 0;
  private index = 0;

  /** Throws RangeError for options that do not fit the rows, and for a template that names no column. */
  constructor(
    private readonly rows: readonly R[],
    private readonly options: PromptDatasetOptions,
  ) {
    const { batchSize, dropLast = true, seed, template } = options;
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`batchSize: expected a whole number of at least 1, got ${batchSize}`);
    }
    if (!Number.isSafeInteger(seed)) throw new RangeError(`seed: expected a whole number, got ${seed}`);
    if (rows.length === 0) throw new RangeError("rows: expected at least one");
    if (dropLast && batchSize > rows.length) {
      throw new RangeError(`batchSize: ${batchSize} is more than the ${rows.length} rows there are`);
    }
    templateColumns(template, Object.keys(rows[0]!));
  }

  /** Batches of one epoch. */
  get batchesPerEpoch(): number {
    const { batchSize, dropLast = true } = this.options;
    const batches = this.rows.length / batchSize;
    return dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Where it stands; {@link seek} goes there again. */
  get cursor(): DatasetCursor {
    return { epoch: this.epoch, index: this.index };
  }

  /** Goes to a cursor. Throws RangeError for one that does not fit the rows. */
  seek({ epoch, index }: DatasetCursor): void {
    const sound = Number.isSafeInteger(epoch) && epoch >= 0 && Number.isSafeInteger(index) && index >= 0;
    if (!sound || index > this.rows.length) {
      throw new RangeError(
        `cursor: expected an epoch and an index up to ${this.rows.length}, got ${epoch}, ${index}`,
      );
    }
    this.epoch = epoch;
    this.index = index;
  }

  /** The next batch; begins a new epoch when this one has no more. */
  next(): PromptBatch<R> {
    const { batchSize, dropLast = true } = this.options;
    const left = this.rows.length - this.index;
    if (left === 0 || (dropLast && left < batchSize)) {
      this.epoch++;
      this.index = 0;
    }
    const order = this.epochOrder();
    const chosen = order.slice(this.index, this.index + batchSize);
    this.index += chosen.length;
    return { epoch: this.epoch, rows: chosen.map((row) => this.promptRow(row)) };
  }

  /** Every row once, in the file's order: for evaluation. */
  all(): PromptRow<R>[] {
    return this.rows.map((_, row) => this.promptRow(row));
  }

  private promptRow(row: number): PromptRow<R> {
    const data = this.rows[row]!;
    return { row, prompt: fillTemplate(this.options.template, data as Record<string, unknown>), data };
  }

  private epochOrder(): number[] {
    if (this.orderEpoch !== this.epoch) {
      this.order = this.rows.map((_, i) => i);
      if (this.options.shuffle ?? true)
        Rng.from(this.options.seed, "dataset-order", this.epoch).shuffle(this.order);
      this.orderEpoch = this.epoch;
    }
    return this.order;
  }
}
