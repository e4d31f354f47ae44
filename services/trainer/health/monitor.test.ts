import assert from "node:assert/strict";
import { ConfigError } from "../../../lib/config/index.js";
import { parseRunConfig } from "../run-config.js";
import type { Metrics } from "../runs/context.js";
import { type HealthConfig, HealthMonitor } from "./monitor.js";
import { policyMismatch } from "./policy-agreement.js";

/** A run file with these alarms, and otherwise what is usual. */
function configOf(alarms: object, more: object = {}): HealthConfig {
  return parseRunConfig(
    JSON.stringify({
      kind: "ppo",
      model: "model",
      data: { train: "rows.csv" },
      rewards: [{ type: "classifier" }, { type: "bertscore", weight: 0 }],
      batches: 1,
      alarms,
      ...more,
    }),
    "/",
  ) as HealthConfig;
}

/** Which alarms a series of steps raises and ends: `+name@step` and `-name@step`. */
function changes(
  config: HealthConfig,
  series: readonly Metrics[],
  monitor = new HealthMonitor(config),
): string[] {
  return series.flatMap((metrics, i) => {
    const { raised, cleared } = monitor.observe({ step: i + 1, metrics });
    return [
      ...raised.map(({ name }) => `+${name}@${i + 1}`),
      ...cleared.map(({ name }) => `-${name}@${i + 1}`),
    ];
  });
}

const of = (name: string, ...values: number[]): Metrics[] => values.map((value) => ({ [name]: value }));

describe("alarms", () => {
  it("begin when a condition has held long enough, are said once, end with it and may begin again", () => {
    const config = configOf({ negativeKl: { batches: 2 } });
    assert.deepEqual(changes(config, of("objective/kl", 1, -1, -1, -1, 0.5, -1, -1)), [
      "+negativeKl@3",
      "-negativeKl@5",
      "+negativeKl@7",
    ]);
  });

  it("of a KL a little below zero are none, since the estimate varies", () => {
    assert.deepEqual(changes(configOf({}), of("objective/kl", -0.1, -0.1, -0.3, -0.1)), []);
  });

  it("of the KL are for k1 alone: other penalties are never negative", () => {
    const config = configOf({ negativeKl: { batches: 1 } }, { ppo: { klPenalty: "mse" } });
    assert.deepEqual(changes(config, of("objective/kl", -5)), []);
  });

  it("that are off say nothing", () => {
    assert.deepEqual(changes(configOf({ negativeKl: "off" }), of("objective/kl", -9, -9, -9, -9)), []);
  });

  it("that stop the run do so at every step of their condition, also after they only warned", () => {
    const config = configOf({ negativeKl: { batches: 1, action: "stop" } });
    assert.deepEqual(changes(config, of("objective/kl", -1, -1)), ["+negativeKl@1", "+negativeKl@2"]);
  });

  it("of a resumed run go on as if it had not stopped", () => {
    const config = configOf({ negativeKl: { batches: 3 }, entropyCollapse: { batches: 2 } });
    const series: Metrics[] = [2, 2, 0.1, 0.1, 0.1, 0.1].map((entropy) => ({
      "objective/kl": -1,
      "ppo/policy/entropy": entropy,
    }));
    const whole = changes(config, series);
    assert.deepEqual(whole, ["+negativeKl@3", "+entropyCollapse@4"]);
    for (let cut = 0; cut <= series.length; cut++) {
      const monitor = new HealthMonitor(
        config,
        series.slice(0, cut).map((metrics, i) => ({ step: i + 1, metrics })),
      );
      const rest = series.slice(cut).map((metrics, i) => monitor.observe({ step: cut + i + 1, metrics }));
      const after = rest.flatMap(({ raised }) => raised.map(({ name, step }) => `+${name}@${step}`));
      assert.deepEqual(
        after,
        whole.filter((change) => Number(change.split("@")[1]) > cut),
        `cut after ${cut}`,
      );
    }
  });

  it("of entropy compare with the run's first batches, and with a floor", () => {
    const config = configOf({ entropyCollapse: { batches: 2, fallenTo: 0.1, below: 0.02 } });
    assert.deepEqual(changes(config, of("ppo/policy/entropy", 2, 2, 0.21, 0.19, 0.19)), [
      "+entropyCollapse@5",
    ]);
    const certain = new HealthMonitor(config);
    certain.observe({ step: 1, metrics: { "ppo/policy/entropy": 0.01 } });
    const [alarm] = certain.observe({ step: 2, metrics: { "ppo/policy/entropy": 0.01 } }).raised;
    assert.match(alarm?.cause ?? "", /as certain as this before training/);
  });

  it("of the values leave out batches whose returns do not vary", () => {
    const config = configOf({ valueUnexplained: { batches: 2 } });
    assert.deepEqual(changes(config, of("ppo/val/var_explained", -1, Number.NaN, -1, 0.1)), [
      "+valueUnexplained@3",
      "-valueUnexplained@4",
    ]);
  });

  it("of hacking need both changes to exceed two standard errors, and the fall to matter", () => {
    const config = configOf({ rewardHacking: { batches: 4, fall: 0.05 } });
    const series = (rewards: number[], similarities: number[]): Metrics[] =>
      rewards.map((reward, i) => ({
        "env/reward_good": reward,
        "reward/bertscore/good": similarities[i] as number,
        "reward/classifier/good": reward,
      }));
    // halves: 0.05 ± 0.05 and 1.05 ± 0.05; 0.85 ± 0.01 and 0.65 ± 0.01
    const hacked = series([0, 0.1, 1, 1.1], [0.86, 0.84, 0.66, 0.64]);
    assert.deepEqual(changes(config, hacked), ["+rewardHacking@4"]);
    assert.deepEqual(changes(config, series([0, 0.1, 1, 1.1], [0.86, 0.84, 0.82, 0.83])), [], "falls little");
    assert.deepEqual(changes(config, series([0, 2, 1, 3], [0.86, 0.84, 0.66, 0.64])), [], "reward varies");
    assert.deepEqual(changes(config, series([1, 1.1, 0, 0.1], [0.86, 0.84, 0.66, 0.64])), [], "both fall");
  });

  it("of ratios name the learning rate, or staleness where the samples are further away than the step moves", () => {
    const metrics = { "ppo/policy/ratio_min": 0.5, "ppo/policy/ratio_max": 101, "ppo/policy/approxkl": 0.02 };
    const fresh = new HealthMonitor(configOf({})).observe({ step: 1, metrics }).raised[0];
    assert.match(
      fresh?.cause ?? "",
      /^the updates of one step are too large: ppo\.learningRate 0\.00001, 4 epochs/,
    );
    const stale = new HealthMonitor(configOf({}, { maxStaleness: 1 })).observe({
      step: 1,
      metrics: { ...metrics, "rollout/logprob_gap": 0.3 },
    }).raised[0];
    assert.match(stale?.remedy ?? "", /set maxStaleness to 0/);
  });

  it("of numbers that are none name every metric, but for the variance that is NaN by definition", () => {
    const monitor = new HealthMonitor(configOf({}));
    assert.deepEqual(
      monitor.observe({ step: 1, metrics: { "ppo/val/var_explained": Number.NaN } }).raised,
      [],
    );
    const metrics = {
      "objective/kl": Number.NaN,
      "ppo/loss/total": Number.POSITIVE_INFINITY,
      "ppo/grad_norm": 50,
    };
    const [alarm] = monitor.observe({ step: 2, metrics }).raised;
    assert.deepEqual([alarm?.name, alarm?.action], ["nonFinite", "stop"]);
    assert.match(alarm?.says ?? "", /^objective\/kl NaN, ppo\/loss\/total Infinity$/);
    assert.match(alarm?.cause ?? "", /gradients far beyond ppo\.maxGradNorm 1 \(gradient norm 50\)/);
  });

  it("of a term that never varies are about that term, and not about a batch with one score", () => {
    const config = configOf({ deadTerm: { batches: 2 } });
    const series = Array.from({ length: 3 }, () => ({
      "reward/classifier/std": 0.5,
      "reward/bertscore/std": 0,
      "reward/bertscore/failed": 0,
    }));
    const monitor = new HealthMonitor(config);
    const raised = series.flatMap((metrics, i) => monitor.observe({ step: i + 1, metrics }).raised);
    assert.deepEqual(
      raised.map(({ step, figures }) => [step, figures.term]),
      [[2, "bertscore"]],
    );
    const alone = { "reward/classifier/std": 0, "reward/classifier/failed": 63 };
    assert.deepEqual(changes(config, [alone, alone, alone]), []);
  });
});

