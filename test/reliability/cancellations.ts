/**
 * @file Calls of every kind, most of them cancelled at a random moment, against real servers; after each round the servers' own counters
 * must be back at nothing, and what their processes hold must stay flat. Throws where they are not.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { RpcError } from "../../lib/rpc/index.js";
import { EXPECTED, GOLDEN } from "../../services/policy/testing.js";
import { eventually } from "../support/eventually.js";
import type { Service } from "../support/processes.js";
import type { Sandbox } from "../support/sandbox.js";
import { GOLDEN_CLASSIFIER } from "./golden.js";
import { LeakDetector } from "./leak-detector.js";
import { workerOf } from "./process-facts.js";
import { freePort, scrape } from "./scrape.js";
import { reporting } from "./vitals.js";

/** Calls at a time. */
const CALLERS = 12;
const ROUNDS = 5;
/** Longest time until a call is cancelled, in milliseconds: the longest calls take about as long. */
const LATEST_MS = 60;
/** Share of calls that nobody cancels. */
const KEPT = 0.15;

/** Longest time until a server whose callers have all gone is idle, on however busy a machine. */
const IDLE_MS = 20_000;

/** Counters that must be 0 on an idle server. */
const COUNTERS = ["rlhf_generate_active", "rlhf_queue_items", "rlhf_queue_tokens", "rlhf_requests_active"];

/** How many calls were cancelled and finished, by name of the call. */
export type CancellationCounts = Record<"cancelled" | "finished", number>;

/** What is cancelled. */
export interface CancellationOptions {
  /** Row of the figures. */
  readonly test: string;
  /** Cancellations. */
  readonly count: number;
  /** Modules that the servers load. */
  readonly preload?: readonly URL[];
  /** Longest time until a server has nothing left, in milliseconds. Default: 20 s. */
  readonly idleMs?: number;
}

/** Makes cancellations. */
export async function cancelAtRandom(
  sandbox: Sandbox,
  { test, count, preload = [], idleMs = IDLE_MS }: CancellationOptions,
): Promise<CancellationCounts> {
  const folder = sandbox.path("vitals");
  const servers = await startServers(sandbox, reporting(folder, ...preload));
  const calls = callsOf(sandbox, servers);
  const watched = servers.flatMap(({ service: { service, pid } }) => [
    { name: service, pid },
    { name: `${service} worker`, pid: workerOf(pid) },
  ]);
  const detector = new LeakDetector(folder, watched);
  const random = Rng.from(11, "cancellations");
  const counts = { cancelled: 0, finished: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const end = Math.ceil((count * (round + 1)) / ROUNDS);
    let made = 0;
    const caller = async () => {
      while (counts.cancelled < end) {
        made++;
        const call = calls[random.int(calls.length)] as Call;
        await oneCall(call, random, counts);
      }
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
    for (const server of servers) await assertIdle(server, idleMs);
    await detector.round(made);
  }
  detector.assertFlat(test);
  for (const { service } of servers) assert.equal(await service.stop(), 0);
  return counts;
}

/** Calls once, and cancels perhaps. */
async function oneCall(call: Call, random: Rng, counts: CancellationCounts): Promise<void> {
  const abort = new AbortController();
  const seed = random.int(2 ** 31);
  const after = random.uniform() < KEPT ? undefined : random.uniform() * LATEST_MS;
  const made = call(seed, abort.signal).then(
    () => "OK",
    (error: unknown) => (error instanceof RpcError ? error.code : String(error)),
  );
  if (after !== undefined) {
    await Promise.race([sleep(after), made]);
    abort.abort();
  }
  const outcome = await made;
  if (outcome === "OK") counts.finished++;
  else if (outcome === "CANCELLED" && after !== undefined) counts.cancelled++;
  else throw new Error(`a call ended with ${outcome}`);
}

type Call = (seed: number, signal: AbortSignal) => Promise<unknown>;

interface Counted {
  readonly service: Service;
  readonly metrics: number;
}

async function startServers(sandbox: Sandbox, env: Record<string, string>): Promise<Counted[]> {
  const start = async (service: "policy" | "reward" | "bertscore", ...args: string[]) => {
    const metrics = await freePort();
    const started = await sandbox.serve(service, [...args, "--prometheus-port", String(metrics)], { env });
    return { service: started, metrics };
  };
  return Promise.all([
    start("policy", "--model", GOLDEN, "--max-rows", "8"), // callers wait for rows, too
    start("reward", "--model", GOLDEN_CLASSIFIER),
    // a cache that is full at once, since one that fills looks like a leak
    start("bertscore", "--model", GOLDEN_CLASSIFIER, "--layer", "2", "--cache-bytes", "64KiB"),
  ]);
}

function callsOf(
  sandbox: Sandbox,
  [policyServer, rewardServer, bertscoreServer]: readonly Counted[],
): Call[] {
  const of = (server: Counted | undefined) => (server as Counted).service.address;
  const policy = sandbox.client(PolicyService, of(policyServer), { retry: false });
  const reward = sandbox.client(RewardService, of(rewardServer), { retry: false });
  const bertscore = sandbox.client(BertScoreService, of(bertscoreServer), { retry: false });
  const request = (seed: number) => ({
    prompts: EXPECTED.input_ids.slice(0, 1 + (seed % 3)).map((ids) => ({
      input: { case: "tokens" as const, value: { ids } },
    })),
    options: { doSample: true, topK: 0, maxNewTokens: 60 + (seed % 40), ignoreEos: true },
    seed: BigInt(seed),
  });
  const texts = (seed: number) => Array.from({ length: 1 + (seed % 24) }, (_, i) => `text ${i} `.repeat(60));
  return [
    (seed, signal) => policy.generate(request(seed), { signal }),
    async (seed, signal) => {
      for await (const _ of policy.generateStream({ request: request(seed) }, { signal }));
    },
    (seed, signal) => {
      const sequences = EXPECTED.input_ids.slice(0, 1 + (seed % 5)).map((ids) => ({ tokens: { ids } }));
      return policy.logProbs({ sequences, entropy: true }, { signal });
    },
    (seed, signal) => reward.score({ texts: texts(seed), truncate: true }, { signal }),
    (seed, signal) => {
      const pairs = texts(seed).map((text) => ({ candidate: text, references: [`${seed} ${text}`] }));
      return bertscore.score({ pairs }, { signal });
    },
  ];
}

/** Waits until every counter is 0; throws naming those that are not. */
async function assertIdle({ service, metrics }: Counted, idleMs: number): Promise<void> {
  let left: string[] = [];
  await eventually(
    async () => {
      const values = await scrape(metrics);
      left = COUNTERS.flatMap((name) => (values.get(name) ? [`${name} is ${values.get(name)}`] : []));
      return left.length === 0;
    },
    () => `${service.service} is idle: ${left.join(", ")}`,
    idleMs,
  );
}
