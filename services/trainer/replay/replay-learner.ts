/**
 * @file The learner of a replay: begins at a checkpoint, computes on the device and with the threads of the recorded step, and
 * moves to others where the run did.
 */
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import { PolicyLearner } from "../learner/policy-learner.js";
import type { LearnerSetup } from "../loop/batch-record.js";
import type { PpoRunState } from "../loop/ppo-state.js";
import { type LearnerConfig, learnerSettings, openRunLearner } from "../loop/run-learner.js";
import type { StoredCheckpoint } from "../runs/checkpoint-store.js";

/** A learner of a run's past. */
export class ReplayLearner {
  private constructor(
    private readonly config: LearnerConfig,
    private setup: LearnerSetup,
    private engine: Engine,
    /** The learner now; `moveTo` replaces it. */
    public learner: PolicyLearner,
    /** What the checkpoint holds besides tensors. */
    readonly resumed: PpoRunState | undefined,
  ) {}

  /** Opens the run's learner as it was at a checkpoint, or at its start. */
  static async open(
    config: LearnerConfig,
    checkpoint: StoredCheckpoint | undefined,
    setup: LearnerSetup,
  ): Promise<ReplayLearner> {
    const engine = await engineOf(setup);
    try {
      const of = { ...config, batches: setup.totalSteps };
      const { learner, resumed } = await openRunLearner(engine, of, checkpoint);
      return new ReplayLearner(config, setup, engine, learner, resumed);
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** Goes on with the setup of the next step; weights and optimizer come along bit for bit. */
  async moveTo(setup: LearnerSetup): Promise<void> {
    if (JSON.stringify(setup) === JSON.stringify(this.setup)) return;
    const [weights, state] = [await this.learner.readWeights(), await this.learner.exportState()];
    const { config } = this.learner;
    await this.close();
    this.engine = await engineOf(setup);
    this.setup = setup;
    const data = new Map([...weights].map(([name, parameter]) => [name, parameter.data]));
    const settings = learnerSettings({ ...this.config, batches: setup.totalSteps });
    this.learner = await PolicyLearner.create(this.engine, config, data, settings);
    await this.learner.importState(state);
  }

  async close(): Promise<void> {
    await this.learner.release();
    await this.engine.close();
  }
}

function engineOf({ device, threads }: LearnerSetup): Promise<Engine> {
  return createEngine({ device, intraOpThreads: threads, spin: false });
}
