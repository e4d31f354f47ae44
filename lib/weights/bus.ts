/**
 * @file The weights bus: versions of a model's weights, published by one trainer, taken up by any number of servers. What it
 * promises is written here once, over a transport (NATS or files) that only stores, compares and notifies.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { TensorSpec } from "../checkpoint/index.js";
import {
  counter,
  errorType,
  gauge,
  histogram,
  injectTraceparent,
  type Log,
  SpanKind,
  silentLog,
  withSpan,
} from "../telemetry/index.js";
import {
  WeightsCancelledError,
  WeightsConflictError,
  WeightsCorruptError,
  WeightsDeadlineError,
} from "./errors.js";
import { fetchObject } from "./fetch-object.js";
import { isSamePublish, objectName, type WeightsManifest } from "./manifest.js";
import { digestFinite, layOut, objectMetadata, pieces, type WeightTensor } from "./object-bytes.js";
import { deletable } from "./retention.js";
import type { Transport } from "./transport.js";
import { Bell, withDeadline } from "./waiting.js";

/** What a server says about itself. */
export interface ServerStatus {
  /** Who: unique among the servers of a run. */
  instance: string;
  /** The version that the state is about. */
  version: number;
  state: "loading" | "serving" | "failed";
  /** Time from seeing the head to this state, ms. */
  tookMs: number;
  /** Why it failed. */
  reason?: string;
  /** Version that it serves while it loads another or failed to. */
  servingVersion?: number;
  /** When it was said, ISO 8601; set by the bus. */
  at?: string;
}

/** Options of publish. */
export interface PublishOptions {
  /** Must be above the head's. */
  version: number;
  /** Span to publish under; default: the active one. */
  traceparent?: string;
  /** Publishes NaN and infinities too; for tests of what servers do with them. Default false. */
  allowNonFinite?: boolean;
  signal?: AbortSignal;
}

/** Options of fetch. */
export interface FetchOptions {
  /** For the whole object, ms; default 120000. */
  deadlineMs?: number;
  signal?: AbortSignal;
  /** The parameters of the model: names and shapes must match exactly. */
  expected?: readonly TensorSpec[];
}

/** Options of waitForServing. */
export interface WaitOptions {
  /** Longest wait, ms. */
  deadlineMs: number;
  signal?: AbortSignal;
}

/** Versioned weights of one model of one run. */
export interface WeightsBus {
  /** `nats` or `file`. */
  readonly kind: string;
  /** Where it is, without secrets. */
  readonly address: string;
  readonly run: string;
  readonly model: string;

  /**
   * Writes the tensors as a new object and moves the head to it. The tensors' numbers must not change meanwhile. Throws WeightsConflictError
   * when the head is at this version or above (also when somebody else gets there first: then nothing of ours stays),
   * WeightsNotFiniteError, BusUnavailableError.
   */
  publish(tensors: ReadonlyMap<string, WeightTensor>, options: PublishOptions): Promise<WeightsManifest>;
  /** The newest version, or undefined before the first. Throws WeightsCorruptError, BusUnavailableError. */
  head(): Promise<WeightsManifest | undefined>;
  /**
   * Calls `onHead` with the head now, if there is one, and whenever it is another; newest wins, versions may be skipped. Survives any
   * loss of the bus. Resolves when `signal` aborts. What `onHead` throws is logged.
   */
  watch(onHead: (manifest: WeightsManifest) => void, signal: AbortSignal): Promise<void>;
  /**
   * Reads and verifies one version: length, names, shapes, types, digest, finiteness. Each array has an ArrayBuffer of its own. Throws
   * WeightsCorruptError, WeightsGoneError, WeightsDeadlineError, WeightsCancelledError, BusUnavailableError.
   */
  fetch(manifest: WeightsManifest, options?: FetchOptions): Promise<{ tensors: Map<string, Float32Array> }>;
  /** Says what this server does now. It counts for `statusTtlMs`: repeat it. */
  report(status: ServerStatus): Promise<void>;
  /** What live servers last said, by instance. */
  statuses(): Promise<ServerStatus[]>;
  /** Waits until `n` servers serve `version` or newer; returns their statuses. Throws WeightsDeadlineError naming who is behind. */
  waitForServing(version: number, n: number, options: WaitOptions): Promise<ServerStatus[]>;
  /** Deletes versions that nobody needs, keeping the newest `keep`; returns the names of what was deleted. */
  prune(keep: number): Promise<string[]>;
  /** Ends watches and the connection. */
  close(): Promise<void>;
}

