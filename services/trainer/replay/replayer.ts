/** @file Replays and comparisons of the runs of one trainer. */
import { RunStateError, TrainerBusyError } from "../errors.js";
import { type PpoRunConfig, parseRunConfig } from "../run-config.js";
import type { RunManager } from "../runs/manager.js";
import { type ComparedRun, diffRuns, type RunDifference } from "./diff.js";
import { type ReplayedBatch, type ReplayOptions, replayBatches } from "./replay.js";

/** Looks into runs that are not at work. */
export class Replayer {
  #replaying: string | undefined;

  constructor(private readonly runs: RunManager) {}

  /**
   * Repeats a PPO run's batches up to one; see replayBatches. Throws UnknownRunError, RunStateError for a run that is at work or cannot
   * be replayed, TrainerBusyError while another replay runs: each holds a learner.
   */
  async *replay(runId: string, batch: number, options: ReplayOptions): AsyncGenerator<ReplayedBatch> {
    const { record, directory, config } = this.runs.get(runId);
    if (record.kind !== "ppo") {
      throw new RunStateError(`run ${runId} is of kind ${record.kind}; only ppo runs are recorded`);
    }
    if (record.state === "STARTING" || record.state === "RUNNING") {
      throw new RunStateError(`run ${runId} is at work: its checkpoints come and go; pause it first`);
    }
    if (this.#replaying !== undefined) throw new TrainerBusyError([`replay of ${this.#replaying}`], 1);
    this.#replaying = runId;
    try {
      yield* replayBatches(directory, parseRunConfig(config, directory) as PpoRunConfig, batch, options);
    } finally {
      this.#replaying = undefined;
    }
  }

  /** Compares two runs; see diffRuns. Throws UnknownRunError. */
  diff(runId: string, otherRunId: string): RunDifference {
    return diffRuns(this.#compared(runId), this.#compared(otherRunId));
  }

  #compared(runId: string): ComparedRun {
    const { directory, config } = this.runs.get(runId);
    return { directory, config: parseRunConfig(config, directory) };
  }
}
