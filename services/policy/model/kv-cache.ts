/**
 * @file Keys and values of running rows: per block two buffers [rows, A, time, d], rows at the front. Buffers grow and
 * shrink by need in steps, rows are moved so that no hole stays, and views over the first rows make a step cost only what
 * is alive. On the host rows are copied by their filled part; on a device a small graph rearranges whole buffers.
 */
import type { Engine, EngineTensor, Program } from "../../../lib/engine/index.js";
import { concat, Graph, gather } from "../../../lib/graph/index.js";
import { cacheName, presentName } from "../../../lib/models/gpt2-rollout.js";
import { isHostMemory } from "./host-memory.js";

/** What a cache must hold. */
export interface CacheGeometry {
  readonly layers: number;
  readonly heads: number;
  /** d, width of a head. */
  readonly headSize: number;
  /** Most rows; buffers are never larger. */
  readonly maxRows: number;
  /** Most tokens of a row; buffers are never longer. */
  readonly maxTime: number;
}

/** Length in tokens to which buffers are rounded. */
const TIME_STEP = 64;

/** Capacity for `rows`: the next power of two. */
export function rowCapacity({ maxRows }: CacheGeometry, rows: number): number {
  return Math.min(maxRows, 2 ** Math.ceil(Math.log2(Math.max(rows, 1))));
}

/** Capacity for `time` tokens: the next multiple of 64. */
export function timeCapacity({ maxTime }: CacheGeometry, time: number): number {
  return Math.min(maxTime, TIME_STEP * Math.ceil(Math.max(time, 1) / TIME_STEP));
}

/** Bytes of all buffers for these capacities. */
export function cacheBytes({ layers, heads, headSize }: CacheGeometry, rows: number, time: number): number {
  return layers * 2 * rows * heads * time * headSize * Float32Array.BYTES_PER_ELEMENT;
}

/** A row copied to another place. */
export interface RowCopy {
  readonly from: number;
  readonly to: number;
  /** Filled tokens. */
  readonly length: number;
}

/** Views over some rows, as a rollout graph is fed and bound. */
export interface CacheView {
  /** By input name. */
  readonly past: Readonly<Record<string, EngineTensor>>;
  /** By output name: the same tensors. */
  readonly present: Readonly<Record<string, EngineTensor>>;
}

/** The cache of the rows that share one set of weights. */
export class KvCache {
  #buffers: EngineTensor[] = [];
  #rows = 0;
  #time = 0;
  #views = new Map<string, { view: CacheView; tensors: EngineTensor[] }>();
  readonly #programs = new Map<boolean, Promise<Program>>();
  readonly #names: readonly { past: string; present: string }[];