describe("the run file's alarms", () => {
  it("are an action alone or a mapping with thresholds, and come back from run.yaml as they are", () => {
    const { alarms } = configOf({ negativeKl: "stop", deadTerm: { batches: 9 } });
    assert.deepEqual(alarms.negativeKl, { action: "stop", below: -0.2, batches: 3 });
    assert.deepEqual(alarms.deadTerm, { action: "warn", minStd: 1e-6, batches: 9 });
    assert.deepEqual(configOf(alarms).alarms, alarms);
  });

  it("that are wrong are named with what is accepted", () => {
    assert.throws(
      () => configOf({ negativeKl: { action: "shout" }, ratio: "warn", deadTerm: { batches: 0 } }),
      (error: unknown) =>
        error instanceof ConfigError &&
        /alarms\.negativeKl\.action: "shout".*warn.*stop.*off/.test(error.message) &&
        /alarms\.ratio/.test(error.message) &&
        /alarms\.deadTerm\.batches: 0/.test(error.message),
    );
  });
});

describe("the comparison of sampler and learner", () => {
  const row = (...values: number[]) => Float32Array.from(values);
  const sample = (server: string, weightVersion: number, ...logprobs: number[]) => ({
    sample: { server, weightVersion, samplerLogprobs: row(...logprobs) },
  });
  const settings = { action: "stop", tolerance: 0.01 } as const;

  it("is about the samples of the learner's own version alone", () => {
    const samples = [sample("a", 3, -1, -1), sample("a", 2, -9, -9)];
    assert.equal(policyMismatch(settings, samples, [row(-1, -1.005), row(-1, -1)], 3), undefined);
  });

  it("names the server that differs", () => {
    const samples = [sample("a:1", 3, -1, -1), sample("b:2", 3, -1, -2)];
    const finding = policyMismatch(settings, samples, [row(-1, -1), row(-1.5, -1.5)], 3);
    assert.match(finding?.cause ?? "", /^b:2 holds other weights than the version it reports/);
    assert.deepEqual([finding?.figures.gap, finding?.figures.max], [0.25, 0.5]);
  });

  it("does not let NaN pass", () => {
    assert.ok(policyMismatch(settings, [sample("a", 3, Number.NaN)], [row(-1)], 3));
  });
});
