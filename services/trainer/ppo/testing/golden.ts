/**
 * @file Numbers that TRL itself produced, for tests: test/golden/ppo-trl-*.json, typed; and comparison within a tolerance.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../../../lib/config/index.js";

/** A tensor as the v0.2.1 file has it. */
interface GoldenTensor {
  shape: number[];
  data: number[];
}

/** ppo-trl-vectors.json; what is in it, the PPO specification says in its §9. */
export interface Golden021 {
  config: {
    learning_rate: number;
    init_kl_coef: number;
    target: number;
    horizon: number;
    gamma: number;
    lam: number;
    cliprange: number;
    cliprange_value: number;
    vf_coef: number;
    batch_size: number;
    ppo_epochs: number;
  };
  queries: number[][];
  responses: number[][];
  scores: number[];
  policy_before: Record<string, GoldenTensor>;
  reference: Record<string, GoldenTensor>;
  policy_after: Record<string, GoldenTensor>;
  rollout: {
    logprobs: number[][];
    ref_logprobs: number[][];
    values_shifted_one_left: number[][];
    non_score_rewards: number[][];
    rewards: number[][];
  };
  forward_sample0: { logits_last_position: number[]; values_all_positions: number[] };
  gae: { advantages_raw: number[]; returns: number[]; advantages_whitened: number[] }[];
  python_random_seed_before_step: number;
  minibatches: ({ sample: number; grads?: Record<string, number[]> } & Record<string, unknown>)[];
  stats: Record<string, number | number[] | number[][]>;
  kl_coef_after: number;
  unit: {
    whiten: {
      in: number[];
      shift_mean_true: number[];
      shift_mean_false: number[];
      var_unbiased: number;
    };
    logprobs_from_logits: { logits: number[][][]; labels: number[][]; out: number[][] };
    entropy_from_logits: { out: number[][] };
    adaptive_kl: {
      init: number;
      target: number;
      horizon: number;
      steps: { current: number; n_steps: number; value_after: number }[];
    };
  };
}

/** One case of ppo-trl-v0.7.11-vectors.json. Rows cover positions 0 … L−2 of the padded batch; `masks` marks responses. */
export interface Golden0711 {
  config: {
    batch_size: number;
    mini_batch_size: number;
    gradient_accumulation_steps: number;
    ppo_epochs: number;
    learning_rate: number;
    adap_kl_ctrl: boolean;
    init_kl_coef: number;
    kl_penalty: "kl" | "abs" | "mse" | "full";
    target: number;
    horizon: number;
    gamma: number;
    lam: number;
    cliprange: number;
    cliprange_value: number;
    vf_coef: number;
    max_grad_norm: number | null;
    whiten_rewards: boolean;
    use_score_scaling: boolean;
    use_score_norm: boolean;
    score_clip: number | null;
    early_stopping: boolean;
    target_kl: number;
    ratio_threshold: number;
  };
  epoch_orders: number[][];
  minibatches: Record<string, number>[];
  rewards: number[][];
  non_score_reward: number[][];
  kl: number[][];
  advantages: number[][];
  returns: number[][];
  logprobs: number[][];
  values: number[][];
  masks: number[][];
  ref_logprobs: number[][];
  stats: Record<string, number>;
  kl_coef_after: number;
  policy_after: Record<string, number[] | number[][]>;
}

/** The run of TRL v0.2.1. */
export function golden021(): Golden021 {
  return read("ppo-trl-vectors.json") as Golden021;
}

/** The runs of TRL v0.7.11, by name of the case. */
export function golden0711(): Record<string, Golden0711> {
  return (read("ppo-trl-v0.7.11-vectors.json") as { cases: Record<string, Golden0711> }).cases;
}

const files = new Map<string, unknown>();

function read(name: string): unknown {
  const path = join(packageRoot(), "test/golden", name);
  if (!files.has(name)) files.set(name, JSON.parse(readFileSync(path, "utf8")));
  return files.get(name);
}

/** Asserts that numbers agree within an absolute tolerance, naming the worst one. */
export function assertClose(
  actual: number | ArrayLike<number>,
  expected: number | ArrayLike<number>,
  tolerance: number,
  name = "value",
): void {
  const [a, b] = [toArray(actual), toArray(expected)];
  assert.equal(a.length, b.length, `${name}: length`);
  let worst = -1;
  let distance = tolerance;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i] - b[i]);
    if (!(d <= distance)) [worst, distance] = [i, d];
  }
  if (worst >= 0) {
    assert.fail(
      `${name}[${worst}]: expected ${b[worst]} ± ${tolerance}, got ${a[worst]} (off by ${distance})`,
    );
  }
}

function toArray(value: number | ArrayLike<number>): ArrayLike<number> {
  return typeof value === "number" ? [value] : value;
}
