/**
 * @file What PPO remembers from batch to batch besides weights and optimizer: the KL coefficient and the moments of the scores.
 */
import { KlController } from "./kl-controller.js";
import type { PpoOptions } from "./options.js";
import { RunningMoments, type RunningMomentsState } from "./scores.js";

/** PPO's memory as plain JSON, for a checkpoint. */
export interface PpoStateSnapshot {
  /** KL coefficient of the next step. */
  klCoef: number;
  /** Moments of all scores so far. */
  scores: RunningMomentsState;
}

/** PPO's memory. A step changes it only when it succeeds. */
export class PpoState {
  readonly klController: KlController;
  scores = new RunningMoments();

  /** A new run; or, with a snapshot, one that goes on from a checkpoint. */
  constructor(options: PpoOptions, snapshot?: PpoStateSnapshot) {
    this.klController = new KlController({
      kind: options.klController,
      initial: options.initialKlCoef,
      target: options.klTarget,
      horizon: options.klHorizon,
    });
    if (!snapshot) return;
    this.klController.value = snapshot.klCoef;
    this.scores.state = { ...snapshot.scores };
  }

  /** A copy for a checkpoint. */
  snapshot(): PpoStateSnapshot {
    return { klCoef: this.klController.value, scores: { ...this.scores.state } };
  }
}
