/** @file What a bus needs from below: a place for objects, a head moved by compare-and-set, statuses, and word of changes. */
import type { ServerStatus } from "./bus.js";
import type { WeightsManifest } from "./manifest.js";
import type { StoredObject } from "./retention.js";

/** The head, and what compare-and-set compares. */
export interface HeadEntry {
  readonly manifest: WeightsManifest;
  /** Opaque; handed back to moveHead. */
  readonly revision: unknown;
}

/** Storage and notification under a bus. Every failure of its own is a BusUnavailableError unless said otherwise. */
export interface Transport {
  readonly kind: "nats" | "file";
  /** Where it is, without secrets. */
  readonly address: string;
  /** Bucket or folder of the objects. */
  readonly destination: string;

  /** The head now. Throws WeightsCorruptError when it is no manifest. */
  head(): Promise<HeadEntry | undefined>;
  /** Moves the head if it still is at `revision` (undefined: if there is none). False when somebody was faster, or an answer was lost. */
  moveHead(manifest: WeightsManifest, revision: unknown): Promise<boolean>;
  /** Writes an object, once: when it is there already, nothing happens. A failed write leaves nothing that can be read. */
  put(manifest: WeightsManifest, bytes: () => Iterable<Uint8Array>, signal?: AbortSignal): Promise<void>;
  /**
   * The bytes of an object in order; a chunk is valid until the next is asked for. At most a few MB are in flight. Throws
   * WeightsGoneError, WeightsCorruptError when it has another length.
   */
  read(manifest: WeightsManifest, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Deletes an object; one that is not there is fine. */
  deleteObject(object: string): Promise<void>;
  /** Removes what interrupted publishes left and nobody has written to for `olderThanMs`. */
  removeLeftovers(olderThanMs: number): Promise<void>;
  /** All objects of the model. */
  listObjects(): Promise<StoredObject[]>;
  /** Calls back with the head now and after each change, possibly more often; resolves when `signal` aborts. Never rejects. */
  watchHead(onHead: (manifest: WeightsManifest) => void, signal: AbortSignal): Promise<void>;
  /** Stores what one server says of itself. */
  putStatus(status: ServerStatus): Promise<void>;
  /** Statuses that still count. */
  statuses(): Promise<ServerStatus[]>;
  /** Calls back after any status changed, possibly more often; resolves when `signal` aborts. Never rejects. */
  watchStatuses(onChange: () => void, signal: AbortSignal): Promise<void>;
  /** Ends everything. */
  close(): Promise<void>;
}