/** Options common to all buses. */
export interface BusOptions {
  run: string;
  model: string;
  /** Default: none. */
  log?: Log;
  /** Name in manifests; default: host, process and a random part. */
  publisher?: string;
  /** How long a status counts, ms; default 60000. */
  statusTtlMs?: number;
  /** Longest wait for the next chunk of an object, ms; default 10000. */
  stallMs?: number;
  /** How often a watch looks for itself, in case a notification was lost, ms; default 5000 (nats), 500 (file). */
  pollMs?: number;
  /** Objects younger than this are never pruned, ms; default 10000. */
  pruneGraceMs?: number;
  /** Parts of publishes that were interrupted are pruned when nobody has written to them for so long, ms; default 600000. */
  leftoverMs?: number;
}

const publishSeconds = histogram("rlhf.weights.publish.duration");
const fetchSeconds = histogram("rlhf.weights.fetch.duration");
const ioBytes = counter("rlhf.weights.io");
const versionGauge = gauge("rlhf.weights.version");

/** The bus over any transport. */
export class VersionedBus implements WeightsBus {
  readonly kind: string;
  readonly address: string;
  readonly run: string;
  readonly model: string;
  readonly #transport: Transport;
  readonly #log: Log;
  readonly #publisher: string;
  readonly #stallMs: number;
  readonly #pruneGraceMs: number;
  readonly #leftoverMs: number;
  readonly #closing = new AbortController();

  constructor(transport: Transport, options: BusOptions) {
    this.#transport = transport;
    this.kind = transport.kind;
    this.address = transport.address;
    this.run = options.run;
    this.model = options.model;
    this.#log = options.log ?? silentLog();
    this.#publisher = options.publisher ?? `${hostname()}-${process.pid}-${randomBytes(4).toString("hex")}`;
    this.#stallMs = options.stallMs ?? 10_000;
    this.#pruneGraceMs = options.pruneGraceMs ?? 10_000;
    this.#leftoverMs = options.leftoverMs ?? 600_000;
  }

