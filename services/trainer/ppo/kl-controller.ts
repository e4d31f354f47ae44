/**
 * @file The KL coefficient β and how it follows the measured KL (arXiv:1909.08593 §2.2), in float64.
 * In: mean KL per sequence of a batch. Out: the next coefficient. The state is one number.
 */

/** The largest relative error that moves the coefficient, either way. */
const MAX_ERROR = 0.2;

/** Settings of a controller. */
export interface KlControllerOptions {
  /** `fixed` keeps the coefficient; `adaptive` steers KL towards the target. */
  kind: "adaptive" | "fixed";
  /** Coefficient to start with. */
  initial: number;
  /** KL to steer to, in nats per sequence. */
  target: number;
  /** Samples over which the coefficient may move by about its own size. */
  horizon: number;
}

/** Holds β between batches. */
export class KlController {
  readonly #options: KlControllerOptions;
  /** β, the coefficient of the next batch. Assign to restore a checkpoint. */
  value: number;

  constructor(options: KlControllerOptions) {
    this.#options = options;
    this.value = options.initial;
  }

  /** After a batch of `samples` with mean KL `current`: β ← β·(1 + clip(K/target − 1, ±0.2)·n/horizon), if adaptive. */
  update(current: number, samples: number): void {
    const { kind, target, horizon } = this.#options;
    if (kind === "fixed") return;
    const error = Math.min(Math.max(current / target - 1, -MAX_ERROR), MAX_ERROR);
    this.value *= 1 + (error * samples) / horizon;
  }
}
