/**
 * @file Random and mutated requests for every method of every service, over real sockets. Each call must end by itself, with a status that
 * lib/rpc/codes.ts has and a reason, and none that means a bug. After each round the servers answer as ever and hold no more than before.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Health } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ReflectionAlpha } from "../../lib/api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { LifecycleService, WeightsService } from "../../lib/api/gen/rlhf/weights/v1/weights_pb.js";
import { encodeMessage, methodPath } from "../../lib/api/index.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { codeTable, statusName } from "../../lib/rpc/codes.js";
import { GOLDEN } from "../../services/policy/testing.js";
import type { Service } from "../support/processes.js";
import type { Sandbox } from "../support/sandbox.js";
import { GOLDEN_CLASSIFIER } from "./golden.js";
import { frameOf, GrpcWire, type WireOutcome } from "./grpc-wire.js";
import { LeakDetector } from "./leak-detector.js";
import { workerOf } from "./process-facts.js";
import { wires } from "./random-messages.js";
import { reporting } from "./vitals.js";

const ROUNDS = 6;
const CALLERS = 24;
/** Deadline of a call, and of one that lasts until then. */
const DEADLINE_MS = 4000;
const LASTING_MS = 100;
const LASTING = new Set(["watch", "serverReflectionInfo"]);

/** Statuses of the table, but for those that say that something broke. */
const DOCUMENTED = new Set([
  0,
  ...Object.values(codeTable)
    .map(({ status }) => status as number)
    .filter((status) => statusName(status) !== "INTERNAL"),
]);
/** Reasons that mean that a process died or could not answer. */
const BROKEN = new Set(["WORKER_CRASHED", "NOT_READY", "UNAVAILABLE", "INTERNAL", "NON_FINITE"]);

/** A listener of a server, and what it serves. */
export interface Listener {
  readonly service: Service;
  readonly address: string;
  readonly services: readonly DescService[];
}

/** The four services as real processes, with every listener that they have; `flags` are for all of them. */
export async function startAll(
  sandbox: Sandbox,
  env: Record<string, string>,
  flags: readonly string[] = [],
): Promise<Listener[]> {
  const common: DescService[] = [Health, ServerReflection, ReflectionAlpha];
  const admin = ["--admin-listen", "127.0.0.1:0", ...flags];
  const start = async (name: Parameters<Sandbox["serve"]>[0], own: DescService, ...args: string[]) => {
    const service = await sandbox.serve(name, [...args, ...admin], { env });
    const adminServices = name === "policy" ? [WeightsService, LifecycleService] : [LifecycleService];
    return [
      { service, address: service.address, services: [own, ...common] },
      { service, address: service.adminAddress as string, services: [...adminServices, ...common] },
    ];
  };
  const listeners = await Promise.all([
    start("policy", PolicyService, "--model", GOLDEN),
    start("reward", RewardService, "--model", GOLDEN_CLASSIFIER),
    start(
      "bertscore",
      BertScoreService,
      "--model",
      GOLDEN_CLASSIFIER,
      "--layer",
      "2",
      "--cache-bytes",
      "64KiB",
    ),
    start("trainer", TrainerService, "--runs-dir", sandbox.path("fuzz-runs")),
  ]);
  return listeners.flat();
}

/** A method of a listener, and requests for it. */
interface Target {
  readonly listener: Listener;
  readonly method: DescMethod;
  readonly requests: fc.Arbitrary<Uint8Array>;
}

/** What a fuzz came to: calls by status. */
export type FuzzCounts = Map<string, number>;