  async publish(
    tensors: ReadonlyMap<string, WeightTensor>,
    { version, traceparent, allowNonFinite = false, signal }: PublishOptions,
  ): Promise<WeightsManifest> {
    const attributes = { ...this.#attributes("send"), "rlhf.weight_version": version };
    return withSpan(
      "rlhf.weights.publish",
      { kind: SpanKind.PRODUCER, attributes, ...(traceparent !== undefined && { parent: traceparent }) },
      (span) =>
        timed(publishSeconds, { "rlhf.weights.bus": this.kind }, async () => {
          const before = await this.#transport.head();
          if (before && before.manifest.version >= version) {
            throw new WeightsConflictError(this.run, version, before.manifest);
          }
          const layout = layOut(tensors, objectMetadata(this.run, this.model, version));
          const digest = await digestFinite(tensors, version, allowNonFinite);
          const manifest: WeightsManifest = {
            run: this.run,
            model: this.model,
            version,
            digest,
            bytes: layout.bytes,
            object: objectName(this.run, version, digest),
            dtype: "F32",
            parameters: layout.parameters,
            createdAt: new Date().toISOString(),
            publisher: this.#publisher,
          };
          const ownTrace = injectTraceparent() ?? traceparent;
          if (ownTrace !== undefined) manifest.traceparent = ownTrace;
          span.setAttributes({ "rlhf.weights.digest": digest, "rlhf.weights.size": layout.bytes });
          await this.#transport.put(manifest, () => pieces(layout, tensors), signal);
          await this.#moveHead(manifest, before?.revision);
          ioBytes.add(layout.bytes, { "rlhf.weights.bus": this.kind, "rlhf.direction": "out" });
          versionGauge.record(version, { "rlhf.run": this.run, "rlhf.weights.role": "head" });
          this.#log.debug({ version, digest, bytes: layout.bytes }, "weights published");
          return manifest;
        }),
    );
  }

  /** Moves the head by compare-and-set until it is ours or another version makes that wrong. */
  async #moveHead(manifest: WeightsManifest, revision: unknown): Promise<void> {
    let seen = revision;
    while (!(await this.#transport.moveHead(manifest, seen))) {
      const now = await this.#transport.head();
      if (now && isSamePublish(now.manifest, manifest)) return; // an answer was lost, not the move
      if (now && now.manifest.version >= manifest.version) {
        if (now.manifest.object !== manifest.object) {
          await this.#transport.deleteObject(manifest.object).catch((err: Error) => {
            this.#log.warn({ err, object: manifest.object }, "weights of a lost race are left to prune");
          });
        }
        throw new WeightsConflictError(this.run, manifest.version, now.manifest);
      }
      seen = now?.revision;
    }
  }

  async head(): Promise<WeightsManifest | undefined> {
    return (await this.#transport.head())?.manifest;
  }

  async watch(onHead: (manifest: WeightsManifest) => void, signal: AbortSignal): Promise<void> {
    let last: WeightsManifest | undefined;
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    await this.#transport.watchHead((manifest) => {
      if (stop.aborted) return;
      if (last && isSamePublish(last, manifest)) return;
      // a notification that was overtaken by a later one; a head that really went back has another publisher or date
      if (last && manifest.version < last.version && manifest.createdAt <= last.createdAt) return;
      last = manifest;
      try {
        onHead(manifest);
      } catch (err) {
        this.#log.error({ err, version: manifest.version }, "a watcher of weights failed");
      }
    }, stop);
  }

  async fetch(
    manifest: WeightsManifest,
    { deadlineMs = 120_000, signal, expected }: FetchOptions = {},
  ): Promise<{ tensors: Map<string, Float32Array> }> {
    const attributes = {
      ...this.#attributes("receive"),
      "rlhf.weight_version": manifest.version,
      "rlhf.weights.size": manifest.bytes,
    };
    return withSpan("rlhf.weights.fetch", { kind: SpanKind.CONSUMER, attributes }, () =>
      timed(fetchSeconds, { "rlhf.weights.bus": this.kind }, () =>
        this.#fetch(manifest, expected, deadlineMs, signal),
      ),
    );
  }

  async #fetch(
    manifest: WeightsManifest,
    expected: readonly TensorSpec[] | undefined,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ tensors: Map<string, Float32Array> }> {
    if (manifest.run !== this.run || manifest.model !== this.model) {
      throw new WeightsCorruptError({
        object: manifest.object,
        version: manifest.version,
        expected: `weights of run ${this.run}, model ${this.model}`,
        found: `run ${manifest.run}, model ${manifest.model}`,
      });
    }
    const ended = AbortSignal.any([this.#closing.signal, ...(signal ? [signal] : [])]);
    const options = { deadlineMs, stallMs: this.#stallMs, expected };
    const tensors = await fetchObject(this.#transport, manifest, options, ended);
    ioBytes.add(manifest.bytes, { "rlhf.weights.bus": this.kind, "rlhf.direction": "in" });
    return { tensors };
  }

  async report(status: ServerStatus): Promise<void> {
    await this.#transport.putStatus({ ...status, at: new Date().toISOString() });
  }

  async statuses(): Promise<ServerStatus[]> {
    const found = await this.#transport.statuses();
    return found.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  async waitForServing(
    version: number,
    n: number,
    { deadlineMs, signal }: WaitOptions,
  ): Promise<ServerStatus[]> {
    const attributes = { "rlhf.weight_version": version, "rlhf.weights.servers": n };
    return withSpan("rlhf.weights.wait", { attributes }, async () => {
      const until = performance.now() + deadlineMs;
      const stop = new AbortController();
      const ended = AbortSignal.any([stop.signal, this.#closing.signal, ...(signal ? [signal] : [])]);
      const bell = new Bell();
      const watching = this.#transport.watchStatuses(() => bell.ring(), ended);
      let last: ServerStatus[] = [];
      let trouble: unknown;
      try {
        for (;;) {
          try {
            const left = Math.max(1, until - performance.now());
            last = await withDeadline(
              this.statuses(),
              left,
              () => new Error("the bus did not answer"),
              ended,
            );
            trouble = undefined;
          } catch (error) {
            trouble = error; // the bus may come back before the deadline
          }
          if (ended.aborted) throw new WeightsCancelledError(`waiting for servers of v${version}`);
          const serving = last.filter((status) => servedVersion(status) >= version);
          if (serving.length >= n) return serving;
          const left = until - performance.now();
          if (left <= 0)
            throw new WeightsDeadlineError(behind(version, n, deadlineMs, last, trouble), deadlineMs, {
              cause: trouble,
            });
          await bell.next(Math.min(left, 1000), ended);
        }
      } finally {
        stop.abort();
        await watching;
      }
    });
  }

  async prune(keep: number): Promise<string[]> {
    if (!Number.isInteger(keep) || keep < 1)
      throw new RangeError(`keep: ${keep} → a whole number of at least 1`);
    return withSpan("rlhf.weights.prune", { attributes: { "rlhf.weights.keep": keep } }, async () => {
      // objects first: what is published after this is not among them
      const objects = await this.#transport.listObjects();
      const head = await this.head();
      const statuses = await this.statuses();
      const unneeded = deletable({
        objects,
        head,
        statuses,
        keep,
        graceMs: this.#pruneGraceMs,
        now: Date.now(),
      });
      for (const { object } of unneeded) await this.#transport.deleteObject(object);
      await this.#transport.removeLeftovers(this.#leftoverMs);
      return unneeded.map(({ object }) => object);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#transport.close();
  }

  #attributes(operation: "send" | "receive") {
    return {
      "rlhf.weights.bus": this.kind,
      "rlhf.run": this.run,
      ...(this.kind === "nats" && {
        "messaging.system": "nats",
        "messaging.operation.type": operation,
        "messaging.destination.name": this.#transport.destination,
      }),
    };
  }
}

/** The version that a server answers with, or -1. */
export function servedVersion(status: ServerStatus): number {
  return status.state === "serving" ? status.version : (status.servingVersion ?? -1);
}

function behind(version: number, n: number, ms: number, statuses: ServerStatus[], trouble: unknown): string {
  const ready = statuses.filter((status) => servedVersion(status) >= version).length;
  const late = statuses
    .filter((status) => servedVersion(status) < version)
    .map((status) => {
      const served = servedVersion(status);
      const serves = served < 0 ? "serves nothing" : `serves v${served}`;
      if (status.state === "serving") return `${status.instance} ${serves}`;
      const doing =
        status.state === "failed"
          ? `failed v${status.version}: ${status.reason ?? "no reason"}`
          : `loads v${status.version}`;
      return `${status.instance} ${serves}, ${doing}`;
    });
  const missing = n - ready - late.length;
  if (missing > 0) late.push(`${missing} more ${missing === 1 ? "server has" : "servers have"} not reported`);
  if (trouble !== undefined) late.push(trouble instanceof Error ? trouble.message : String(trouble));
  return `weights v${version}: ${ready} of ${n} servers serve it after ${ms} ms; behind: ${late.join("; ")}`;
}

/** Runs `work` and records its seconds, with `error.type` when it fails. */
async function timed<T>(
  seconds: { record(value: number, attributes?: Record<string, string>): void },
  attributes: Record<string, string>,
  work: () => Promise<T>,
): Promise<T> {
  const start = performance.now();
  try {
    const result = await work();
    seconds.record((performance.now() - start) / 1000, attributes);
    return result;
  } catch (error) {
    seconds.record((performance.now() - start) / 1000, { ...attributes, "error.type": errorType(error) });
    throw error;
  }
}
