/**
 * @file The native side of a compiled graph: freed once, after the last run that uses it.
 */
import type { LeakGuard, Releasable } from "./leak-guard.js";

/** Something a run needs to stay alive. */
export interface Pinnable {
  pin(): void;
  unpin(): void;
}

/** A session of whichever binding, counted and pinned; knows nothing of the object the caller holds. */
export class NativeProgram implements Releasable, Pinnable {
  readonly #guard: LeakGuard;
  readonly #free: () => void;
  #pins = 0;
  #released = false;

  /** `free` gives the session back. */
  constructor(guard: LeakGuard, free: () => void) {
    this.#guard = guard;
    this.#free = free;
    guard.programs += 1;
  }

  get released(): boolean {
    return this.#released;
  }

  pin(): void {
    this.#pins += 1;
  }

  unpin(): void {
    this.#pins -= 1;
    if (this.#released && this.#pins === 0) this.#free();
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#guard.forget(this);
    this.#guard.programs -= 1;
    if (this.#pins === 0) this.#free();
  }
}

/** Runs `job` while all of `pinned` stay alive, whatever their owners release meanwhile. */
export async function pinned<T>(things: readonly Pinnable[], job: () => Promise<T>): Promise<T> {
  for (const thing of things) thing.pin();
  try {
    return await job();
  } finally {
    for (const thing of things) thing.unpin();
  }
}
