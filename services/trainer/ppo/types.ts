/**
 * @file What a PPO step takes: samples with their scores, and what forward passes said of them.
 */

/** Token ids. */
export type TokenIds = ArrayLike<number>;

/** A query and its response. */
export interface PpoSequence {
  /** Query ids, [Q]. */
  query: TokenIds;
  /** Response ids, [G]. */
  response: TokenIds;
}

/** What the policy said of a response when its batch was made; stays fixed through all epochs. */
export interface Rollout {
  /** Logprob of each response token, [G]. */
  logprobs: Float32Array;
  /** Value per response token, [G], at the positions that `valueIndexShift` says. */
  values: Float32Array;
  /** Log-distribution at each response token, [G, V] row by row; only for `klPenalty: full`. */
  fullLogprobs?: Float32Array;
}

/** One sample of a batch. */
export interface PpoSample extends PpoSequence {
  /** Composed score of the response. */
  score: number;
  /** Logprob of each response token under the reference policy, [G]. */
  refLogprobs: Float32Array;
  /** The reference's log-distribution at each response token, [G, V]; needed for `klPenalty: full`. */
  refFullLogprobs?: Float32Array;
  /** The rollout quantities where the caller already has them; else the step computes them with the learner. */
  rollout?: Rollout;
  /** Version of the weights that wrote the response, for `rollout/weight_version_lag`. */
  weightVersion?: number;
}

/** Samples of one PPO step. */
export interface PpoBatch {
  samples: readonly PpoSample[];
  /** Version of the learner's weights as the step begins. */
  weightVersion?: number;
}
