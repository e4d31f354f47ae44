/**
 * @file Memory behind tensors, counted: a view keeps its parent's memory, and memory goes when nothing uses it.
 */
import type { LeakGuard } from "./leak-guard.js";

/** Where a block lies. */
export interface StorageOptions {
  /** The block as bytes where the host can see it; keeps it from being collected. */
  host?: Uint8Array;
  /** Address for native code; 0n where none needs it. */
  address?: bigint;
  /** Called once when nothing uses the block any more. */
  free?: () => void;
}

/** A block of memory with one use to begin with. */
export class Storage {
  readonly byteLength: number;
  readonly address: bigint;
  readonly #guard: LeakGuard;
  readonly #free: (() => void) | undefined;
  #host: Uint8Array | undefined;
  #uses = 1;

  constructor(guard: LeakGuard, byteLength: number, { host, address = 0n, free }: StorageOptions) {
    this.#guard = guard;
    this.byteLength = byteLength;
    this.address = address;
    this.#host = host;
    this.#free = free;
    guard.bytes += byteLength;
  }

  /** The block as bytes; undefined on a device and after the last `drop`. */
  get host(): Uint8Array | undefined {
    return this.#host;
  }

  /** One more use. */
  retain(): void {
    this.#uses += 1;
  }

  /** One use less. */
  drop(): void {
    this.#uses -= 1;
    if (this.#uses > 0) return;
    this.#guard.bytes -= this.byteLength;
    this.#host = undefined;
    this.#free?.();
  }
}
