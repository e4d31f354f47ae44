/**
 * @file WeightsService, on the admin listener: which weights serve, load a checkpoint, go back to a held version.
 */
import { LoadState, WeightsService } from "../../lib/api/gen/rlhf/weights/v1/weights_pb.js";
import { implement, type ServiceImplementation } from "../../lib/rpc/implement.js";
import { Validator } from "../../lib/rpc/validate.js";
import type { LoadCall } from "./protocol.js";
import { weightsRef } from "./replies.js";
import type { PolicyBackend } from "./service.js";

const STATES = {
  none: LoadState.UNSPECIFIED,
  loading: LoadState.LOADING,
  serving: LoadState.SERVING,
  failed: LoadState.FAILED,
} as const;

/** Joins the service with a model. */
export function weightsService(backend: PolicyBackend): ServiceImplementation {
  return implement(WeightsService, {
    getStatus() {
      const { serving, held, load } = backend.facts().weights;
      return {
        serving: weightsRef(serving),
        held: held.map(weightsRef),
        loadState: STATES[load.state],
        loadVersion: BigInt(load.version),
        loadError: load.error,
        loadMs: load.ms,
      };
    },
    async load({ directory, version, digest, expectVersion }, ctx) {
      const check = new Validator();
      check.text("directory", directory).notEmpty().maxBytes(4096);
      check.number("version", version).atLeast(0).atMost(Number.MAX_SAFE_INTEGER);
      check.number("expect_version", expectVersion).atLeast(0).atMost(Number.MAX_SAFE_INTEGER);
      check
        .field("digest", digest)
        .must(
          digest === undefined || /^[0-9a-f]{64}$/.test(digest),
          "is no SHA-256; accepted: 64 lower-case hex digits",
        );
      check.check();
      const call: LoadCall = { directory };
      if (version !== undefined) call.version = Number(version);
      if (digest !== undefined) call.digest = digest;
      if (expectVersion !== undefined) call.expectVersion = Number(expectVersion);
      const { serving, load } = await backend.load(call, ctx);
      return { serving: weightsRef(serving), loadMs: load.ms };
    },
    async rollback({ version }, ctx) {
      const check = new Validator();
      check.number("version", version).atLeast(0).atMost(Number.MAX_SAFE_INTEGER);
      check.check();
      const { serving } = await backend.rollback(Number(version), ctx);
      return { serving: weightsRef(serving) };
    },
  });
}
