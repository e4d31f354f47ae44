/**
 * @file Keeps a server at the head of the bus: sees a new version, fetches and verifies it beside what is served, hands it over, and
 * reports. Whatever goes wrong, the version that is served stays. Used by a policy server's worker.
 */
import type { TensorSpec } from "../checkpoint/index.js";
import {
  contextFromTraceparent,
  counter,
  errorType,
  gauge,
  histogram,
  type Log,
  linkFromTraceparent,
  SpanKind,
  silentLog,
  withSpan,
} from "../telemetry/index.js";
import { type ServerStatus, servedVersion, type WeightsBus } from "./bus.js";
import { WeightsCancelledError, WeightsDeadlineError } from "./errors.js";
import type { WeightsManifest } from "./manifest.js";
import { Bell, pause } from "./waiting.js";

/** A version that a server answers with. */
export interface ServedVersion {
  readonly version: number;
  /** Content digest, 64 hex digits. */
  readonly digest: string;
}

/** Options of WeightsFollower. */
export interface FollowerOptions {
  bus: WeightsBus;
  /** Name of this server, unique in the run. */
  instance: string;
  /**
   * Takes over verified tensors: puts them where the next step reads them, and resolves when they serve. The arrays are the
   * callee's to keep. When it throws, the old version must still serve.
   */
  apply: (
    version: number,
    digest: string,
    tensors: Map<string, Float32Array>,
    manifest: WeightsManifest,
  ) => Promise<void> | void;
  /** What is served at the start, e.g. loaded from a checkpoint. */
  serving?: ServedVersion;
  /** Parameters of the model; names and shapes must match exactly. */
  expected?: readonly TensorSpec[];
  /** For one fetch, ms; default 120000. */
  deadlineMs?: number;
  /** How often the status is repeated, ms; default 15000. */
  heartbeatMs?: number;
  /** First pause before a fetch that failed for want of the bus is tried again, ms; doubles up to 30 s; default 500. */
  retryMs?: number;
  /** Default: none. */
  log?: Log;
  /** Called after each change of status. */
  onStatus?: (status: ServerStatus) => void;
}

const applySeconds = histogram("rlhf.weights.apply.duration");
const failures = counter("rlhf.weights.failures");
const superseded = counter("rlhf.weights.superseded");
const lag = gauge("rlhf.weights.lag");
const versionGauge = gauge("rlhf.weights.version");