  constructor(
    private readonly engine: Engine,
    readonly geometry: CacheGeometry,
    /** Whether the engine's memory is the host's own, so that rows can be copied in place. */
    private readonly onHost = isHostMemory(engine),
  ) {
    this.#names = Array.from({ length: geometry.layers }, (_, layer) =>
      (["key", "value"] as const).map((kind) => ({
        past: cacheName(layer, kind),
        present: presentName(layer, kind),
      })),
    ).flat();
  }

  /** Rows that fit. */
  get rows(): number {
    return this.#rows;
  }

  /** Tokens a row can hold. */
  get time(): number {
    return this.#time;
  }

  /** Bytes of the buffers. */
  get bytes(): number {
    return cacheBytes(this.geometry, this.#rows, this.#time);
  }

  /**
   * Makes room for `rows` rows of `time` tokens; `filled[r]` tokens of row r are kept. Where buffers must grow in time
   * they grow by a quarter at least, but not beyond what `mostTime` tokens need.
   */
  async reserve(rows: number, time: number, filled: readonly number[], mostTime = time): Promise<void> {
    if (rows <= this.#rows && time <= this.#time) return;
    const { geometry } = this;
    const wanted =
      time > this.#time ? Math.max(time, Math.min(mostTime, Math.ceil(this.#time * 1.25))) : time;
    const newRows = rowCapacity(geometry, rows);
    const newTime = timeCapacity(geometry, Math.max(wanted, ...filled));
    this.#releaseViews();
    const dims = [newRows, geometry.heads, newTime, geometry.headSize];
    if (filled.length === 0) {
      this.#releaseBuffers();
      this.#buffers = this.#names.map(() => this.engine.tensor("float32", dims));
    } else if (this.onHost) {
      for (const [i, old] of this.#buffers.entries()) {
        const grown = this.engine.tensor("float32", dims);
        for (const [row, length] of filled.entries())
          this.#copy(old, this.#time, row, grown, newTime, row, length);
        this.#buffers[i] = grown;
        old.release(); // one block at a time, so that never two whole caches exist
      }
    } else {
      const order = Array.from({ length: newRows }, (_, row) => Math.min(row, this.#rows - 1));
      await this.#rearrangeAll(order, newTime);
    }
    this.#rows = newRows;
    this.#time = newTime;
  }

  /** Copies rows, all from what was there before; no target may be a later copy's source. */
  async copyRows(copies: readonly RowCopy[]): Promise<void> {
    const real = copies.filter(({ from, to }) => from !== to);
    if (real.length === 0) return;
    if (!this.onHost) {
      const order = Array.from({ length: this.#rows }, (_, row) => row);
      for (const { from, to } of real) order[to] = from;
      this.#releaseViews();
      await this.#rearrangeAll(order, this.#time);
      return;
    }
    for (const buffer of this.#buffers) {
      for (const { from, to, length } of real)
        this.#copy(buffer, this.#time, from, buffer, this.#time, to, length);
    }
  }

  /** Views over rows `first` to `first + count − 1`; valid until the next `reserve`, `copyRows` or `release`. */
  view(first: number, count: number): CacheView {
    const key = `${first} ${count}`;
    const known = this.#views.get(key);
    if (known) return known.view;
    if (this.#views.size >= 4) this.#releaseViews(); // the decode view changes seldom, prompt views never return
    const { heads, headSize } = this.geometry;
    const rowSize = heads * this.#time * headSize;
    const dims = [count, heads, this.#time, headSize];
    const tensors = this.#buffers.map((buffer) => buffer.view(dims, first * rowSize));
    const view = {
      past: Object.fromEntries(this.#names.map(({ past }, i) => [past, tensors[i]])),
      present: Object.fromEntries(this.#names.map(({ present }, i) => [present, tensors[i]])),
    };
    this.#views.set(key, { view, tensors });
    return view;
  }

  /** Gives the memory back; the cache can be used again. */
  release(): void {
    this.#releaseViews();
    this.#releaseBuffers();
    this.#rows = 0;
    this.#time = 0;
  }

  /** As `release`, and the device's helper programs go too. */
  async close(): Promise<void> {
    this.release();
    for (const program of await Promise.allSettled(this.#programs.values())) {
      if (program.status === "fulfilled") program.value.release();
    }
    this.#programs.clear();
  }

  /** The filled part of one row of one buffer, head by head. */
  #copy(
    source: EngineTensor,
    sourceTime: number,
    from: number,
    target: EngineTensor,
    targetTime: number,
    to: number,
    length: number,
  ): void {
    const { heads, headSize } = this.geometry;
    const input = source.data as Float32Array;
    const output = target.data as Float32Array;
    for (let head = 0; head < heads; head++) {
      const start = (from * heads + head) * sourceTime * headSize;
      output.set(
        input.subarray(start, start + length * headSize),
        (to * heads + head) * targetTime * headSize,
      );
    }
  }

  /** New buffers whose row r is the old row order[r], cut or extended to `newTime` tokens. */
  async #rearrangeAll(order: readonly number[], newTime: number): Promise<void> {
    const { heads, headSize } = this.geometry;
    const extra = Math.max(0, newTime - this.#time);
    const program = await this.#program(extra > 0);
    const slots = BigInt64Array.from({ length: newTime - extra }, (_, t) => BigInt(t));
    const feeds: Record<string, EngineTensor> = {
      rows: this.engine.tensor("int64", [order.length], BigInt64Array.from(order.map(BigInt))),
      slots: this.engine.tensor("int64", [slots.length], slots),
    };
    if (extra > 0) feeds.filler = this.engine.tensor("float32", [order.length, heads, extra, headSize]);
    try {
      for (const [i, old] of this.#buffers.entries()) {
        const { rearranged } = await program.run({ ...feeds, cache: old });
        this.#buffers[i] = rearranged;
        old.release();
      }
    } finally {
      for (const tensor of Object.values(feeds)) tensor.release();
    }
  }

  #program(extend: boolean): Promise<Program> {
    let program = this.#programs.get(extend);
    if (!program) {
      program = this.engine.compile(rearrangeGraph(this.geometry, extend));
      this.#programs.set(extend, program);
    }
    return program;
  }

  #releaseViews(): void {
    for (const { tensors } of this.#views.values()) for (const tensor of tensors) tensor.release();
    this.#views.clear();
  }

  #releaseBuffers(): void {
    for (const buffer of this.#buffers) buffer.release();
    this.#buffers = [];
  }
}

/** cache[rows][:, :, slots], followed by filler along time where it is extended. */
function rearrangeGraph({ heads, headSize }: CacheGeometry, extend: boolean): Graph {
  const graph = new Graph(`kv-${extend ? "extend" : "rearrange"}`);
  const cache = graph.input("cache", "float32", ["old_rows", heads, "old_time", headSize]);
  const rows = graph.input("rows", "int64", ["rows"]);
  const slots = graph.input("slots", "int64", ["kept"]);
  const kept = gather(gather(cache, rows, 0), slots, 2);
  const filler = () => graph.input("filler", "float32", ["rows", heads, "extra", headSize]);
  graph.output("rearranged", extend ? concat([kept, filler()], 2) : kept);
  return graph;
}
