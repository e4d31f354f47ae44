/**
 * @file The sets of weights in memory. One serves new requests; older ones stay as long as a request that began with
 * them runs, and `keepVersions` more for rollback. A swap moves a pointer: nothing that runs is touched.
 */
import type { EngineTensor } from "../../../lib/engine/index.js";
import { VersionNotHeldError, WeightsConflictError } from "../errors.js";

/** Which weights. */
export interface WeightsIdentity {
  /** Rises by publication. */
  readonly version: number;
  /** SHA-256 of the canonical weights, hex. */
  readonly digest: string;
}

/** What a request demands of the weights that answer it. */
export interface VersionDemand {
  /** Least version. */
  readonly minVersion?: number;
  /** Exact version. */
  readonly version?: number;
}

/** One immutable set of weights. Whoever acquired it releases it; its memory goes when it is retired and nobody uses it. */
export class WeightSnapshot implements WeightsIdentity {
  #users = 0;
  #retired = false;
  readonly #onFree: (snapshot: WeightSnapshot) => void;

  constructor(
    readonly version: number,
    readonly digest: string,
    /** By the names of the model's parameters. */
    readonly tensors: ReadonlyMap<string, EngineTensor>,
    onFree: (snapshot: WeightSnapshot) => void,
  ) {
    this.#onFree = onFree;
  }

  /** Requests that hold these weights. */
  get users(): number {
    return this.#users;
  }

  /** Takes hold of the weights. */
  acquire(): this {
    this.#users++;
    return this;
  }

  /** Lets go of the weights. */
  release(): void {
    this.#users--;
    this.#freeIfUnused();
  }

  /** No new request may take these weights. */
  retire(): void {
    this.#retired = true;
    this.#freeIfUnused();
  }

  /** May be taken again. */
  unretire(): void {
    this.#retired = false;
  }

  #freeIfUnused(): void {
    if (!this.#retired || this.#users > 0) return;
    for (const tensor of this.tensors.values()) tensor.release();
    this.#onFree(this);
  }
}

/** Settings of a WeightStore. */
export interface WeightStoreOptions {
  /** Earlier versions kept for rollback after their last request ended. Default 0. */
  readonly keepVersions?: number;
  /** Sets in memory at most, the serving one included; a further load waits until one is freed. Default 3. */
  readonly maxHeld?: number;
}

/** The weights of one server. */
export class WeightStore {
  #serving: WeightSnapshot | undefined;
  /** Retired or kept sets that are still in memory, newest first. */
  #earlier: WeightSnapshot[] = [];
  readonly #keep: number;
  readonly #maxHeld: number;
  #waiting: (() => void)[] = [];
  #freed: () => void = () => {};

  constructor({ keepVersions = 0, maxHeld = 3 }: WeightStoreOptions = {}) {
    this.#keep = keepVersions;
    this.#maxHeld = Math.max(maxHeld, keepVersions + 2);
  }

  /** Calls `listener` whenever a set has left memory, except at the end of the store. */
  onFreed(listener: () => void): void {
    this.#freed = listener;
  }

  /** The set that new requests get. Throws before the first `swap`. */
  get serving(): WeightSnapshot {
    if (!this.#serving) throw new VersionNotHeldError("of any version", []);
    return this.#serving;
  }

  /** Every set in memory, newest first. */
  held(): WeightsIdentity[] {
    const all = this.#serving ? [this.#serving, ...this.#earlier] : this.#earlier;
    return all.map(({ version, digest }) => ({ version, digest })).sort((a, b) => b.version - a.version);
  }

  /** Takes hold of the set that a request gets. Throws VersionNotHeldError. */
  acquire({ minVersion, version }: VersionDemand = {}): WeightSnapshot {
    const { serving } = this;
    const held = () => this.held().map((set) => set.version);
    if (version !== undefined) {
      const exact = [serving, ...this.#earlier].find((set) => set.version === version);
      if (!exact) throw new VersionNotHeldError(`version ${version}`, held());
      return exact.acquire();
    }
    if (minVersion !== undefined && serving.version < minVersion) {
      throw new VersionNotHeldError(`version ${minVersion} or later`, held());
    }
    return serving.acquire();
  }

  /** Waits until one more set may be held. Rejects with the signal's reason. */
  async room(signal?: AbortSignal): Promise<void> {
    while (this.held().length >= this.#maxHeld) {
      signal?.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const wake = () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        };
        const abort = () => {
          this.#waiting = this.#waiting.filter((waiter) => waiter !== wake);
          reject(signal?.reason as Error);
        };
        signal?.addEventListener("abort", abort, { once: true });
        this.#waiting.push(wake);
      });
    }
  }

  /**
   * Serves a new set from now on; requests that run keep theirs. Takes the tensors over. Throws WeightsConflictError
   * unless the version is above the serving one; the tensors are then still the caller's.
   */
  swap(weights: WeightsIdentity & { readonly tensors: ReadonlyMap<string, EngineTensor> }): WeightSnapshot {
    const before = this.#serving;
    if (before && weights.version <= before.version) {
      throw new WeightsConflictError(
        `weights v${weights.version}: expected a version above the serving v${before.version}`,
      );
    }
    const next = new WeightSnapshot(weights.version, weights.digest, weights.tensors, (freed) =>
      this.#forget(freed),
    );
    this.#serving = next;
    if (before) this.#earlier.unshift(before);
    this.#retireBeyondKept();
    return next;
  }

  /** Serves a set in memory again. Throws VersionNotHeldError. */
  rollback(version: number): WeightSnapshot {
    const { serving } = this;
    if (serving.version === version) return serving;
    const target = this.#earlier.find((set) => set.version === version);
    if (!target) {
      throw new VersionNotHeldError(
        `version ${version}`,
        this.held().map((set) => set.version),
      );
    }
    target.unretire();
    this.#serving = target;
    this.#earlier = [serving, ...this.#earlier.filter((set) => set !== target)];
    this.#retireBeyondKept();
    return target;
  }

  /** Retires everything. Sets still in use go when their last request ends. */
  close(): void {
    const all = this.#serving ? [this.#serving, ...this.#earlier] : [...this.#earlier];
    this.#serving = undefined;
    this.#earlier = all;
    for (const set of all) set.retire();
  }

  #retireBeyondKept(): void {
    for (const [i, set] of [...this.#earlier].entries()) if (i >= this.#keep) set.retire();
  }

  #forget(freed: WeightSnapshot): void {
    this.#earlier = this.#earlier.filter((set) => set !== freed);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
    if (this.#serving) this.#freed();
  }
}
