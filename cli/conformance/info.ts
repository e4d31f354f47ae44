/** @file Checks of what a server says about itself, the same for every service: who needs GetInfo trusts it. */
import type { ModelInfo, ServerInfo, WeightsRef } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { type Check, must } from "./check.js";
import type { Target } from "./target.js";

/** What every GetInfo holds. */
export interface CommonInfo {
  readonly model?: ModelInfo | undefined;
  readonly server?: ServerInfo | undefined;
}

/** A target whose GetInfo was read; undefined if the server gave none. */
export interface Described {
  readonly info: CommonInfo | undefined;
}

/** Checks of GetInfo. */
export const infoChecks: readonly Check<Target & Described>[] = [
  {
    id: "info/model",
    what: "GetInfo names the model and the digest of its weights",
    async run({ info }) {
      must(info !== undefined, "the server has no GetInfo");
      must(Boolean(info.model?.name), "model.name is empty");
      mustNameWeights(info.model?.weights, "model.weights");
    },
  },
  {
    id: "info/limits",
    what: "GetInfo publishes what a call may hold, and the deadline of a call that names none",
    async run(target) {
      must(target.info?.server !== undefined, "GetInfo has no server");
      const { itemsLimit } = target.subject;
      must(target.limit(itemsLimit) !== undefined, `server.limits has no ${itemsLimit}`);
      must(target.info.server.defaultDeadlineMs > 0n, "server.default_deadline_ms is not set");
    },
  },
];

/** Fails unless a reply says which weights made it. */
export function mustNameWeights(
  weights: WeightsRef | undefined,
  what: string,
): asserts weights is WeightsRef {
  must(weights !== undefined, `${what} is not set`);
  must(weights.version >= 0n, `${what}.version is ${weights.version}`);
  must(
    /^[0-9a-f]{64}$/.test(weights.digest),
    `${what}.digest is ${JSON.stringify(weights.digest)}, not 64 lower-case hex digits`,
  );
}

/** Fails unless a reply was made by the weights that GetInfo names. */
export function mustBeWeightsOf(
  info: CommonInfo | undefined,
  weights: WeightsRef | undefined,
  what: string,
): void {
  mustNameWeights(weights, what);
  const known = info?.model?.weights;
  if (!known) return;
  must(
    known.version === weights.version && known.digest === weights.digest,
    `${what} is version ${weights.version} ${weights.digest.slice(0, 12)}…, GetInfo says ${known.version} ${known.digest.slice(0, 12)}…`,
  );
}
