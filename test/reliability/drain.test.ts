/**
 * @file SIGTERM under load: every call that the server accepted is answered, the others are refused in a way that says so, streams that
 * have no end of their own are ended, and the process exits with 0 in time. What was accepted is read from the server's own log.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DescMethod } from "@bufbuild/protobuf";
import { Health } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { TrainerService, WatchRunRequestSchema } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { encodeMessage, methodPath } from "../../lib/api/index.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { GOLDEN } from "../../services/policy/testing.js";
import { eventually } from "../support/eventually.js";
import type { Service } from "../support/processes.js";
import { type Sandbox, useSandbox } from "../support/sandbox.js";
import { noteFigure } from "./figures.js";
import { GOLDEN_CLASSIFIER } from "./golden.js";
import { frameOf, GrpcWire, type WireOutcome } from "./grpc-wire.js";
import { scale } from "./scale.js";

const CALLERS = 24;
const WATCHERS = 4;
/** Limit of the contract. */
const LONGEST_MS = 30_000;
/** How long callers call before the signal. */
const BEFORE_MS = 600;

/** A service, how it is started, and the call that is made of it. */
interface Subject {
  readonly service: "policy" | "reward" | "bertscore" | "trainer";
  readonly args: (box: Sandbox) => string[];
  readonly method: DescMethod;
  readonly request: object;
  /** Makes it busy before the calls; gives further streams without an end. */
  readonly prepare?: (box: Sandbox, service: Service) => Promise<Stream[]>;
}

interface Stream {
  readonly path: string;
  readonly body: Buffer;
}

const prompts = Array.from({ length: 4 }, () => ({ input: { case: "tokens", value: { ids: [5, 6, 7] } } }));
const texts = Array.from({ length: 16 }, (_, i) => `text ${i} `.repeat(40));
const SUBJECTS: readonly Subject[] = [
  {
    service: "policy",
    args: () => ["--model", GOLDEN],
    method: PolicyService.method.generate,
    request: { prompts, options: { maxNewTokens: 110, ignoreEos: true } },
  },
  {
    service: "reward",
    args: () => ["--model", GOLDEN_CLASSIFIER],
    method: RewardService.method.score,
    request: { texts, truncate: true },
  },
  {
    service: "bertscore",
    args: () => ["--model", GOLDEN_CLASSIFIER, "--layer", "2"],
    method: BertScoreService.method.score,
    request: { pairs: texts.map((text) => ({ candidate: text, references: [`the ${text}`] })) },
  },
  {
    service: "trainer",
    args: (box) => ["--runs-dir", box.path("runs")],
    method: TrainerService.method.listRuns,
    request: {},
    prepare: startRun,
  },
];

describe("a server that is told to end under load", function () {
  this.timeout(scale.full ? 300_000 : 90_000);
  const sandbox = useSandbox("each");

  for (const subject of SUBJECTS) {
    it(`loses no accepted call, ends streams, and exits with 0 in time: ${subject.service}`, async () => {
      const drains: Drained[] = [];
      for (let i = 0; i < scale.drains; i++) drains.push(await drainOnce(sandbox(), subject));
      const sum = (of: (drained: Drained) => number) => drains.reduce((all, each) => all + of(each), 0);
      noteFigure({
        test: `drain: ${subject.service}`,
        load: `${scale.drains} × SIGTERM with ${CALLERS} callers, ${sum(({ running }) => running)} calls in the server, Watch streams open`,
        measured: `${sum(({ answered }) => answered)} accepted calls, 0 lost, ${sum(({ refused }) => refused)} refused; exit 0 after at most ${(Math.max(...drains.map(({ ms }) => ms)) / 1000).toFixed(1)} s`,
      });
      if (subject.service === "trainer") {
        const directory = sandbox().path("runs", RUN);
        const { state, step } = JSON.parse(readFileSync(join(directory, "run.json"), "utf8"));
        assert.equal(state, "INTERRUPTED");
        const newest = readdirSync(join(directory, "checkpoints")).sort().at(-1);
        assert.equal(newest, `step-${String(step).padStart(8, "0")}`, "a checkpoint of its last step");
      }
    });
  }
});

interface Drained {
  readonly answered: number;
  readonly refused: number;
  /** Calls that had no answer when the signal came. */
  readonly running: number;
  readonly ms: number;
}

