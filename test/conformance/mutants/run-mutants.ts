/** @file Puts a table of mistakes to the conformance kit: the toy passes all checks, and each mistake fails its own. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type CheckResult,
  type ConformanceKind,
  checksOf,
  runConformance,
} from "../../../cli/conformance/run.js";
import type { TargetOptions } from "../../../cli/conformance/target.js";
import type { BaseToy } from "../toy/base.js";
import { startToy } from "../toy/server.js";
import type { Mutants } from "./mutation.js";

const TOKEN = "toy-token-1";
/** Longest wait for one answer. */
const DEADLINE_MS = 20_000;

/** Checks that look at times, which a busy machine can blur; a check that is blind stays so. */
const TIMED = /^(deadline|cancel)\/|^stream\/early$|^limits\/queue$/;

/** Starts a toy and runs checks against it. */
export async function check<T extends BaseToy>(
  kind: ConformanceKind,
  toy: T,
  selection: { only?: readonly string[] } = {},
  options: Partial<TargetOptions> = { token: TOKEN, traceFile: "spans.jsonl" },
): Promise<CheckResult[]> {
  const directory = mkdtempSync(join(tmpdir(), "rlhf-toy-"));
  const traceFile = options.traceFile && join(directory, options.traceFile);
  if (traceFile) toy.traceFile = traceFile;
  const running = await startToy(toy);
  try {
    return await runConformance(
      kind,
      running.address,
      { deadlineMs: DEADLINE_MS, ...options, traceFile },
      selection,
    );
  } finally {
    running.stop();
    rmSync(directory, { recursive: true });
  }
}

/** A toy that asks for the token that `check` sends. */
export function withToken<T extends BaseToy>(toy: T): T {
  toy.kept.token = TOKEN;
  return toy;
}

/** The tests of one service. */
export function testMutants<T extends BaseToy>(
  kind: ConformanceKind,
  makeToy: () => T,
  mutants: Mutants<T>,
): void {
  describe(`the conformance kit of ${kind}`, function () {
    this.timeout(120_000);

    it("finds nothing wrong with a stranger's server that is right, and leaves nothing open", async function () {
      this.retries(2); // deadlines and cancellations are measured
      const results = await check(kind, withToken(makeToy()));
      assert.deepEqual(
        results.filter(({ outcome }) => outcome !== "pass"),
        [],
      );
      assert.equal(results.length, checksOf(kind).length);
    });

    it("has a mistake for each of its checks", () => {
      assert.deepEqual(
        Object.keys(mutants).sort(),
        checksOf(kind)
          .map(({ id }) => id)
          .sort(),
      );
      for (const [id, list] of Object.entries(mutants)) assert.ok(list.length > 0, id);
    });

    for (const [id, list] of Object.entries(mutants)) {
      for (const { mistake, make, says } of list) {
        it(`${id} catches that ${mistake}`, async function () {
          if (TIMED.test(id)) this.retries(4);
          const toy = withToken(makeToy());
          make(toy);
          const [result, ...others] = await check(kind, toy, { only: [id] });
          assert.deepEqual([result?.id, result?.outcome, others.length], [id, "fail", 0], result?.detail);
          assert.match(result?.detail ?? "", says);
        });
      }
    }
  });
}