/** Follows the head of a bus until stopped. */
export class WeightsFollower {
  readonly #options: FollowerOptions;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #wake = new Bell();
  readonly #waiters = new Set<() => void>();
  #serving: ServedVersion | undefined;
  #wanted: { manifest: WeightsManifest; seenAt: number } | undefined; // newest head that is not taken up yet
  #head: WeightsManifest | undefined;
  #status: ServerStatus | undefined;
  #running: Promise<unknown> | undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog();
    this.#serving = options.serving;
  }

  /** What is served now, or undefined before the first version. */
  get serving(): ServedVersion | undefined {
    return this.#serving;
  }

  /** The newest version seen on the bus. */
  get head(): WeightsManifest | undefined {
    return this.#head;
  }

  /** What was last reported. */
  get status(): ServerStatus | undefined {
    return this.#status;
  }

  /** Begins to follow. Returns at once. */
  start(): void {
    if (this.#running) throw new Error("the follower was started before");
    const { signal } = this.#stop;
    if (this.#serving) this.#report({ state: "serving", version: this.#serving.version, tookMs: 0 });
    this.#running = Promise.all([
      this.#options.bus.watch((manifest) => this.#see(manifest), signal),
      this.#follow(signal),
      this.#repeatStatus(signal),
    ]);
  }

  /** Stops following; what is served stays. A fetch in progress is abandoned, an apply in progress is waited for. */
  async stop(): Promise<void> {
    this.#stop.abort();
    for (const wake of this.#waiters) wake();
    await this.#running;
  }

  /**
   * Resolves when `version` or a newer one is served. Throws WeightsDeadlineError naming what holds it up, WeightsCancelledError.
   */
  async whenServing(
    version: number,
    { deadlineMs, signal }: { deadlineMs: number; signal?: AbortSignal },
  ): Promise<ServedVersion> {
    const until = performance.now() + deadlineMs;
    for (;;) {
      if (this.#serving && this.#serving.version >= version) return this.#serving;
      if (signal?.aborted || this.#stop.signal.aborted)
        throw new WeightsCancelledError(`waiting for v${version}`);
      const left = until - performance.now();
      if (left <= 0) throw new WeightsDeadlineError(this.#explainWait(version, deadlineMs), deadlineMs);
      const woken = new AbortController();
      const wake = () => woken.abort();
      this.#waiters.add(wake);
      await pause(left, signal ? AbortSignal.any([signal, woken.signal]) : woken.signal);
      this.#waiters.delete(wake);
    }
  }

  /** A head came: the newest waits its turn, an older one that still waited is dropped. */
  #see(manifest: WeightsManifest): void {
    this.#head = manifest;
    const { version, digest } = manifest;
    this.#recordLag();
    if (this.#serving && version < this.#serving.version) {
      this.#log.warn(
        { head: version, serving: this.#serving.version },
        "the head is behind what is served: kept",
      );
      this.#wanted = undefined;
      return;
    }
    if (this.#serving?.version === version && this.#serving.digest === digest) {
      this.#wanted = undefined;
      return;
    }
    if (this.#wanted) superseded.add(1);
    this.#wanted = { manifest, seenAt: performance.now() };
    this.#wake.ring();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const firstPause = this.#options.retryMs ?? 500;
    let retryPause = firstPause;
    while (!signal.aborted) {
      const wanted = this.#wanted;
      if (!wanted) {
        await this.#wake.next(60_000, signal);
        continue;
      }
      this.#wanted = undefined;
      const error = await this.#takeUp(wanted.manifest, wanted.seenAt, signal);
      if (error === undefined) {
        retryPause = firstPause;
        continue;
      }
      // damaged or unfit weights stay so: wait for the next head; a bus that is away comes back
      if (!isWorthRetrying(error)) continue;
      await this.#wake.next(retryPause, signal);
      retryPause = Math.min(retryPause * 2, 30_000);
      this.#wanted ??= wanted;
    }
  }

  /** Fetches and applies one version under the publisher's trace. Returns what went wrong. */
  async #takeUp(manifest: WeightsManifest, seenAt: number, signal: AbortSignal): Promise<unknown> {
    const { bus, apply, expected, deadlineMs = 120_000 } = this.#options;
    const { version, digest } = manifest;
    const took = () => Math.round(performance.now() - seenAt);
    this.#report({ state: "loading", version, tookMs: took() });
    try {
      await withSpan(
        "rlhf.weights.apply",
        {
          kind: SpanKind.CONSUMER,
          parent: contextFromTraceparent(manifest.traceparent),
          links: [linkFromTraceparent(manifest.traceparent)],
          attributes: {
            "rlhf.weight_version": version,
            "rlhf.weights.digest": digest,
            "rlhf.instance": this.#options.instance,
          },
        },
        async () => {
          const { tensors } = await bus.fetch(manifest, {
            deadlineMs,
            signal,
            ...(expected && { expected }),
          });
          signal.throwIfAborted();
          await apply(version, digest, tensors, manifest);
        },
      );
    } catch (error) {
      if (signal.aborted) return undefined;
      applySeconds.record(took() / 1000, { "rlhf.outcome": "failed" });
      failures.add(1, { "error.type": errorType(error) });
      this.#log.error(
        { err: error, version, serving: this.#serving?.version },
        "weights not taken up, the old ones serve on",
      );
      const reason = error instanceof Error ? error.message : String(error);
      this.#report({ state: "failed", version, tookMs: took(), reason });
      return error;
    }
    this.#serving = { version, digest };
    applySeconds.record(took() / 1000, { "rlhf.outcome": "serving" });
    this.#log.info({ version, digest, tookMs: took() }, "weights taken up");
    this.#recordLag();
    this.#report({ state: "serving", version, tookMs: took() });
    for (const wake of this.#waiters) wake();
    return undefined;
  }

  #recordLag(): void {
    const run = { "rlhf.run": this.#options.bus.run };
    if (!this.#serving) return;
    versionGauge.record(this.#serving.version, { ...run, "rlhf.weights.role": "serving" });
    if (this.#head) lag.record(Math.max(0, this.#head.version - this.#serving.version), run);
  }

  /** Remembers a status and sends it; a bus that is away gets it with the next repetition. */
  #report(state: Pick<ServerStatus, "state" | "version" | "tookMs" | "reason">): void {
    this.#status = {
      instance: this.#options.instance,
      ...state,
      ...(this.#serving && { servingVersion: this.#serving.version }),
    };
    this.#options.onStatus?.(this.#status);
    void this.#send();
  }

  async #send(): Promise<void> {
    if (!this.#status) return;
    try {
      await this.#options.bus.report(this.#status);
    } catch (err) {
      this.#log.debug({ err }, "status not reported");
    }
  }

  async #repeatStatus(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#options.heartbeatMs ?? 15_000, signal);
      if (!signal.aborted) await this.#send();
    }
  }

  #explainWait(version: number, deadlineMs: number): string {
    const served = this.#status ? servedVersion(this.#status) : -1;
    const serves = served < 0 ? "no version is served" : `v${served} is served`;
    const head = this.#head ? `the head is v${this.#head.version}` : "no head was seen";
    const reason = this.#status?.reason ? `, v${this.#status.version} failed: ${this.#status.reason}` : "";
    return `weights v${version}: not served after ${deadlineMs} ms; ${serves}, ${head}${reason}`;
  }
}

/** True for failures of the way here, not of the weights. */
function isWorthRetrying(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code !== "WEIGHTS_CORRUPT" && code !== "WEIGHTS_GONE";
}
