/**
 * Parity with TRL v0.7.11: the profile `default`, its options set as each golden case says, gives TRL's own numbers on the golden
 * batch. Tolerances as in the v0.2.1 test.
 */
import assert from "node:assert/strict";
import { createEngine, type Engine } from "../../../lib/engine/index.js";
import type { PolicyLearner } from "../learner/policy-learner.js";
import { recordedOrder } from "./minibatches.js";
import { type PpoOptions, ppoOptionsSchema } from "./options.js";
import { PpoState } from "./state.js";
import { type PpoStepResult, ppoStep } from "./step.js";
import { assertClose, type Golden0711, golden021, golden0711 } from "./testing/golden.js";
import { tinyBatch, tinyLearner } from "./testing/tiny-policy.js";

const BEFORE = 1e-5;
const STATS = 1e-4;

/** Our options for a configuration of TRL v0.7.11. */
function optionsOf({ config }: Golden0711): PpoOptions {
  return ppoOptionsSchema.parse({
    batchSize: config.batch_size,
    minibatchSize: config.mini_batch_size,
    gradientAccumulationSteps: config.gradient_accumulation_steps,
    epochs: config.ppo_epochs,
    learningRate: config.learning_rate,
    maxGradNorm: config.max_grad_norm,
    gradClipping: "first",
    gamma: config.gamma,
    lambda: config.lam,
    clipRange: config.cliprange,
    clipRangeValue: config.cliprange_value,
    valueCoef: config.vf_coef,
    klPenalty: config.kl_penalty === "kl" ? "k1" : config.kl_penalty,
    klController: config.adap_kl_ctrl ? "adaptive" : "fixed",
    initialKlCoef: config.init_kl_coef,
    klTarget: config.target,
    klHorizon: config.horizon,
    rewardWhitening: config.whiten_rewards ? "padded" : "none",
    scoreScaling: config.use_score_scaling,
    scoreNorm: config.use_score_norm,
    scoreClip: config.score_clip,
    earlyStopping: config.early_stopping,
    targetKl: config.target_kl,
    ratioThreshold: config.ratio_threshold,
  });
}

for (const [name, golden] of Object.entries(golden0711())) {
  describe(`profile default against TRL v0.7.11, case ${name}`, () => {
    let engine: Engine;
    let learner: PolicyLearner;
    let result: PpoStepResult;

    before(async () => {
      engine = await createEngine({ intraOpThreads: 1 });
      const options = optionsOf(golden);
      learner = await tinyLearner(engine, options);
      const batch = await tinyBatch(engine, options, options.klPenalty === "full");
      result = await ppoStep(learner, batch, options, {
        state: new PpoState(options),
        order: recordedOrder(golden.epoch_orders),
      });
    });

    after(async () => {
      await learner.release();
      await engine.close();
    });

    it("gives its rollout, rewards, advantages and returns at the response tokens", () => {
      const { experience } = result;
      const rows: [Float32Array[], number[][], string][] = [
        [experience.logprobs, golden.logprobs, "logprobs"],
        [experience.values, golden.values, "values"],
        [experience.kl, golden.kl, "kl"],
        [experience.nonScoreRewards, golden.non_score_reward, "nonScoreRewards"],
        [experience.rewards, golden.rewards, "rewards"],
        [experience.advantages, golden.advantages, "advantages"],
        [experience.returns, golden.returns, "returns"],
      ];
      for (const [actual, expected, quantity] of rows) {
        for (const [i, mask] of golden.masks.entries()) {
          const response = expected[i].filter((_, t) => mask[t] === 1);
          assertClose(actual[i], response, BEFORE, `${quantity}[${i}]`);
        }
      }
    });

    it("stops after as many epochs, and gives the statistics of each minibatch", () => {
      assert.equal(result.epochs, golden.epoch_orders.length);
      assert.equal(result.minibatches.length, golden.minibatches.length);
      for (const [n, expected] of golden.minibatches.entries()) {
        for (const [key, value] of Object.entries(expected)) {
          assertClose(result.minibatches[n].scalars[key], value, STATS, `minibatch ${n} ${key}`);
        }
      }
    });

    it("returns its statistics", () => {
      for (const [key, expected] of Object.entries(golden.stats)) {
        assertClose(result.stats[key] as number, expected, STATS, key);
      }
    });

    it("also has every scalar that v0.2.1 reported, under its name, and ours", () => {
      const known = Object.entries(golden021().stats).filter(([, value]) => typeof value === "number");
      const times = ["forward_pass", "compute_rewards", "optimize_step", "calc_stats", "total"];
      for (const key of [
        ...known.map(([key]) => key),
        ...["objective/kl_k3", "ppo/grad_norm", "ppo/time/ppo/optimizer_step"],
        ...times.map((part) => `time/ppo/${part}`),
      ]) {
        assert.ok(Number.isFinite(result.stats[key]), `${key}: ${result.stats[key]}`);
      }
    });

    it("moves the KL coefficient as it does", () => {
      // that run was made with numpy 2, whose controller is float32
      assertClose(result.klCoefAfter, golden.kl_coef_after, 1e-8);
    });

    it("ends with its weights", async () => {
      const weights = await learner.readWeights();
      for (const [key, expected] of Object.entries(golden.policy_after)) {
        assertClose(weights.get(key)!.data, expected.flat(), 1e-5, key);
      }
    });
  });
}
