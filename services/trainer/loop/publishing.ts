/**
 * @file New weights to the policy servers: publish, and wait until the servers of the run serve them. Versions start at
 * the checkpoint's and only rise, also over a resume.
 */
import { withSpan } from "../../../lib/telemetry/index.js";
import { injectTraceparent } from "../../../lib/telemetry/tracing.js";
import type { WeightsBus } from "../../../lib/weights/index.js";
import type { HostParameter } from "../learner/parameter-store.js";
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
  readonly timeoutMs: number;
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
    const { bus, roster, stalls, timeoutMs, warn } = this.options;
    const own = this.#newest;
    const head = await stalls.watched({ call: "publish", on: bus.address, deadlineMs: timeoutMs }, () =>
      bus.head(),
    );
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
    const { bus, stalls, timeoutMs } = this.options;
    const tensors = policyTensors(weights);
    const traceparent = injectTraceparent();
    const manifest = await stalls.watched(
      { call: "publish", on: bus.address, deadlineMs: timeoutMs },
      ({ signal }) => bus.publish(tensors, { version, ...(traceparent ? { traceparent } : {}), signal }),
    );
    this.#newest = { version, digest: manifest.digest };
    this.#prune();
    return this.#newest;
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
