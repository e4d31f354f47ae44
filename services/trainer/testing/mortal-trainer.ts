/**
 * @file For tests: a process that works a PPO run to its end, or dies at a point of it. Reads what to do from its first argument; exits with
 * 0 only where the run finished.
 */
import { silentLog } from "../../../lib/telemetry/index.js";
import { Evaluator } from "../evaluate/evaluator.js";
import { runPpo } from "../loop/ppo-run.js";
import { RunManager } from "../runs/manager.js";
import { armed, type KillPoint } from "./kill-points.js";

/** What such a process is told. */
export interface MortalRun {
  readonly runsDirectory: string;
  readonly baseDirectory: string;
  readonly id: string;
  /** Text of the run file. */
  readonly config: string;
  /** Where to die; none: the test kills from outside, or not at all. */
  readonly point?: KillPoint | undefined;
  /** In which step. */
  readonly step: number;
  /** Compare before and after when the run is done. */
  readonly evaluate?: boolean | undefined;
}

const { runsDirectory, baseDirectory, id, config, point, step, evaluate } = JSON.parse(
  process.argv[2] as string,
) as MortalRun;
const never = () => Promise.reject(new Error("another kind of run"));
const manager = new RunManager({
  runsDirectory,
  log: silentLog(),
  runners: {
    ppo: (context) => runPpo(point ? armed(context, point, step) : context),
    sft: never,
    reward: never,
    encoder: never,
  },
});
manager.start(config, baseDirectory, id);
const { state, reason } = await manager.finished(id);
if (evaluate && state === "FINISHED") {
  await new Evaluator(manager).evaluate(id, { rows: 2, signal: new AbortController().signal });
}
if (state !== "FINISHED") process.stderr.write(`${state}: ${reason}\n`);
process.exitCode = state === "FINISHED" ? 0 : 1;