/** Sends `count` requests. Throws where an answer is not documented, or a process dies or grows; the error holds the request. */
export async function fuzzServices(
  sandbox: Sandbox,
  {
    test,
    count,
    seed,
    preload = [],
  }: { test: string; count: number; seed: number; preload?: readonly URL[] },
): Promise<FuzzCounts> {
  const folder = sandbox.path("vitals");
  const listeners = await startAll(sandbox, reporting(folder, ...preload));
  const servers = [...new Set(listeners.map(({ service }) => service))];
  const workers = new Map(servers.filter(hasWorker).map((service) => [service, workerOf(service.pid)]));
  const watched = servers.map(({ service, pid }) => ({ name: service, pid }));
  for (const [{ service }, pid] of workers) watched.push({ name: `${service} worker`, pid });
  const detector = new LeakDetector(folder, watched);
  const targets = listeners.flatMap(targetsOf);
  const wiresOf = new Map(
    await Promise.all(
      listeners.map(async (listener) => [listener, await GrpcWire.connect(listener.address)] as const),
    ),
  );
  const counts: FuzzCounts = new Map();
  const perRound = Math.ceil(count / ROUNDS / targets.length);
  for (let round = 0; round < ROUNDS; round++) {
    const calls = targets.flatMap((target, i) =>
      fc
        .sample(target.requests, { seed: seed + 1000 * round + i, numRuns: perRound })
        .map((body) => ({ target, body })),
    );
    let next = 0;
    const caller = async () => {
      for (;;) {
        // neighbours in the list are of the same method: callers take every so many
        const at = next++;
        if (at >= calls.length) return;
        const { target, body } = calls[(at * STRIDE) % calls.length] as (typeof calls)[number];
        const outcome = await callOnce(wiresOf.get(target.listener) as GrpcWire, target.method, body);
        const problem = problemOf(outcome);
        if (problem) throw new Error(`${methodPath(target.method)}: ${problem}\nrequest ${hex(body)}`);
        const name = statusName(outcome.status as number);
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
    for (const listener of listeners) await assertServing(listener, wiresOf.get(listener) as GrpcWire);
    for (const [service, worker] of workers)
      assert.equal(workerOf(service.pid), worker, `${service.service} worker died`);
    await detector.round(calls.length);
  }
  for (const wire of wiresOf.values()) wire.close();
  detector.assertFlat(test);
  for (const service of servers) assert.equal(await service.stop(), 0, service.service);
  return counts;
}

/** A prime larger than the number of methods, so that neighbours in time are of different ones. */
const STRIDE = 7919;

const hasWorker = ({ service }: Service) => service !== "trainer";
const hex = (body: Uint8Array) => Buffer.from(body).toString("hex").slice(0, 4000);

function targetsOf(listener: Listener): Target[] {
  const methods = listener.services.flatMap(({ methods }) => methods);
  return methods
    .filter((method) => methodPath(method) !== "/rlhf.weights.v1.LifecycleService/Drain") // does what it says
    .map((method) => ({ listener, method, requests: wires(method.input, goodRequests(method)) }));
}

/** Requests that are accepted, for mutations that get past the first checks. */
function goodRequests(method: DescMethod): Uint8Array[] {
  const requests: Record<string, object[]> = {
    "/rlhf.policy.v1.PolicyService/Generate": [
      GENERATE,
      { ...GENERATE, prompts: [{ input: { case: "text", value: "what is it?" } }] },
    ],
    "/rlhf.policy.v1.PolicyService/GenerateStream": [{ request: GENERATE }],
    "/rlhf.policy.v1.PolicyService/LogProbs": [
      { sequences: [{ tokens: { ids: [1, 2, 3, 4] }, start: 2 }], entropy: true },
    ],
    "/rlhf.reward.v1.RewardService/Score": [
      { texts: ["a text", "another"], label: "LABEL_1", function: 1, truncate: true },
    ],
    "/rlhf.bertscore.v1.BertScoreService/Score": [
      { pairs: [PAIR], options: { layer: 1, idf: true, allLayers: true } },
    ],
    "/rlhf.bertscore.v1.BertScoreService/Explain": [
      { candidate: "a cat", reference: "the cat", options: { layer: 1 } },
    ],
    "/rlhf.trainer.v1.TrainerService/StartRun": [
      { config: RUN_FILE, runId: "fuzz", baseDirectory: packageRoot() },
    ],
    "/rlhf.weights.v1.WeightsService/Load": [{ directory: GOLDEN, version: 3n }],
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": [
      { messageRequest: { case: "fileByFilename", value: "rlhf/types/v1/types.proto" } },
    ],
  };
  const good =
    requests[methodPath(method)] ?? [{ runId: "fuzz" }].filter(() => "runId" in method.input.field);
  return good.map((init) => encodeMessage(method.input, init as never));
}

const GENERATE = {
  prompts: [{ input: { case: "tokens", value: { ids: [1, 2, 3] } }, seed: 4n }],
  options: { maxNewTokens: 5, doSample: true, topK: 5, topP: 0.9, stopStrings: ["a"], numReturnSequences: 2 },
};
const PAIR = { candidate: "the cat sat", references: ["a cat sat", "cats sit"] };
/** A run whose servers are not there: it fails soon. */
const RUN_FILE = JSON.stringify({
  kind: "ppo",
  model: GOLDEN,
  data: { train: join("examples", "faq", "train.csv") },
  rewards: [{ type: "classifier" }],
  batches: 1,
  weights: { timeoutMs: 500 },
  servers: Object.fromEntries(
    ["policy", "reference", "reward"].map((name) => [name, { addresses: ["127.0.0.1:1"] }]),
  ),
});

function callOnce(wire: GrpcWire, method: DescMethod, message: Uint8Array): Promise<WireOutcome> {
  const deadlineMs = LASTING.has(method.localName) ? LASTING_MS : DEADLINE_MS;
  return wire.call({ path: methodPath(method), body: frameOf(message), deadlineMs });
}

/** What is wrong with an outcome; undefined if it is as documented. */
function problemOf({ status, reason, text }: WireOutcome): string | undefined {
  if (status === undefined) return `ended without a status: ${text}`;
  if (!DOCUMENTED.has(status)) return `${statusName(status)}: ${text}`;
  if (status !== 0 && reason === undefined) return `${statusName(status)} without a reason: ${text}`;
  if (reason !== undefined && BROKEN.has(reason)) return `${statusName(status)} ${reason}: ${text}`;
  return undefined;
}

async function assertServing({ service }: Listener, wire: GrpcWire): Promise<void> {
  const body = frameOf(new Uint8Array());
  const { status, data } = await wire.call({
    path: methodPath(Health.method.check),
    body,
    deadlineMs: 10_000,
    keepData: true,
  });
  assert.equal(status, 0, `${service.service}: health`);
  assert.deepEqual([...(data ?? Buffer.alloc(0)).subarray(5)], [8, 1], `${service.service} is not serving`);
}
