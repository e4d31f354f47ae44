/** @file Checks of bearer tokens: only where the server was given some, and this command line one of them. */
import { Health } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type Check, must, needs } from "./check.js";
import { mustRefuse, type Target } from "./target.js";

/** A token that no server knows. */
const UNKNOWN = "rlhf-conformance-unknown-token";

/** Checks of authorization. */
export const authChecks: readonly Check<Target>[] = [
  {
    id: "auth/token",
    what: "a call without a token, or with one that is not known, is UNAUTHENTICATED, and the token is not repeated",
    async run(target) {
      needs(target.hasToken, "no --token-file was given");
      for (const [token, what] of [
        [undefined, "a call without a token"],
        [UNKNOWN, "a call with an unknown token"],
      ] as const) {
        const call = target.withToken(token, (other) => other.send(target.subject.probe()));
        const error = await mustRefuse(call, what, "UNAUTHENTICATED");
        must(!error.message.includes(UNKNOWN), `${what}: the message repeats the token`);
      }
    },
  },
  {
    id: "auth/health",
    what: "health is answered without a token, for probes have none",
    async run(target) {
      needs(target.hasToken, "no --token-file was given");
      await target.withToken(undefined, async (other) => {
        try {
          await other.client(Health).check({ service: target.subject.desc.typeName });
        } catch (error) {
          if (error instanceof RpcError) must(false, `Check without a token: ${error.message}`);
          throw error;
        }
      });
    },
  },
];
