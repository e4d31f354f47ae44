/**
 * @file A thread that lets a policy server generate, request after request, and posts the time of every token (ms, its own clock) to
 * whoever started it. A failed call ends the thread with an error.
 */
import { parentPort, workerData } from "node:worker_threads";
import { PolicyService } from "../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { createClient } from "../lib/rpc/index.js";

/** What the thread is started with. */
export interface TokenStreamOptions {
  /** Of the policy server. */
  readonly address: string;
  /** Of one request. */
  readonly maxNewTokens: number;
}

const { address, maxNewTokens } = workerData as TokenStreamOptions;
const client = createClient(PolicyService, address, { deadlineMs: 600_000, retry: false });
const request = {
  prompts: [{ input: { case: "tokens" as const, value: { ids: [1, 2, 3, 4] } } }],
  options: { maxNewTokens, ignoreEos: true },
};
for (;;) {
  for await (const { event } of client.generateStream({ request })) {
    if (event.case === "token") parentPort?.postMessage(performance.now());
  }
}
