/**
 * @file New weights to the policy servers: publish, and wait until the servers of the run serve them. Versions start at
 * the checkpoint's and only rise, also over a resume. A bus that is away is waited for.
 */
import { weightsDigest } from "../../../lib/checkpoint/index.js";
import { withSpan } from "../../../lib/telemetry/index.js";
import { injectTraceparent } from "../../../lib/telemetry/tracing.js";
import { BusUnavailableError, type WeightsBus, WeightsConflictError } from "../../../lib/weights/index.js";
import type { HostParameter } from "../learner/parameter-store.js";
import { jitteredBackoff } from "../rollout/pool.js";
import { diskFullCause } from "../runs/disk-full.js";
import type { PolicyRoster, WeightsIdentity } from "../servers/policy-roster.js";
import type { StallWatch } from "../stalls/stall-watch.js";

/** What policy servers need of a learner's weights: all but the value head. */
export function policyTensors(weights: ReadonlyMap<string, HostParameter>): Map<string, HostParameter> {
  return new Map([...weights].filter(([name]) => !name.startsWith("v_head.")));
}

/** What the publisher needs. */
export interface PublisherOptions {
  readonly bus: WeightsBus;
  readonly roster: PolicyRoster;
  /** Longest wait for the bus, in milliseconds. */
  readonly timeoutMs: number;
  /** Ends waits. */
  readonly signal: AbortSignal;
  readonly stalls: StallWatch;
  readonly warn: (message: string) => void;
}

/** Versions that stay on the bus, beside those that somebody still serves. */
const KEPT_VERSIONS = 3;

/** Publishes the weights of one run. */
export class Publisher {
  #newest: WeightsIdentity;
  #pruning = false;

  /** `weights` are the learner's: of the model that the run starts from, or of a checkpoint. */
  constructor(
    private readonly options: PublisherOptions,
    weights: WeightsIdentity,
  ) {
    this.#newest = weights;
  }

  /** The version that the run's servers are to serve. */
  get version(): number {
    return this.#newest.version;
  }

  /**
   * Makes the servers serve the run's weights before the first batch, and returns them. Servers that hold them already are left alone.
   * Where the bus, a server or the run's own record (`recorded`) is beyond the checkpoint, because its run went on after it, the
   * checkpoint's weights become the version after that one: no version ever stands for two contents, and none goes back.
   */
  async begin(
    read: () => Promise<ReadonlyMap<string, HostParameter>>,
    recorded: WeightsIdentity | undefined,
  ): Promise<WeightsIdentity> {
    const { bus, roster, stalls, warn } = this.options;
    const own = this.#newest;
    const head = await this.#untilAnswered(() => bus.head());
    const serving = await stalls.watched({ call: "weights", on: () => roster.waitedFor }, () =>
      roster.describe(),
    );
    const isOwn = ({ version, digest }: WeightsIdentity) => version === own.version && digest === own.digest;
    const known = [head, recorded, ...serving].filter((weights) => weights !== undefined);
    const others = known.filter((weights) => !isOwn(weights)).map(({ version }) => version);
    const newest = Math.max(-1, ...others);
    if (newest >= own.version) {
      await this.#publish(await read(), newest + 1);
      if (head || recorded) {
        const given = `version ${newest} is beyond the weights that the run goes on from (version ${own.version})`;
        warn(`${given}: they are published as version ${newest + 1}`);
      }
    } else if (!(head ? isOwn(head) : serving.every(isOwn))) {
      await this.#publish(await read(), own.version);
    }
    await this.wait();
    return this.#newest;
  }

  /** Publishes the next version. Returns it with the digest that servers will report. */
  async publish(weights: ReadonlyMap<string, HostParameter>): Promise<WeightsIdentity> {
    return this.#publish(weights, this.version + 1);
  }

  /** Waits until the policy servers of the run serve the newest version; see PolicyRoster.gather. */
  async wait(): Promise<void> {
    const { roster, stalls } = this.options;
    await withSpan("rlhf.weights.wait", { attributes: { "rlhf.weight_version": this.version } }, () =>
      stalls.watched({ call: "weights", on: () => roster.waitedFor }, () => roster.gather(this.#newest)),
    );
  }

  async #publish(weights: ReadonlyMap<string, HostParameter>, version: number): Promise<WeightsIdentity> {
    const { bus } = this.options;
    const tensors = policyTensors(weights);
    const traceparent = injectTraceparent();
    let attempts = 0;
    const manifest = await this.#untilAnswered(async (signal) => {
      attempts += 1;
      try {
        return await bus.publish(tensors, { version, ...(traceparent ? { traceparent } : {}), signal });
      } catch (error) {
        // an attempt before this one may have got through, and its answer not
        if (attempts > 1 && error instanceof WeightsConflictError) {
          if (await isPublished(error, version, tensors)) return error.head;
        }
        throw error;
      }
    });
    this.#newest = { version, digest: manifest.digest };
    this.#prune();
    return this.#newest;
  }

  /** Asks the bus until it answers, for timeoutMs at most. */
  #untilAnswered<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { bus, stalls, timeoutMs, warn, signal } = this.options;
    const wait = { call: "publish", on: bus.address, deadlineMs: timeoutMs } as const;
    return stalls.watched(wait, async ({ signal: late }) => {
      const ended = AbortSignal.any([signal, late]);
      const rest = jitteredBackoff(ended);
      for (let attempt = 1; ; attempt++) {
        try {
          return await ask(ended);
        } catch (error) {
          ended.throwIfAborted();
          // room on a full disk is for people to make; the run says so and stops
          if (!(error instanceof BusUnavailableError) || diskFullCause(error)) throw error;
          warn(`attempt ${attempt}: ${error.message}`);
          await rest(attempt);
        }
      }
    });
  }

  /** Removes old versions behind the loop's back: nothing waits for it, and one at a time is enough. */
  #prune(): void {
    if (this.#pruning) return;
    this.#pruning = true;
    this.options.bus
      .prune(KEPT_VERSIONS)
      .catch((error: Error) => this.options.warn(`old weights stay on the bus: ${error.message}`))
      .finally(() => {
        this.#pruning = false;
      });
  }
}

async function isPublished(
  { head }: WeightsConflictError,
  version: number,
  tensors: ReadonlyMap<string, HostParameter>,
): Promise<boolean> {
  return head.version === version && head.digest === (await weightsDigest(tensors));
}
