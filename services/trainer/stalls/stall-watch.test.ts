import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type RecordedTelemetry, recordTelemetry } from "../../../lib/rpc/testing/telemetry.js";
import { withSpan } from "../../../lib/telemetry/index.js";
import { logged, TestMesh } from "../testing/mesh.js";
import { StallWatch } from "./stall-watch.js";

type Line = { level: string; message: string; fields: Readonly<Record<string, string>> };

/** A watch and the lines that it says. */
function watchOf(warnMs: number) {
  const lines: Line[] = [];
  const log = (level: string, message: string, fields: Readonly<Record<string, string>> = {}) =>
    void lines.push({ level, message, fields });
  return { watch: new StallWatch({ warnMs, log }), lines };
}

describe("a wait", () => {
  it("that is short says nothing, and gives what was waited for", async () => {
    const { watch, lines } = watchOf(1000);
    assert.equal(await watch.watched({ call: "score", on: "a:1" }, async () => 7), 7);
    await assert.rejects(
      watch.watched({ call: "score", on: "a:1" }, async () => {
        throw new Error("no");
      }),
      /no/,
    );
    assert.deepEqual(lines, []);
  });

  it("that is long says what is waited for, where and since when, and its end", async () => {
    const { watch, lines } = watchOf(10);
    let where = "a:1";
    await watch.watched({ call: "generate", on: () => where }, async () => {
      await sleep(15);
      where = "a:1 serves version 3";
      await sleep(30);
    });
    const [first, second, last] = [lines[0], lines[1], lines.at(-1)];
    assert.match(first?.message ?? "", /^stall: generate on a:1, no answer for 0\.0 s \(since 20\d\d-.*Z\)$/);
    assert.equal(first?.fields.stall, "generate");
    assert.equal(second?.fields.on, "a:1 serves version 3", "asked for anew at each report");
    assert.match(last?.message ?? "", /^generate on .* went on after 0\.\d s$/);
    assert.equal(last?.level, "info");
  });

  it("whose work goes on is no stall", async () => {
    const { watch, lines } = watchOf(200);
    await watch.watched({ call: "learn", on: "cpu" }, async ({ beat }) => {
      for (let i = 0; i < 12; i++) {
        await sleep(25);
        beat();
      }
    });
    assert.deepEqual(lines, []);
  });

  it("ends at its deadline with its name, and aborts the work", async () => {
    const { watch } = watchOf(1000);
    let aborted: AbortSignal | undefined;
    await assert.rejects(
      watch.watched({ call: "publish", on: "nats://bus", deadlineMs: 10 }, ({ signal }) => {
        aborted = signal;
        return new Promise(() => {});
      }),
      { reason: "WAIT_TOO_LONG", message: "publish on nats://bus was not done within 10 ms" },
    );
    assert.ok(aborted?.aborted);
  });
});

describe("a stall", function () {
  this.timeout(30_000);
  let telemetry: RecordedTelemetry;
  let mesh: TestMesh;
  before(async () => {
    telemetry = recordTelemetry();
    mesh = await TestMesh.start();
  });
  after(async () => {
    await mesh.close();
    await telemetry.stop();
  });

  it("of a policy server is in the run's events, the metric and the span", async () => {
    const change = { batches: 1, stalls: { warnMs: 40 } };
    const run = await mesh.run("slow", change, { beforeGenerate: () => sleep(100) });
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    const [stall] = logged(run, "stall").filter(({ fields }) => fields?.stall === "generate");
    const server = stall?.fields?.on;
    assert.match(stall?.message ?? "", new RegExp(`^stall: generate on ${server}, no answer for`));
    assert.match(server ?? "", /^127\.0\.0\.1:\d+$/);
    const points = await telemetry.points("rlhf.run.stalls");
    assert.ok(points.some(({ attributes, value }) => attributes["rlhf.wait"] === "generate" && value === 1));
    const shard = telemetry.spans().find(({ name }) => name === "rlhf.generate.shard");
    assert.equal(shard?.events.find(({ name }) => name === "rlhf.stall")?.attributes?.on, server);
  });

  it("and an alarm carry the trace of their batch", async () => {
    await withSpan("rlhf.evaluate", {}, async () => {}); // another span, so that the first is not it by chance
    mesh.scorers.reward = () => 1;
    await mesh.run("dead", { batches: 2, alarms: { deadTerm: { batches: 2 } } });
    const points = await telemetry.points("rlhf.run.alarms");
    assert.deepEqual(
      points.map(({ attributes, value }) => [attributes["rlhf.alarm"], value]),
      [["deadTerm", 1]],
    );
    const batches = telemetry.spans().filter(({ name, attributes }) => {
      return name === "rlhf.batch" && attributes["rlhf.run"] === "dead";
    });
    const events = batches.map(({ events: all }) => all.filter(({ name }) => name === "rlhf.alarm").length);
    assert.deepEqual(events, [0, 1]);
    const circuits = await telemetry.points("rlhf.reward.term.circuit");
    assert.deepEqual(
      circuits.map(({ attributes, value }) => [attributes["rlhf.reward.term"], value]),
      [["classifier", 0]],
    );
  });
});
