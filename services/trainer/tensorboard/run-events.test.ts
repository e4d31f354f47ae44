import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SftRunConfig } from "../run-config.js";
import type { RunContext, RunResult } from "../runs/context.js";
import { readJournal } from "../runs/journal.js";
import { RunManager } from "../runs/manager.js";
import { readScalars } from "./testing.js";

const RUN_FILE = "{ kind: sft, init: { tokenizer: { vocabSize: 300 } }, data: { train: rows.csv } }";

describe("TensorBoard", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-run-events-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  describe("the event files of a run", () => {
    it("say what metrics.jsonl says, each step once, also after a failure two steps behind a checkpoint", async () => {
      let attempts = 0;
      const work = async (context: RunContext<SftRunConfig>): Promise<RunResult> => {
        attempts += 1;
        context.running(6);
        for (let step = (context.resumeFrom?.step ?? 0) + 1; step <= 6; step++) {
          if (attempts === 1 && step === 5) throw new Error("broken");
          context.step(step, { "sft/loss": step + attempts / 10 });
          if (step === 2)
            await context.checkpoints.save(step, { metricsBytes: context.metricsBytes() }, async () => {});
        }
        return { modelDirectory: "" };
      };
      const never = async () => assert.fail("another kind of run");
      const manager = new RunManager({
        runsDirectory: folder,
        log: { info() {}, warn() {}, error() {} },
        runners: { sft: work, ppo: never, reward: never, encoder: never },
      });
      writeFileSync(join(folder, "rows.csv"), "question,answer\nwhy?,because\n");
      manager.start(RUN_FILE, folder, "one");
      assert.equal((await manager.finished("one")).state, "FAILED");
      manager.resume("one");
      assert.equal((await manager.finished("one")).state, "FINISHED");

      const events = join(folder, "one", "tensorboard");
      assert.equal(readdirSync(events).length, 2);
      const kept = readJournal(join(folder, "one", "metrics.jsonl")) as Record<string, number>[];
      assert.deepEqual(
        [...(readScalars(events).get("sft/loss") ?? [])],
        kept.map((line) => [line.step, Math.fround(line["sft/loss"] as number)]),
      );
      assert.deepEqual(
        kept.map((line) => line["sft/loss"]),
        [1.1, 2.1, 3.2, 4.2, 5.2, 6.2],
      );
    });
  });
});
