import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NotFoundError } from "./errors.js";
import { writeTrace } from "./testing/trace-fixture.js";
import { readTimeline } from "./timeline.js";

describe("timelines", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-timeline-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  describe("the timeline of a batch", () => {
    it("has a lane per process, the trainer first, with times from the batch's start", async () => {
      await writeTrace(folder, "one", 4);
      await writeTrace(folder, "one", 5);
      const { lanes, durationMs, leftOut } = await readTimeline(join(folder, "one"), "one", 5);
      assert.deepEqual(
        lanes.map(({ name, service }) => [name, service]),
        [
          ["trainer", "trainer"],
          ["bertscore", "bertscore"],
          ["policy-1", "policy"],
          ["policy-2", "policy"],
          ["reference", "policy"],
          ["reward", "reward"],
        ],
      );
      assert.equal(durationMs, 5400);
      assert.equal(leftOut, 0);
      const apply = lanes[3]?.spans.find(({ name }) => name === "rlhf.weights.apply");
      assert.deepEqual([apply?.startMs, apply?.endMs, apply?.error], [5125, 5380, "fetch timed out once"]);
      assert.equal(lanes[2]?.spans.at(-1)?.attributes["rlhf.weight_version"], "5");
    });

    it("puts spans that overlap into rows of their own, parents above", async () => {
      await writeTrace(folder, "one", 1);
      const trainer = (await readTimeline(join(folder, "one"), "one", 1)).lanes[0];
      const rowOf = (name: string) => trainer?.spans.find((span) => span.name === name)?.row;
      assert.equal(rowOf("rlhf.batch"), 0);
      assert.equal(rowOf("rlhf.generate"), 1);
      for (const [i, a] of (trainer?.spans ?? []).entries()) {
        for (const b of trainer?.spans.slice(i + 1) ?? []) {
          const apart = a.row !== b.row || a.endMs <= b.startMs || b.endMs <= a.startMs;
          assert.ok(apart, `${a.name} and ${b.name} cover one another`);
        }
      }
    });

    it("says whether there are no traces at all, or none of this batch", async () => {
      await assert.rejects(readTimeline(join(folder, "one"), "one", 1), (error: unknown) => {
        return error instanceof NotFoundError && /This run has no traces/.test(error.message);
      });
      await writeTrace(folder, "one", 1);
      await assert.rejects(readTimeline(join(folder, "one"), "one", 2), /No trace has batch 2/);
      await assert.rejects(readTimeline(join(folder, "one"), "other", 1), /No trace has batch 1/);
    });
  });
});
