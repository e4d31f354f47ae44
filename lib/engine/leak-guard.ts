/**
 * @file Counters and the safety net behind `Engine.stats()`. Release is explicit; should a caller forget, the garbage
 * collector's notice releases the native side late and counts a leak, so that tests can insist on none.
 */
import type { EngineStats } from "./types.js";

/** Something native that is released exactly once. */
export interface Releasable {
  /** Idempotent. */
  release(): void;
}

/** Live counts of one engine. */
export class LeakGuard {
  liveTensors = 0;
  liveValues = 0;
  programs = 0;
  bytes = 0;
  leaked = 0;
  /** Native sides alive, for `close`. They must not refer to the objects callers hold. */
  readonly #alive = new Set<Releasable>();
  readonly #registry = new FinalizationRegistry<Releasable>((native) => {
    if (!this.#alive.has(native)) return;
    this.leaked += 1;
    native.release();
  });

  /** Watches `owner` (what the caller holds); should it be collected while `native` lives, `native` is released. */
  watch(owner: object, native: Releasable): void {
    this.#alive.add(native);
    this.#registry.register(owner, native, native);
  }

  /** `native` was released. */
  forget(native: Releasable): void {
    this.#alive.delete(native);
    this.#registry.unregister(native);
  }

  /** Releases all that is alive. */
  releaseAll(): void {
    for (const native of [...this.#alive]) native.release();
  }

  stats(): EngineStats {
    const { liveTensors, liveValues, programs, bytes, leaked } = this;
    return { liveTensors, liveValues, programs, bytes, leaked };
  }
}
