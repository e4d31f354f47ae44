/** @file Checks of grpc.health.v1: what probes and balancers rely on. */
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type Check, CheckFailed, must, needs } from "./check.js";
import { mustRefuse, type Target } from "./target.js";

/** A service that no server has. */
const UNKNOWN = "rlhf.conformance.v1.NoSuchService";
/** How long the first word of a Watch may take, in milliseconds. */
const FIRST_WORD_MS = 5000;

/** Checks of health. */
export const healthChecks: readonly Check<Target>[] = [
  {
    id: "health/check",
    what: "Check says SERVING for the service and for the whole server",
    async run(target) {
      const health = target.client(Health);
      for (const service of ["", target.subject.desc.typeName]) {
        const { status } = await health.check({ service });
        must(status === Serving.SERVING, `Check of "${service}": expected SERVING, got ${Serving[status]}`);
      }
    },
  },
  {
    id: "health/unknown",
    what: "Check of a service that is not there is NOT_FOUND, Watch says SERVICE_UNKNOWN",
    async run(target) {
      await mustRefuse(target.client(Health).check({ service: UNKNOWN }), "Check", "NOT_FOUND");
      const first = await firstWord(target, UNKNOWN);
      must(
        first === Serving.SERVICE_UNKNOWN,
        `Watch: expected SERVICE_UNKNOWN, got ${Serving[first] ?? first}`,
      );
    },
  },
  {
    id: "health/watch",
    what: "Watch says at once how the service is, and stays open",
    async run(target) {
      const stop = new AbortController();
      const stream = target
        .client(Health)
        .watch({ service: target.subject.desc.typeName }, { signal: stop.signal, deadlineMs: FIRST_WORD_MS });
      const words = stream[Symbol.asyncIterator]();
      try {
        const first = await words.next();
        must(!first.done, "Watch ended without a word");
        const { status } = first.value;
        must(status === Serving.SERVING, `Watch: expected SERVING, got ${Serving[status]}`);
        const open = Symbol("open");
        const pause = new Promise((resolve) => setTimeout(resolve, 200, open));
        const next = words.next();
        next.catch(() => undefined); // ends with the abort below
        const then = await Promise.race([next, pause]);
        if (then === open) return;
        const { done } = then as IteratorResult<unknown>;
        must(false, done ? "Watch ended after its first word" : "Watch spoke again without a change");
      } finally {
        stop.abort();
      }
    },
  },
  {
    id: "health/list",
    what: "List names the service",
    async run(target) {
      const reply = await target
        .client(Health)
        .list({})
        .catch((error: unknown) => {
          needs(
            !(error instanceof RpcError && error.status === "UNIMPLEMENTED"),
            "the server has no List, which is newer than Check and Watch",
          );
          throw error;
        });
      const status = reply.statuses[target.subject.desc.typeName]?.status;
      must(
        status === Serving.SERVING,
        `List: expected SERVING, got ${status === undefined ? "nothing" : Serving[status]}`,
      );
    },
  },
];

async function firstWord(target: Target, service: string): Promise<Serving> {
  for await (const { status } of target.client(Health).watch({ service }, { deadlineMs: FIRST_WORD_MS })) {
    return status;
  }
  throw new CheckFailed(`Watch of "${service}" ended without a word`);
}
