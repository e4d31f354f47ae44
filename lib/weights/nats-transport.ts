/**
 * @file Weights over NATS JetStream: objects in an object store per run, the head and the servers' statuses in key-value buckets.
 *
 *   object store  rlhf-weights-<run>      <run>/<version>-<digest>     written once
 *   key-value     rlhf-weights-head       <run>.<model>                the manifest; moved by compare-and-set
 *   key-value     rlhf-weights-status     <run>.<model>.<instance>     forgotten after statusTtlMs
 *
 * Works with servers from 2.9.10. A store that was lost is made again by the next publish.
 */
import { type JetStreamClient, type JetStreamManager, StorageType } from "@nats-io/jetstream";
import { type KV, Kvm } from "@nats-io/kv";
import { type ObjectInfo, Objm, setSha256Backend } from "@nats-io/obj";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Log } from "../telemetry/index.js";
import type { BusOptions, ServerStatus } from "./bus.js";
import { BusUnavailableError, WeightsCancelledError } from "./errors.js";
import { parseManifest, safeName, versionOfObject, type WeightsManifest } from "./manifest.js";
import {
  connectNats,
  isBucketMissing,
  isWrongRevision,
  jetStreamOf,
  type NatsAccess,
  parseNatsAddress,
} from "./nats-connection.js";
import { deleteObject, type ObjectBucket, putObject, readObject } from "./nats-objects.js";
import type { StoredObject } from "./retention.js";
import type { HeadEntry, Transport } from "./transport.js";
import { Bell, keepDoing } from "./waiting.js";

/** Options that only NATS has. */
export interface NatsOptions extends NatsAccess {
  /** How long to try the first connection, ms; default 10000. */
  connectTimeoutMs?: number;
  /** Longest wait for an answer of the server, ms; default 5000. */
  requestTimeoutMs?: number;
  /** Copies of each bucket in a cluster; default 1. */
  replicas?: number;
  /** Bytes of a chunk; default 524288. */
  chunkBytes?: number;
  /** Most bytes in flight, each way; default 8 MiB. */
  windowBytes?: number;
}

const HEADS = "rlhf-weights-head";
const STATUSES = "rlhf-weights-status";

setSha256Backend("native"); // the default hashes in JavaScript, five to eight times slower

/** Transport over NATS. */
export class NatsTransport implements Transport {
  readonly kind = "nats";
  readonly address: string;
  readonly destination: string;
  readonly #key: string;
  readonly #connection: NatsConnection;
  readonly #js: JetStreamClient;
  readonly #log: Log;
  readonly #options: BusOptions & NatsOptions;
  readonly #reconnected: Set<Bell>;
  #heads!: KV;
  #statuses!: KV;
  #objects!: ObjectBucket;

  private constructor(
    connection: NatsConnection,
    address: string,
    options: BusOptions & NatsOptions,
    log: Log,
    reconnected: Set<Bell>,
  ) {
    this.address = address;
    this.destination = `rlhf-weights-${safeName(options.run)}`;
    this.#key = `${safeName(options.run)}.${safeName(options.model)}`;
    this.#connection = connection;
    this.#js = jetStreamOf(connection, options.requestTimeoutMs ?? 5000);
    this.#options = options;
    this.#log = log;
    this.#reconnected = reconnected;
  }

  /** Connects and makes the buckets that are not there. Throws BusAddressError, BusUnavailableError. */
  static async open(url: string, options: BusOptions & NatsOptions, log: Log): Promise<NatsTransport> {
    const address = parseNatsAddress(url);
    const reconnected = new Set<Bell>();
    const connection = await connectNats(address, options, {
      name: `rlhf-mesh weights ${options.run}`,
      timeoutMs: options.connectTimeoutMs ?? 10_000,
      log,
      onReconnect: () => {
        for (const bell of reconnected) bell.ring();
      },
    });
    try {
      const transport = new NatsTransport(connection, address.shown, options, log, reconnected);
      await transport.#openBuckets();
      return transport;
    } catch (cause) {
      await connection.close();
      if (cause instanceof BusUnavailableError) throw cause;
      throw new BusUnavailableError(address.shown, "open the buckets (is JetStream enabled?)", cause);
    }
  }

