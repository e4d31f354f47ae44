/**
 * @file Keeps the worker at the head of the weights bus. A server that joins late, or comes back, takes up the head before it
 * answers its first request.
 */
import type { Log } from "../../lib/telemetry/index.js";
import { openWeightsBus, type ServerStatus, WeightsFollower } from "../../lib/weights/index.js";
import type { PolicyModel } from "./model/policy-model.js";
import type { WeightStore } from "./model/weight-store.js";
import type { WeightsManager } from "./model/weights-manager.js";
import type { WorkerConfig } from "./protocol.js";

/** Name of the policy among the models of a run. */
const MODEL = "policy";

/** What following needs. */
export interface FollowingParts {
  readonly model: PolicyModel;
  readonly store: WeightStore;
  readonly weights: WeightsManager;
  /** Name under which this server reports. */
  readonly instance: string;
  readonly log: Log;
}

/**
 * Follows the bus from now on. Resolves when the head of this moment serves, or was refused (then what served goes on, and the
 * status says why). Rejects with BusUnavailableError or BusAddressError where the bus cannot be reached.
 */
export async function followBus(
  { url, run }: NonNullable<WorkerConfig["bus"]>,
  { model, store, weights, instance, log }: FollowingParts,
): Promise<void> {
  const bus = await openWeightsBus(url, { run, model: MODEL, log });
  const { version, digest } = store.serving;
  const listeners = new Set<(status: ServerStatus) => void>();
  const follower = new WeightsFollower({
    bus,
    instance,
    serving: { version, digest },
    expected: model.specs,
    apply: (newVersion, newDigest, tensors) =>
      weights.apply({ version: newVersion, digest: newDigest, tensors }),
    onStatus: (status) => {
      weights.noteLoad({
        state: status.state,
        version: status.version,
        error: status.reason ?? "",
        ms: status.tookMs,
      });
      for (const listener of listeners) listener(status);
    },
    log,
  });
  const head = await bus.head().catch((err: unknown) => {
    log.error({ err }, "the head of the bus cannot be read; the checkpoint serves until it can");
    return undefined;
  });
  const wanted = head !== undefined && head.version > version ? head.version : undefined;
  const caughtUp = new Promise<void>((resolve) => {
    listeners.add((status) => {
      if (wanted === undefined || (status.state !== "loading" && status.version >= wanted)) resolve();
    });
    if (wanted === undefined) resolve();
  });
  follower.start();
  await caughtUp;
  listeners.clear();
}
