/** @file The trainer under the contract. */
import { RunState, TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import type { Client } from "../../lib/rpc/index.js";
import { awaitRun } from "../support/runs.js";
import type { Sandbox } from "../support/sandbox.js";
import { type Call, contract, golden } from "./contract.js";

type Methods = (typeof TrainerService)["method"];

const MODEL = golden("gpt2-tiny");
/** Runs that are made before the calls, oldest first. */
const RUNS = ["first", "second", "third"];
/** A run that goes on until it is stopped. */
const LASTING = "lasting";

/** Fine-tuning of next to nothing. */
function runFile(box: Sandbox, change: object = {}): string {
  const train = box.write("rows.csv", "question,answer\nwhere is it?,it is here.\nwho is it?,it is ann.\n");
  const size = { epochs: 1, batchSize: 2, maxTokens: 16, checkpoint: { every: 1000 } };
  return JSON.stringify({ kind: "sft", threads: 1, model: MODEL, data: { train }, ...size, ...change });
}

const start =
  (config: object | string, runId?: string): Call<Methods> =>
  (client) =>
    client.startRun({
      config: typeof config === "string" ? config : JSON.stringify(config),
      ...(runId === undefined ? {} : { runId }),
    });

async function events(
  client: Client<Methods>,
  request: { runId: string; fromEvent?: bigint },
): Promise<void> {
  for await (const _ of client.watchRun(request)) return;
}

async function replayed(client: Client<Methods>, runId: string, batch: bigint): Promise<void> {
  for await (const _ of client.replayRun({ runId, batch })) return;
}

const SFT = { kind: "sft", model: MODEL, data: { train: "rows.csv" } };
const NONE = "no-such-run";

export const trainerContract = contract<Methods>({
  service: "trainer",
  desc: TrainerService,
  args: (box) => ["--runs-dir", box.path("runs")],
  async prepare(client, box) {
    for (const runId of RUNS) {
      await client.startRun({ config: runFile(box), runId });
      const { state, reason } = await awaitRun(client, runId);
      if (state !== RunState.FINISHED) throw new Error(`${runId}: ${reason}`);
    }
  },
  wrong: {
    "no run file": { field: "config", call: start("") },
    "a run file that is no mapping": { field: "config", call: start("just text") },
    "a kind that there is not": { field: "config.kind", call: start({ kind: "dpo" }) },
    "a field that there is not": { field: "config.epoch", call: start({ ...SFT, epoch: 3 }) },
    "a number out of range": { field: "config.batchSize", call: start({ ...SFT, batchSize: 0 }) },
    "a nested value out of range": {
      field: "config.optimizer.learningRate",
      call: start({ ...SFT, optimizer: { learningRate: -1 } }),
    },
    "rows that are not there": {
      field: "config.data.train",
      call: start({ ...SFT, data: { train: "gone.csv" } }),
    },
    "a model of another family": {
      field: "config.model",
      call: start({ ...SFT, model: golden("roberta-tiny") }),
    },
    "a name that would leave the directory": { field: "run_id", call: start(SFT, "../elsewhere") },
    "an event below 0": {
      field: "from_event",
      call: (client) => events(client, { runId: "first", fromEvent: -1n }),
    },
    "a page of no runs": { field: "page_size", call: (client) => client.listRuns({ pageSize: 0 }) },
    "a page token of one's own": {
      field: "page_token",
      call: (client) => client.listRuns({ pageToken: "last" }),
    },
    "a run file to resume with that is wrong": {
      field: "config.kind",
      call: (client) => client.resumeRun({ runId: "first", config: "kind: dpo" }),
    },
    "no rows to compare on": {
      field: "rows",
      call: (client) => client.evaluate({ runId: "first", rows: 0 }),
    },
    "a batch below 1": { field: "batch", call: (client) => replayed(client, "first", 0n) },
  },
  unmet: {
    "a name that is taken": (client) =>
      client.startRun({ config: JSON.stringify(goldenRun()), runId: "first" }),
    "a finished run to pause": (client) => client.pauseRun({ runId: "first" }),
    "a finished run to stop": (client) => client.stopRun({ runId: "first" }),
    "a finished run to resume": (client) => client.resumeRun({ runId: "first" }),
    "a comparison of a run that is no ppo run": (client) => client.evaluate({ runId: "first" }),
    "a replay of a run that kept no record": (client) => replayed(client, "first", 1n),
  },
  unknown: {
    "the run that it is to describe": (client) => client.getRun({ runId: NONE }),
    "the run that it is to watch": (client) => events(client, { runId: NONE }),
    "the run that it is to pause": (client) => client.pauseRun({ runId: NONE }),
    "the run that it is to stop": (client) => client.stopRun({ runId: NONE }),
    "the run that it is to resume": (client) => client.resumeRun({ runId: NONE }),
    "the run that it is to compare": (client) => client.evaluate({ runId: NONE }),
    "the run that it is to replay": (client) => replayed(client, NONE, 1n),
    "the run that it is to hold another against": (client) =>
      client.diffRuns({ runId: "first", otherRunId: NONE }),
  },
  full: {
    args: (box) => ["--runs-dir", box.path("busy"), "--max-runs", "1"],
    calls: (box) => [LASTING, "refused"].map((runId) => start(runFile(box, { epochs: 1_000_000 }), runId)),
    end: (client) => client.stopRun({ runId: LASTING }).catch(() => client.stopRun({ runId: "refused" })),
  },
  info: async (client) => ({ server: (await client.getInfo({})).server }),
  limits: ["max_config_bytes", "max_page_size", "max_runs"],
  replies: {},
  order: {
    ListRuns: async (client) => {
      const { runs } = await client.listRuns({});
      return [runs.map(({ id }) => id), RUNS.toReversed()];
    },
  },
});

/** A run file whose inputs exist. */
function goldenRun(): object {
  return { ...SFT, data: { train: `${MODEL}/config.json` } };
}
