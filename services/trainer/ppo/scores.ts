/**
 * @file Scores before they become rewards: divided by their running standard deviation, centred, clipped (TRL v0.6.0+).
 * In: scores of a batch, [B]. Out: [B]. The running moments are the only state; they belong in the checkpoint.
 */
import { ShapeError } from "./errors.js";

const { fround, sqrt } = Math;

/** Smallest float32 step above 1, which upstream adds to the standard deviation. */
const FLOAT32_EPSILON = 2 ** -23;

/** Moments of every score seen so far. */
export interface RunningMomentsState {
  /** Mean. */
  mean: number;
  /** Biased variance. */
  variance: number;
  /** Unbiased standard deviation. */
  std: number;
  /** How many; starts as a tiny number, so that the first batch replaces the initial moments. */
  count: number;
}

/** Mean and variance of a stream, merged batch by batch (Chan's parallel formula), in float32 as upstream. */
export class RunningMoments {
  state: RunningMomentsState = { mean: 0, variance: 1, std: 1, count: 1e-24 };

  /** Adds a batch. Throws ShapeError when it is empty. With one score in all, the standard deviation stays at 1. */
  update(scores: ArrayLike<number>): void {
    const count = scores.length;
    if (count === 0) throw new ShapeError("scores: expected at least 1, got 0");
    let sum = 0;
    for (let i = 0; i < count; i++) sum += fround(scores[i]);
    const batchMean = fround(sum / count);
    let squares = 0;
    for (let i = 0; i < count; i++) squares += (fround(scores[i]) - batchMean) ** 2;
    const batchVariance = fround(squares / count);

    const before = this.state;
    const total = before.count + count;
    const delta = fround(batchMean - before.mean);
    // deviations of the old scores, corrected for the new mean, and those of the new ones
    const correction = fround((fround(fround(delta * delta) * before.count) * count) / total);
    const deviations = fround(fround(before.variance * before.count + correction) + batchVariance * count);
    const variance = fround(deviations / total);
    this.state = {
      mean: fround(before.mean + fround((delta * count) / total)),
      variance,
      std: total > 1 ? fround(sqrt(fround((variance * total) / (total - 1)))) : 1,
      count: total,
    };
  }
}

/** What to do with scores. */
export interface ScoreOptions {
  /** Divide by the running standard deviation. */
  scoreScaling: boolean;
  /** With scaling: subtract the running mean first. */
  scoreNorm: boolean;
  /** Clip to ±this at last; null for no clip. */
  scoreClip: number | null;
}

/**
 * Scores as PPO uses them, [B]; `moments` is updated first where scaling is on. Scores that never
 * varied are left at their size: upstream divides them by 1.2e-7.
 */
export function processScores(
  scores: ArrayLike<number>,
  options: ScoreOptions,
  moments: RunningMoments,
): Float32Array {
  const processed = Float32Array.from(scores);
  if (options.scoreScaling) {
    moments.update(processed);
    const { mean, std } = moments.state;
    const varied = std > FLOAT32_EPSILON * (1 + Math.abs(mean)); // else rounding noise
    const divisor = varied ? fround(std + FLOAT32_EPSILON) : 1;
    const centre = options.scoreNorm ? mean : 0;
    for (let i = 0; i < processed.length; i++) processed[i] = fround(processed[i] - centre) / divisor;
  }
  if (options.scoreClip !== null) {
    const limit = fround(options.scoreClip);
    for (let i = 0; i < processed.length; i++) {
      processed[i] = Math.min(Math.max(processed[i], -limit), limit);
    }
  }
  return processed;
}
