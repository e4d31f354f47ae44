/**
 * A trainer that is killed -9 at every place of a step, the servers living on. What is resumed ends with the metrics, the optimizer and
 * the weights of the run that nobody touched, bit for bit.
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openWeightsBus } from "../../../lib/weights/index.js";
import { Evaluator } from "../evaluate/evaluator.js";
import { isTime } from "../replay/quantities.js";
import { readRunRecord } from "../runs/record.js";
import { KILL_POINTS, type KillPoint } from "../testing/kill-points.js";
import { type MeshRun, type RunFileChange, TestMesh, usualReward } from "../testing/mesh.js";
import type { MortalRun } from "../testing/mortal-trainer.js";

const MORTAL = fileURLToPath(new URL("../testing/mortal-trainer.js", import.meta.url));

const BATCHES = 5;

/** Everything that a run keeps from step to step is in use: moments of a term, KL controller, schedule, control tokens. */
const RUN = {
  batches: BATCHES,
  checkpoint: { every: 2, keepLast: 9 },
  schedule: "linear",
  rewards: [
    { type: "classifier", normalise: "running" },
    { type: "length", target: 5, signed: false },
  ],
};

/** The same, a batch ahead. */
const AHEAD = { ...RUN, maxStaleness: 1 };

describe("a trainer that is killed", function () {
  this.timeout(120_000);
  let mesh: TestMesh;
  let whole: Left;
  let wholeAhead: Left;

  before(async () => {
    mesh = await TestMesh.start();
    whole = leftBehind(await mesh.run("whole", RUN));
    wholeAhead = leftBehind(await mesh.run("whole-ahead", AHEAD));
    assert.equal(whole.metrics.length, BATCHES);
    assert.notDeepEqual(whole.metrics, wholeAhead.metrics);
  });
  after(() => mesh.close());
  afterEach(() => {
    mesh.scorers.reward = usualReward;
    delete mesh.reference.beforeLogprobs;
  });

  /** Starts a run in a process of its own. */
  async function begun(id: string, change: RunFileChange, how: Partial<MortalRun>): Promise<ChildProcess> {
    const { address } = await mesh.policy(id);
    const { runsDirectory, directory: baseDirectory } = mesh;
    const config = mesh.runFile([address], change);
    const task: MortalRun = { runsDirectory, baseDirectory, id, config, step: 0, ...how };
    return fork(MORTAL, [JSON.stringify(task)], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  }

  /** Waits for an end by SIGKILL, and checks what others are told of the run then. */
  async function died(id: string, child: ChildProcess): Promise<void> {
    const [code, signal] = await once(child, "exit");
    assert.equal(signal, "SIGKILL", `it ended with ${code}, and not where it should have`);
    assert.ok(["STARTING", "RUNNING"].includes(readRunRecord(join(mesh.runsDirectory, id))?.state ?? ""));
    const { state, reason } = mesh.manager.get(id).record;
    assert.deepEqual([state, reason], ["INTERRUPTED", "its process ended without a word"]);
  }

  /** The head of a run's bus. */
  async function headOf(id: string): Promise<{ version: number; digest: string } | undefined> {
    const bus = await openWeightsBus(`file:${join(mesh.runsDirectory, id, "weights")}`, {
      run: id,
      model: "policy",
    });
    try {
      return await bus.head();
    } finally {
      await bus.close();
    }
  }

  /** Goes on with a run and holds it against the one that nobody touched. */
  async function goesOn(id: string, expected: Left): Promise<MeshRun> {
    const before = await headOf(id);
    mesh.manager.resume(id);
    const run = await mesh.ended(id);
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(leftBehind(run), expected);
    const head = await headOf(id);
    assert.ok((head?.version ?? 0) >= (before?.version ?? 0), "the published version never goes back");
    assert.equal(run.record.weights?.version, head?.version);
    assert.equal(run.record.weights?.digest, head?.digest);
    return run;
  }

  for (const point of KILL_POINTS) {
    it(`where ${point} goes on with the same numbers`, async () => {
      const id = `at-${KILL_POINTS.indexOf(point)}`;
      await died(id, await begun(id, RUN, { point, step: stepFor(point) }));
      await goesOn(id, whole);
    });
  }

  it("before the first checkpoint begins again, with the same numbers", async () => {
    await died("first", await begun("first", RUN, { point: "the head has moved, nobody noted it", step: 1 }));
    const { events } = await goesOn("first", whole);
    assert.ok(events.some((event) => event.kind === "log" && /no good checkpoint/.test(event.message)));
  });

  for (const point of [
    "between two minibatches",
    "the head has moved, nobody noted it",
    "the checkpoint begins",
    "the checkpoint is in its place",
  ] as const) {
    it(`where ${point}, with the next batch generated ahead, goes on with the same numbers`, async () => {
      const id = `ahead-${KILL_POINTS.indexOf(point)}`;
      await died(id, await begun(id, AHEAD, { point, step: 4 }));
      await goesOn(id, wholeAhead);
    });
  }

  /** Kills the process as soon as a server is asked for the `nth` time; the server answers once it is dead. */
  function killerOf(nth: number) {
    let child: ChildProcess | undefined;
    let calls = 0;
    return {
      of: (process: ChildProcess) => {
        child = process;
      },
      asked: async () => {
        calls += 1;
        if (calls !== nth) return;
        const ended = once(child as ChildProcess, "exit");
        child?.kill("SIGKILL");
        await ended;
      },
    };
  }

  it("while a server generates goes on with the same numbers", async () => {
    const killer = killerOf(4);
    const policy = await mesh.policy("generating", { beforeGenerate: killer.asked });
    const { runsDirectory, directory: baseDirectory } = mesh;
    const config = mesh.runFile([policy.address], RUN);
    const task: MortalRun = { runsDirectory, baseDirectory, id: "generating", config, step: 0 };
    const child = fork(MORTAL, [JSON.stringify(task)]);
    killer.of(child);
    await died("generating", child);
    await goesOn("generating", whole);
  });

  it("while the reward server scores goes on with the same numbers", async () => {
    const killer = killerOf(3 * 4); // texts of a batch
    mesh.scorers.reward = async (text) => {
      await killer.asked();
      return usualReward(text);
    };
    const child = await begun("scoring", RUN, {});
    killer.of(child);
    await died("scoring", child);
    await goesOn("scoring", whole);
  });

  it("while the reference policy answers goes on with the same numbers", async () => {
    const killer = killerOf(5);
    mesh.reference.beforeLogprobs = killer.asked;
    const child = await begun("referring", RUN, {});
    killer.of(child);
    await died("referring", child);
    await goesOn("referring", whole);
  });

  it("while it compares before and after has finished its run, and compares once more", async () => {
    const killer = killerOf(BATCHES + 1);
    const policy = await mesh.policy("comparing", { beforeGenerate: killer.asked });
    const { runsDirectory, directory: baseDirectory } = mesh;
    const config = mesh.runFile([policy.address], RUN);
    const task = { runsDirectory, baseDirectory, id: "comparing", config, step: 0, evaluate: true };
    const child = fork(MORTAL, [JSON.stringify(task)]);
    killer.of(child);
    const [, signal] = await once(child, "exit");
    assert.equal(signal, "SIGKILL");
    const run = await mesh.ended("comparing");
    assert.equal(run.record.state, "FINISHED");
    assert.deepEqual(leftBehind(run), whole);
    assert.ok(!existsSync(join(run.directory, "evaluation", "comparison.csv")));
    const options = { rows: 2, signal: new AbortController().signal };
    const compared = await new Evaluator(mesh.manager).evaluate("comparing", options);
    const untouched = await new Evaluator(mesh.manager).evaluate("whole", options);
    assert.deepEqual(compared.variants, untouched.variants);
    assert.deepEqual(compared.rows, untouched.rows);
  });

  it("after it has finished goes on only with more batches, and then as if they had always been meant", async () => {
    const id = "longer";
    const steady = { ...RUN, schedule: "constant" };
    const longer = leftBehind(await mesh.run("long-from-the-start", steady));
    const { address } = await mesh.policy(id);
    const file = (batches: number) => mesh.runFile([address], { ...steady, batches });
    mesh.manager.start(file(3), mesh.directory, id);
    await mesh.manager.finished(id);
    assert.throws(() => mesh.manager.resume(id), {
      code: "WRONG_STATE",
      message:
        "run longer is FINISHED; more than 3 batches go on with it, and `rlhf eval longer` compares it once more",
    });
    mesh.manager.resume(id, file(BATCHES));
    const run = await mesh.ended(id);
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(leftBehind(run), longer);
  });

  it("is told of by a version after the newest one, and servers that held that one serve the checkpoint's weights", async () => {
    const id = "beyond";
    await died(id, await begun(id, RUN, { point: "the head has moved, nobody noted it", step: 4 }));
    assert.equal((await headOf(id))?.version, 4);
    assert.equal(readRunRecord(join(mesh.runsDirectory, id))?.weights?.version, 3);
    const run = await goesOn(id, whole);
    const warnings = run.events.flatMap((event) => (event.kind === "log" ? [event.message] : []));
    const said =
      "version 4 is beyond the weights that the run goes on from (version 2): they are published as version 5";
    assert.ok(warnings.includes(said), warnings.join("\n"));
    assert.equal(run.record.weights?.version, 8, "three steps later");
  });

  it("gives no version out twice where the bus was lost with it", async () => {
    const id = "lost";
    await died(id, await begun(id, RUN, { point: "the step's metrics are written", step: 3 }));
    rmSync(join(mesh.runsDirectory, id, "weights"), { recursive: true });
    const { address } = await mesh.policy(id); // on the model that the run started from
    mesh.manager.resume(id, mesh.runFile([address], RUN));
    const run = await mesh.ended(id);
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(leftBehind(run), whole);
    assert.equal(run.record.weights?.version, 7, "3 was given out: 4 is the checkpoint, then three steps");
  });

  it("leaves nothing half written behind once its run has ended", () => {
    const folder = (id: string) => join(mesh.runsDirectory, id, "checkpoints");
    const names = readdirSync(mesh.runsDirectory).flatMap((id) => readdirSync(folder(id)));
    assert.deepEqual([...new Set(names)].sort(), [
      "step-00000002",
      "step-00000003",
      "step-00000004",
      "step-00000005",
    ]);
    for (const id of readdirSync(mesh.runsDirectory)) {
      const all = readdirSync(join(mesh.runsDirectory, id), { recursive: true }) as string[];
      assert.deepEqual(
        all.filter((name) => /\.tmp|previous|^lock|^spare$/.test(name) && !name.startsWith("weights/")), // the bus has its own rule
        [],
        id,
      );
    }
  });
});

/** Checkpoints are due after steps 2, 4 and the last; the tuned model is written after that. */
function stepFor(point: KillPoint): number {
  return point.startsWith("the tuned model") ? BATCHES : 4;
}

/** What must be the same, bit for bit. */
type Left = ReturnType<typeof leftBehind>;

function leftBehind({ directory, metrics }: MeshRun) {
  const last = join(directory, "checkpoints", `step-${String(BATCHES).padStart(8, "0")}`);
  const { files, state } = JSON.parse(readFileSync(join(last, "manifest.json"), "utf8"));
  // how often a run was published anew, and how many digits its times have, is its own affair
  const { weightVersion: _, metricsBytes: __, ...kept } = state;
  const { "run.yaml": ___, ...learned } = files; // names its servers
  return {
    metrics: metrics.map((line) =>
      Object.fromEntries(Object.entries(line).filter(([name]) => !isTime(name))),
    ),
    model: readFileSync(join(directory, "model", "model.safetensors")).toString("base64"),
    files: learned,
    state: kept,
  };
}