async function drainOnce(
  box: Sandbox,
  { service: name, args, method, request, prepare }: Subject,
): Promise<Drained> {
  const service = await box.serve(name, [...args(box), "--log-level", "debug"]);
  const further = (await prepare?.(box, service)) ?? [];
  const wire = await GrpcWire.connect(service.address, 4);
  const health = { path: methodPath(Health.method.watch), body: frameOf(new Uint8Array()) };
  const streams = [...Array.from({ length: WATCHERS }, () => health), ...further];
  const watching = await GrpcWire.connect(service.address);
  const watched = streams.map((stream) => watching.call({ ...stream, deadlineMs: 120_000 }));
  const outcomes = new Map<string, WireOutcome>();
  const body = frameOf(encodeMessage(method.input, request as never));
  let busy = true;
  let calls = 0;
  const caller = async () => {
    while (busy) {
      const id = `call-${calls++}`;
      const headers = { "x-request-id": id };
      const outcome = await wire.call({ path: methodPath(method), body, deadlineMs: 60_000, headers });
      outcomes.set(id, outcome);
      if (!outcome.answered) return; // the connection is closed
    }
  };
  const callers = Array.from({ length: CALLERS }, caller);
  await new Promise((resolve) => setTimeout(resolve, BEFORE_MS));
  await eventually(
    () => outcomes.size > CALLERS,
    () => "some calls are answered",
  );
  const running = wire.inFlight;
  const told = performance.now();
  service.child.kill("SIGTERM");
  const { code, stderr } = await service.ended;
  const ms = performance.now() - told;
  busy = false;
  await Promise.all(callers);
  const ends = await Promise.all(watched);
  for (const each of [wire, watching]) each.close();
  assert.equal(code, 0, stderr.slice(-2000));
  assert.ok(ms < LONGEST_MS, `it took ${ms} ms`);
  for (const [i, { status, text }] of ends.entries())
    assert.notEqual(status, undefined, `${streams[i]?.path} was cut off: ${text}`);
  return { ...judge(outcomes, statusesIn(stderr)), running, ms };
}

/** Holds what callers saw against what the server logged. */
function judge(outcomes: ReadonlyMap<string, WireOutcome>, logged: ReadonlyMap<string, string>) {
  let answered = 0;
  let refused = 0;
  for (const [id, { status, reason, text }] of outcomes) {
    const said = logged.get(id);
    if (status === 0) {
      assert.equal(said, "OK", id);
      answered++;
    } else if (status === undefined) {
      // never accepted: the server knows nothing of it
      assert.equal(said, undefined, `${id}: the server said ${said}, and the caller got ${text}`);
      refused++;
    } else {
      assert.equal(reason, "DRAINING", `${id}: status ${status} ${text}`);
      refused++;
    }
  }
  for (const [id, said] of logged) {
    const lost = said === "OK" && outcomes.get(id)?.status !== 0;
    assert.ok(!lost, `${id} was computed and its answer lost: ${outcomes.get(id)?.text ?? "no end"}`);
  }
  return { answered, refused };
}

/** Status of each call of ours that a server logged, by request id. */
function statusesIn(log: string): Map<string, string> {
  const statuses = new Map<string, string>();
  for (const line of log.split("\n")) {
    if (!line.startsWith("{")) continue;
    const { request_id: id, status } = JSON.parse(line) as { request_id?: string; status?: string };
    if (id?.startsWith("call-") && status) statuses.set(id, status);
  }
  return statuses;
}

const RUN = "drained";

/** Has the trainer work on a run that never ends by itself, or go on with it; gives a stream that watches it. */
async function startRun(box: Sandbox, { address }: Service): Promise<Stream[]> {
  const client = box.client(TrainerService, address);
  const { runs } = await client.listRuns({});
  if (runs.length > 0) await client.resumeRun({ runId: RUN });
  else {
    const config = JSON.stringify({
      kind: "sft",
      threads: 1,
      init: { layers: 1, width: 32, heads: 2, positions: 64, tokenizer: { vocabSize: 400 } },
      data: { train: "examples/faq/train.csv", maxRows: 50 },
      epochs: 100_000,
      maxTokens: 32,
      checkpoint: { every: 1_000_000 },
    });
    await client.startRun({ config, runId: RUN, baseDirectory: packageRoot() });
  }
  await eventually(
    async () => Number((await client.getRun({ runId: RUN })).run?.step) > 0,
    () => "the run makes steps",
  );
  const body = frameOf(encodeMessage(WatchRunRequestSchema, { runId: RUN }));
  return [{ path: methodPath(TrainerService.method.watchRun), body }];
}
