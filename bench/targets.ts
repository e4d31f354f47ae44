/**
 * @file What the suite is to reach on 2 cores, and what the newest results say of it. Pure.
 */
import type { Result } from "./results.js";
import { readable } from "./table.js";

/** The newest result of each benchmark, by name. */
type Results = ReadonlyMap<string, Result>;

/** A bound on one number of the results. */
interface Target {
  /** What is bounded. */
  readonly what: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Unit behind the numbers. */
  readonly unit: string;
  /** The number, or undefined where it was not measured. */
  readonly measured: (results: Results) => number | undefined;
}

/** A target beside what was measured. */
export interface TargetReport {
  readonly what: string;
  readonly target: string;
  readonly measured: string;
  readonly met: "yes" | "no" | "";
}

/** Reads from the row of a benchmark whose case holds `part`, e.g. `batch 32` of `batch 32, 20+60 tokens`. */
type Find = (results: Results) => number | undefined;

const rowOf = (results: Results, name: string, part: string, metric: string) =>
  results.get(name)?.rows.find((row) => row.case.startsWith(part) && row.metric === metric);

const medianOf =
  (name: string, part: string, metric: string): Find =>
  (results) =>
    rowOf(results, name, part, metric)?.median;

const shareOf =
  (name: string, part: string, metric: string): Find =>
  (results) => {
    const share = rowOf(results, name, part, metric)?.share;
    return share === undefined ? undefined : 100 * share;
  };

const ratioOf =
  (name: string, part: string, metric: string, variant: string): Find =>
  (results) =>
    results
      .get(name)
      ?.ratios.find(
        (each) => each.case.startsWith(part) && each.metric === metric && each.variant === variant,
      )?.ratio;

const PASS = "forward+backward";
const ahead = (what: string, atLeast: number, measured: Find): Target => ({
  what,
  atLeast,
  unit: "×",
  measured,
});

const TARGETS: readonly Target[] = [
  ...(["1×80", "8×80", "32×80"] as const).flatMap((size) => [
    ahead(`learner ${size}: PyTorch fp32`, size === "1×80" ? 2 : 2.5, ratioOf("learner", size, PASS, "fp32")),
    ahead(`learner ${size}: PyTorch bf16 autocast`, 1, ratioOf("learner", size, PASS, "bf16")),
  ]),
  ...["8×80", "32×80"].map((size) => ({
    what: `learner ${size}: share of the ceiling`,
    atLeast: 65,
    unit: "%",
    measured: shareOf("learner", size, PASS),
  })),
  ahead("optimizer: torch's fused Adam", 1, ratioOf("optimizer", "", "step", "fused")),
  ahead(
    "ppo-batch notebook: TRL v0.2.1",
    3,
    ratioOf("ppo-batch", "notebook", "whole batch", "TRL v0.2.1 in PyTorch"),
  ),
  {
    what: "ppo-batch notebook: the seed system on a GPU",
    atMost: 31.5,
    unit: "s",
    measured: medianOf("ppo-batch", "notebook", "whole batch"),
  },
  {
    what: "ppo-batch default: share of the ceiling",
    atLeast: 60,
    unit: "%",
    measured: shareOf("ppo-batch", "default", "whole batch"),
  },
  ahead(
    "generate batch 32: transformers fp32",
    3,
    ratioOf("generate", "batch 32, 20+60", "throughput", "fp32"),
  ),
  ahead(
    "generate batch 32: transformers bf16",
    1.3,
    ratioOf("generate", "batch 32, 20+60", "throughput", "bf16"),
  ),
  ahead("generate batch 1: transformers fp32", 1.5, ratioOf("generate", "batch 1,", "throughput", "fp32")),
  ...[1, 32].map((batch) =>
    ahead(`score batch ${batch}: transformers`, 2, ratioOf("score", `batch ${batch},`, "throughput", "fp32")),
  ),
  {
    what: "score batch 32: time added by gRPC",
    atMost: 10,
    unit: "%",
    measured: medianOf("score", "batch 32,", "time added by gRPC"),
  },
  ...["base", "large"].map((size) =>
    ahead(
      `bertscore ${size}: bert-score`,
      2.5,
      ratioOf("bertscore", `roberta-${size}`, "throughput", "fp32"),
    ),
  ),
  ...["policy", "reward", "bertscore"].map((service) => ({
    what: `health of ${service} at full load, p99`,
    atMost: 50,
    unit: "ms",
    measured: medianOf("health", service, "health p99"),
  })),
  {
    what: "health of a trainer that learns and publishes, p99",
    atMost: 50,
    unit: "ms",
    measured: medianOf("ppo-batch", "default, trainer", "health p99"),
  },
  {
    what: "weights to 3 servers",
    atMost: 4,
    unit: "s",
    measured: medianOf("weights", "", "until all serve"),
  },
  {
    what: "weights: pause of a Generate beyond one decode step",
    atMost: 50,
    unit: "ms",
    measured: (results) => {
      const pause = medianOf("weights", "", "longest pause of a Generate")(results);
      const step = medianOf("weights", "", "its usual decode step")(results);
      return pause === undefined || step === undefined ? undefined : pause - step;
    },
  },
  {
    what: "steady: processes and times that grow",
    atMost: 0,
    unit: "",
    measured: (results) => {
      const rows = results.get("steady")?.rows;
      return rows?.filter(({ metric, case: name, median }) => {
        const error = rows.find((row) => row.case === name && row.metric === `standard error of ${metric}`);
        return metric.startsWith("growth of") && error && median > 2 * error.median;
      }).length;
    },
  },
];

/** Every target with what was measured. */
export function targetReports(results: Results): TargetReport[] {
  return TARGETS.map(({ what, atLeast, atMost, unit, measured }) => {
    const value = measured(results);
    const target =
      atLeast === undefined ? `≤ ${readable(atMost!)} ${unit}` : `≥ ${readable(atLeast)} ${unit}`;
    if (value === undefined) return { what, target: target.trim(), measured: "not measured", met: "" };
    const met = atLeast === undefined ? value <= atMost! : value >= atLeast;
    return {
      what,
      target: target.trim(),
      measured: `${readable(value)} ${unit}`.trim(),
      met: met ? "yes" : "no",
    };
  });
}
