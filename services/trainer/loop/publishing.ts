/**
 * @file New weights to the policy servers: publish, and wait until the servers of the run serve them. Versions start at
 * the checkpoint's and only rise, also over a resume.
 */
import { withSpan } from "../../../lib/telemetry/index.js";
import { injectTraceparent } from "../../../lib/telemetry/tracing.js";
import type { WeightsBus } from "../../../lib/weights/index.js";
import { RunFailedError } from "../errors.js";
import type { HostParameter } from "../learner/parameter-store.js";
import type { RunServers } from "../servers/servers.js";
import type { StallWatch } from "../stalls/stall-watch.js";

/** What policy servers need of a learner's weights: all but the value head. */
export function policyTensors(weights: ReadonlyMap<string, HostParameter>): Map<string, HostParameter> {
  return new Map([...weights].filter(([name]) => !name.startsWith("v_head.")));
}

/** What the publisher needs. */
export interface PublisherOptions {
  readonly bus: WeightsBus;
  readonly servers: RunServers;
  readonly timeoutMs: number;
  readonly stalls: StallWatch;
  readonly signal: AbortSignal;
  readonly warn: (message: string) => void;
}

/** Versions that stay on the bus, beside those that somebody still serves. */
const KEPT_VERSIONS = 3;

/** Publishes the weights of one run. */
export class Publisher {
  #version: number;
  #pruning = false;

  constructor(
    private readonly options: PublisherOptions,
    version: number,
  ) {
    this.#version = version;
  }

  /** The version that the run's servers are to serve. */
  get version(): number {
    return this.#version;
  }

  /**
   * Makes the servers serve the run's weights before the first batch. Servers that hold them already, as `digest` says, are
   * left alone. A bus whose head is beyond the checkpoint (its run went on after it) gets the checkpoint's weights
   * under the next version, so that the published version never goes back.
   */
  async begin(read: () => Promise<ReadonlyMap<string, HostParameter>>, digest: string): Promise<void> {
    const { bus, servers, stalls, timeoutMs, signal } = this.options;
    const head = await stalls.watched({ call: "publish", on: bus.address, deadlineMs: timeoutMs }, () =>
      bus.head(),
    );
    const on = servers.policies.map(({ address }) => address).join(", ");
    const serving = await stalls.watched({ call: "weights", on }, () =>
      Promise.all(servers.policies.map((member) => servers.describe(member, signal))),
    );
    const held = serving.every((server) => server.version === this.#version && server.digest === digest);
    if (held && (head === undefined || head.version <= this.#version)) return;
    const beyond = Math.max(head?.version ?? -1, ...serving.map((server) => server.version));
    await this.#publish(await read(), Math.max(this.#version, beyond + 1));
    await this.wait();
  }

  /** Publishes the next version. Returns it with the digest that servers will report. */
  async publish(weights: ReadonlyMap<string, HostParameter>): Promise<{ version: number; digest: string }> {
    return this.#publish(weights, this.#version + 1);
  }

  /** Waits until every policy server of the run serves the newest version. */
  async wait(): Promise<void> {
    const { servers, stalls, signal, timeoutMs } = this.options;
    const version = this.#version;
    let behind: string[] = [];
    const on = () => behind.join("; ") || servers.policies.map(({ address }) => address).join(", ");
    const poll = async () => {
      const end = Date.now() + timeoutMs;
      for (let pause = 10; ; pause = Math.min(250, pause * 1.5)) {
        signal.throwIfAborted();
        const states = await Promise.all(
          servers.policies.map(async (member) => {
            try {
              const { version: at } = await servers.describe(member, signal);
              return at >= version ? undefined : `${member.address} serves version ${at}`;
            } catch (error) {
              return `${member.address}: ${(error as Error).message}`;
            }
          }),
        );
        behind = states.filter((state) => state !== undefined);
        // enough of them go on; a server that died takes no work until it holds the version
        if (behind.length === 0) return;
        if (Date.now() > end) break;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
      if (behind.length < servers.policies.length) return;
      throw new RunFailedError(
        "WEIGHTS_NOT_SERVED",
        `no policy server serves weight version ${version} after ${timeoutMs} ms: ${behind.join("; ")}`,
      );
    };
    await withSpan("rlhf.weights.wait", { attributes: { "rlhf.weight_version": version } }, () =>
      stalls.watched({ call: "weights", on }, poll),
    );
  }

  async #publish(
    weights: ReadonlyMap<string, HostParameter>,
    version: number,
  ): Promise<{ version: number; digest: string }> {
    const { bus, stalls, timeoutMs } = this.options;
    const tensors = policyTensors(weights);
    const traceparent = injectTraceparent();
    const manifest = await stalls.watched(
      { call: "publish", on: bus.address, deadlineMs: timeoutMs },
      ({ signal }) => bus.publish(tensors, { version, ...(traceparent ? { traceparent } : {}), signal }),
    );
    this.#version = version;
    this.#prune();
    return { version, digest: manifest.digest };
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
