/** @file Checks of the limits that GetInfo publishes, the same for every service: messages, metadata, the queue. */
import type { RpcError } from "../../lib/rpc/index.js";
import { type Check, must, needs } from "./check.js";
import { mustRefuse, type Target } from "./target.js";
import { fillQueue, measuredWork, sleep } from "./work.js";

/** How soon a queue must have room after what was in it is cancelled; longer where half of it takes longer. */
const ROOM_MS = 2000;
/** What libraries add to a call's metadata, at most. */
const OWN_METADATA_BYTES = 1024;

/** Checks of limits. */
export const limitChecks: readonly Check<Target>[] = [
  {
    id: "limits/message",
    what: "a message of limits[max_receive_bytes] is read, one byte more is RESOURCE_EXHAUSTED",
    async run(target) {
      const most = target.neededLimit("max_receive_bytes");
      const fits = await target.raw(target.subject.probe(), { padTo: most });
      must(fits.status === 0, `a message of ${most} bytes: expected status 0, got ${ended(fits)}`);
      const over = await target.raw(target.subject.probe(), { padTo: most + 1 });
      must(over.status === 8, `a message of ${most + 1} bytes: expected status 8, got ${ended(over)}`);
    },
  },
  {
    id: "limits/metadata",
    what: "metadata within limits[max_metadata_bytes] is accepted, above it is RESOURCE_EXHAUSTED",
    async run(target) {
      const most = target.neededLimit("max_metadata_bytes");
      const send = (bytes: number) =>
        target.send(target.subject.probe(), { metadata: { "x-conformance": "x".repeat(bytes) } });
      const within = Math.floor(most / 2) - OWN_METADATA_BYTES;
      if (within > 0) {
        await send(within).catch((error: Error) =>
          must(false, `a header of ${within} of ${most} bytes was refused: ${error.message}`),
        );
      }
      await mustRefuse(send(most), `a header of ${most} bytes`, "RESOURCE_EXHAUSTED");
    },
  },
  {
    id: "limits/queue",
    what: "a full queue is RESOURCE_EXHAUSTED, says when to come back, and has room again once calls are cancelled",
    async run(target) {
      const { size, calls, ms } = await measuredWork(target);
      const refusal = await fillQueue(target);
      needs(refusal !== undefined, "the queue never filled up: the server is as fast as the calls came");
      must(refusal.retryDelayMs !== undefined, "the refusal has no RetryInfo that says when to come back");
      const queueMs = (target.neededLimit(target.subject.queueLimit) / (size * calls)) * ms;
      const room = Math.max(ROOM_MS, queueMs / 2);
      const began = performance.now();
      for (;;) {
        const error = await target.send(target.subject.probe()).then(
          () => undefined,
          (thrown: RpcError) => thrown,
        );
        const waited = Math.round(performance.now() - began);
        must(
          waited < room,
          error === undefined
            ? `a call waited ${waited} ms for a queue whose calls were all cancelled`
            : `no room ${waited} ms after all calls were cancelled: ${error.message}`,
        );
        if (!error) return `come back after ${Math.round(refusal.retryDelayMs)} ms`;
        must(error.status === "RESOURCE_EXHAUSTED", `then a call failed with ${error.message}`);
        await sleep(20);
      }
    },
  },
];

function ended({ status, reset }: { status: number | undefined; reset: number | undefined }): string {
  return status === undefined ? `a reset with code ${reset}` : String(status);
}