  async #openBuckets(): Promise<void> {
    const {
      replicas = 1,
      statusTtlMs = 60_000,
      chunkBytes = 512 << 10,
      windowBytes = 8 << 20,
    } = this.#options;
    const kvm = new Kvm(this.#js);
    const common = { history: 1, replicas, storage: StorageType.File };
    this.#heads = await kvm.create(HEADS, common);
    this.#statuses = await kvm.create(STATUSES, { ...common, ttl: statusTtlMs });
    const store = await new Objm(this.#js).create(this.destination, { replicas, storage: StorageType.File });
    const manager: JetStreamManager = await this.#js.jetstreamManager();
    const maxPayload = this.#connection.info?.max_payload ?? 1 << 20;
    this.#objects = {
      name: this.destination,
      store,
      js: this.#js,
      manager,
      chunkBytes: Math.min(chunkBytes, maxPayload),
      windowBytes,
    };
  }

  async head(): Promise<HeadEntry | undefined> {
    // asks the stream's leader, which a key-value get need not
    const entry = await this.#do("read the head", () =>
      this.#objects.manager.streams.getMessage(`KV_${HEADS}`, { last_by_subj: `$KV.${HEADS}.${this.#key}` }),
    );
    if (!entry || entry.data.length === 0) return undefined;
    return { manifest: parseManifest(entry.string(), `key ${this.#key}`), revision: entry.seq };
  }

  async moveHead(manifest: WeightsManifest, revision: unknown): Promise<boolean> {
    const value = JSON.stringify(manifest);
    try {
      await this.#do("move the head", () =>
        revision === undefined
          ? this.#heads.create(this.#key, value)
          : this.#heads.update(this.#key, value, revision as number),
      );
      return true;
    } catch (error) {
      if (isWrongRevision(error)) return false;
      // the answer may be lost and the head moved all the same: the caller looks
      if (!(error instanceof BusUnavailableError)) throw error;
      const now = await this.head();
      if (now?.manifest.object === manifest.object && now.manifest.publisher === manifest.publisher)
        return false;
      throw error;
    }
  }

  put(manifest: WeightsManifest, bytes: () => Iterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    return this.#do(`write ${manifest.object}`, async () => {
      try {
        await putObject(this.#objects, manifest, bytes(), signal);
      } catch (error) {
        if (signal?.aborted)
          throw new WeightsCancelledError(`publish of v${manifest.version}`, { cause: error });
        throw error;
      }
    });
  }

  async *read(manifest: WeightsManifest, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* readObject(this.#objects, manifest, signal);
    } catch (error) {
      throw this.#explain(`read ${manifest.object}`, error);
    }
  }

  deleteObject(object: string): Promise<void> {
    return this.#do(`delete ${object}`, () => deleteObject(this.#objects, object));
  }

  removeLeftovers(olderThanMs: number): Promise<void> {
    return this.#do("remove leftovers", async () => {
      const stream = `OBJ_${this.destination}`;
      const chunks = `$O.${this.destination}.C.`;
      const { manager } = this.#objects;
      // chunks first: an object that is finished after this has its meta message in the second list
      const { state } = await manager.streams.info(stream, { subjects_filter: `${chunks}>` });
      const metas = await this.#lastMessages<ObjectInfo>(stream, `$O.${this.destination}.M.>`);
      const finished = new Set(metas.filter(({ deleted }) => !deleted).map(({ nuid }) => `${chunks}${nuid}`));
      for (const subject of Object.keys(state.subjects ?? {})) {
        if (finished.has(subject)) continue;
        const last = await manager.streams.getMessage(stream, { last_by_subj: subject });
        if (!last || Date.now() - last.time.getTime() < olderThanMs) continue;
        await manager.streams.purge(stream, { filter: subject });
      }
    });
  }

  async listObjects(): Promise<StoredObject[]> {
    const name = this.destination;
    const all = await this.#do("list objects", () =>
      this.#lastMessages<ObjectInfo>(`OBJ_${name}`, `$O.${name}.M.>`),
    );
    return all.flatMap(({ name, size, mtime, deleted, metadata }) => {
      const version = versionOfObject(name);
      if (deleted || version === undefined || metadata?.model !== this.#options.model) return [];
      return { object: name, version, size, writtenAt: Date.parse(mtime) };
    });
  }

  async watchHead(onHead: (manifest: WeightsManifest) => void, signal: AbortSignal): Promise<void> {
    let lastTrouble = "";
    const trouble = (err: Error) => {
      // said once, not at every attempt while the bus is away
      if (err.message !== lastTrouble) this.#log.warn({ err }, "the head of the weights cannot be read");
      lastTrouble = err.message;
    };
    const look = async () => {
      try {
        const entry = await this.head();
        lastTrouble = "";
        if (entry) onHead(entry.manifest);
      } catch (error) {
        trouble(error as Error);
      }
    };
    await this.#watch(this.#key, () => this.#heads, look, signal);
  }

  async putStatus(status: ServerStatus): Promise<void> {
    const key = `${this.#key}.${safeName(status.instance)}`;
    await this.#do("write a status", () => this.#statuses.put(key, JSON.stringify(status)));
  }

  statuses(): Promise<ServerStatus[]> {
    const subject = `$KV.${STATUSES}.${this.#key}.*`;
    return this.#do("read statuses", () => this.#lastMessages<ServerStatus>(`KV_${STATUSES}`, subject));
  }

  watchStatuses(onChange: () => void, signal: AbortSignal): Promise<void> {
    return this.#watch(
      `${this.#key}.*`,
      () => this.#statuses,
      async () => onChange(),
      signal,
    );
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /**
   * Calls `look` now, when the bucket says that a key changed, when the connection is back, and every `pollMs`: a watch can end silently when
   * the server loses its store.
   */
  async #watch(key: string, bucket: () => KV, look: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const bell = new Bell();
    this.#reconnected.add(bell);
    const notified = keepDoing(
      async () => {
        const changes = await bucket().watch({ key });
        const stop = () => changes.stop();
        signal.addEventListener("abort", stop, { once: true });
        if (signal.aborted) stop();
        try {
          for await (const _ of changes) bell.ring();
        } finally {
          signal.removeEventListener("abort", stop);
        }
      },
      signal,
      (err) => this.#log.debug({ err, key }, "no notification of changes, looking now and then"),
    );
    while (!signal.aborted) {
      await look();
      await bell.next(this.#options.pollMs ?? 5000, signal);
    }
    this.#reconnected.delete(bell);
    await notified;
  }

  /**
   * The last message of every subject of a stream that fits a filter, by plain requests: the client's own listings wait on a
   * consumer and can hang when a value is replaced meanwhile.
   */
  async #lastMessages<T>(stream: string, filter: string): Promise<T[]> {
    const { manager } = this.#objects;
    const { state } = await manager.streams.info(stream, { subjects_filter: filter });
    const found: T[] = [];
    for (const subject of Object.keys(state.subjects ?? {})) {
      const message = await manager.streams.getMessage(stream, { last_by_subj: subject });
      if (message && message.data.length > 0) found.push(message.json<T>());
    }
    return found;
  }

  /** Runs one request; when a bucket is missing, makes the buckets and tries once more. */
  async #do<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isBucketMissing(error)) throw this.#explain(what, error);
    }
    this.#log.warn({ where: this.address }, "weights bus: the server lost its buckets, making them again");
    try {
      await this.#openBuckets();
      return await work();
    } catch (error) {
      throw this.#explain(what, error);
    }
  }

  /** Errors of the client become BusUnavailableError; ours, and lost compare-and-sets, stay as they are. */
  #explain(what: string, error: unknown): unknown {
    const ours = error instanceof Error && typeof (error as { code?: unknown }).code === "string";
    if (ours || isWrongRevision(error)) return error;
    return new BusUnavailableError(this.address, what, error);
  }
}
