/**
 * @file For tests: everything that a PPO run needs in this process, on real sockets: policy and reference server on the golden GPT-2,
 * scorers that are functions, and the trainer's own run manager. A run of four samples a batch takes a moment.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BertScoreService } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { RewardService } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { implement, type RunningServer, startServer } from "../../../lib/rpc/index.js";
import { silentLog } from "../../../lib/telemetry/index.js";
import { GOLDEN } from "../../policy/testing.js";
import { runPpo } from "../loop/ppo-run.js";
import type { RunEvent } from "../runs/events.js";
import { readJournal } from "../runs/journal.js";
import { type Log, RunManager } from "../runs/manager.js";
import type { RunRecord } from "../runs/record.js";
import { type PolicyFaults, startPolicyServer, type TestPolicyServer } from "./policy-server.js";

/** What a run left behind. */
export interface MeshRun {
  readonly id: string;
  readonly directory: string;
  readonly record: RunRecord;
  readonly events: readonly RunEvent[];
  readonly metrics: readonly (Readonly<Record<string, number | null>> & { readonly step: number })[];
}

/** How the scorers answer; may be changed while they serve. `call` counts their calls from 1. */
export interface Scorers {
  reward: (text: string, call: number) => number | Promise<number>;
  similarity: (candidate: string, reference: string, call: number) => number | Promise<number>;
}

/** Fields of a run file that a test changes; `ppo` is merged. */
export type RunFileChange = Readonly<Record<string, unknown>> & { readonly ppo?: object };

/** A score that differs from text to text and repeats. */
export const usualReward = (text: string): number => (text.length % 7) - 3;

/** Servers and runs of one test file. */
export class TestMesh {
  readonly directory = mkdtempSync(join(tmpdir(), "rlhf-mesh-"));
  /** Calls of each scorer so far. */
  readonly calls = { reward: 0, similarity: 0 };
  readonly scorers: Scorers = { reward: usualReward, similarity: () => 0.5 };
  readonly #policies: TestPolicyServer[] = [];
  readonly #servers: RunningServer[] = [];
  #reference: TestPolicyServer | undefined;
  #reward = "";
  #bertscore = "";

  private constructor(
    readonly manager: RunManager,
    readonly runsDirectory: string,
  ) {}

  /** Starts reference and scorers; each run gets a policy server of its own. */
  static async start(options: { runsDirectory?: string; log?: Log } = {}): Promise<TestMesh> {
    const never = () => Promise.reject(new Error("another kind of run"));
    const at = options.runsDirectory ?? mkdtempSync(join(tmpdir(), "rlhf-mesh-runs-"));
    const runners = { ppo: runPpo, sft: never, reward: never, encoder: never };
    const manager = new RunManager({ runsDirectory: at, log: options.log ?? silentLog(), runners });
    const mesh = new TestMesh(manager, at);
    const rows = Array.from({ length: 12 }, (_, i) => `what is number ${i}?,it is the ${i}th of them.`);
    writeFileSync(join(mesh.directory, "rows.csv"), `question,answer\n${rows.join("\n")}\n`);
    mesh.#reference = await startPolicyServer();
    const { scorers } = mesh;
    const { calls } = mesh;
    mesh.#reward = await mesh.#serve(
      implement(RewardService, {
        score: async ({ texts }) => {
          calls.reward += 1;
          const scores = texts.map(async (text) => ({ reward: await scorers.reward(text, calls.reward) }));
          return { results: await Promise.all(scores) };
        },
        getInfo: () => ({}),
      }),
    );
    mesh.#bertscore = await mesh.#serve(
      implement(BertScoreService, {
        score: async ({ pairs }) => {
          calls.similarity += 1;
          const scores = pairs.map(async ({ candidate, references }) => {
            const f1 = await scorers.similarity(candidate, references[0] ?? "", calls.similarity);
            return { score: { precision: f1, recall: f1, f1 } };
          });
          return { results: await Promise.all(scores) };
        },
        explain: () => Promise.reject(new Error("the trainer does not call this")),
        getInfo: () => ({}),
      }),
    );
    return mesh;
  }

  /** Text of a run file for four samples a batch. */
  runFile(policies: readonly string[], change: RunFileChange = {}): string {
    return JSON.stringify({
      kind: "ppo",
      seed: 3,
      threads: 1,
      model: GOLDEN,
      data: { train: join(this.directory, "rows.csv") },
      generation: { maxNewTokens: 6 },
      rewards: [{ type: "classifier", signed: false }],
      batches: 3,
      checkpoint: { every: 1, keepLast: 10 },
      servers: {
        policy: { addresses: policies },
        reference: { addresses: [this.#reference?.address] },
        reward: { addresses: [this.#reward] },
        bertscore: { addresses: [this.#bertscore] },
      },
      ...change,
      ppo: { batchSize: 4, minibatchSize: 2, epochs: 2, learningRate: 1e-3, ...change.ppo },
    });
  }

  /** Starts a policy server that follows a run which is about to be started. */
  async policy(id: string, faults: PolicyFaults = {}, listen?: string): Promise<TestPolicyServer> {
    const url = `file:${join(this.runsDirectory, id, "weights")}`;
    const server = await startPolicyServer({ bus: { url, run: id }, ...(listen ? { listen } : {}) });
    Object.assign(server.faults, faults);
    this.#policies.push(server);
    return server;
  }

  /** Runs a run file to its end, whatever that is, with a policy server of its own. */
  async run(id: string, change: RunFileChange = {}, faults: PolicyFaults = {}): Promise<MeshRun> {
    const { address } = await this.policy(id, faults);
    this.manager.start(this.runFile([address], change), this.directory, id);
    await this.manager.finished(id);
    return this.ended(id);
  }

  /** Faults of the reference server. */
  get reference(): PolicyFaults {
    return (this.#reference as TestPolicyServer).faults;
  }

  /** What a run left behind. */
  async ended(id: string): Promise<MeshRun> {
    await this.manager.finished(id);
    const { record, directory } = this.manager.get(id);
    const events: RunEvent[] = [];
    for await (const event of this.manager.watch(id, 0, new AbortController().signal)) events.push(event);
    const metrics = readJournal(join(directory, "metrics.jsonl")) as MeshRun["metrics"];
    return { id, directory, record, events, metrics };
  }

  /** Ends every model server; what runs left behind stays. */
  async closeServers(): Promise<void> {
    const policies = [...this.#policies.splice(0), ...(this.#reference ? [this.#reference] : [])];
    this.#reference = undefined;
    const drained = this.#servers.splice(0).map((server) => server.drain());
    await Promise.all([...policies.map((policy) => policy.close()), ...drained]);
  }

  async close(): Promise<void> {
    await this.closeServers();
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(this.runsDirectory, { recursive: true, force: true });
  }

  async #serve(service: Parameters<typeof startServer>[0]["services"][number]): Promise<string> {
    const server = await startServer({
      name: "scorer",
      services: [service],
      listen: "127.0.0.1:0",
      log: silentLog(),
    });
    this.#servers.push(server);
    return server.address;
  }
}

/** Log events of a run that carry a field, e.g. `alarm`. */
export function logged(run: MeshRun, field: string): (RunEvent & { kind: "log" })[] {
  return run.events.filter(
    (event): event is RunEvent & { kind: "log" } =>
      event.kind === "log" && event.fields?.[field] !== undefined,
  );
}
