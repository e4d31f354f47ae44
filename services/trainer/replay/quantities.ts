/**
 * @file Compares the numbers of two steps exactly, in the order in which they come about: prompts, responses, scores, then the
 * learner's. Times are left out. Pure.
 */
import type { ScoredBatch, ScoredSample } from "../loop/rollout-stage.js";

/** A quantity that is not the same. Values as text, numbers with all their digits. */
export interface QuantityDifference {
  readonly quantity: string;
  readonly first: string;
  readonly second: string;
  /** Position of the sample in the batch, where it is about one. */
  readonly sample?: number;
}

/** One line of metrics.jsonl; null is a number that is none. */
export type MetricsLine = Readonly<Record<string, number | null>>;

/** Groups of metrics, causes before effects; what is in none of them comes last. */
const ORDER = ["env/", "reward/", "rollout/", "tokens/", "objective/", "ppo/"];

/** True for a metric that is a time, and so differs from run to run. */
export const isTime = (name: string): boolean => /(^|\/)time\//.test(name);

/** Compares all metrics of a step but its times. */
export function compareMetrics(
  first: MetricsLine,
  second: MetricsLine,
): { compared: number; differences: QuantityDifference[] } {
  const names = [...new Set([...Object.keys(first), ...Object.keys(second)])].filter(
    (name) => name !== "step" && !isTime(name),
  );
  const rank = (name: string) => {
    const at = ORDER.findIndex((group) => name.startsWith(group));
    return at < 0 ? ORDER.length : at;
  };
  const differences = names
    .filter((name) => !Object.is(first[name], second[name]))
    .sort((a, b) => rank(a) - rank(b))
    .map((name) => ({ quantity: name, first: textOf(first[name]), second: textOf(second[name]) }));
  return { compared: names.length, differences };
}

/** What a metric is once it was written to metrics.jsonl and read back. */
export function asWritten(metrics: Readonly<Record<string, number>>): MetricsLine {
  return JSON.parse(JSON.stringify(metrics)) as MetricsLine;
}

/** What the samples of a batch are compared by, in order. */
const FIELDS: readonly (readonly [quantity: string, of: (sample: ScoredSample) => unknown])[] = [
  ["prompt ids", ({ sample }) => sample.promptIds],
  ["control token", ({ sample }) => sample.control],
  ["seed", ({ sample }) => String(sample.seed)],
  ["digest of the weights that sampled", ({ sample }) => sample.weightDigest],
  ["response ids", ({ sample }) => sample.responseIds],
  ["sampler's log-probabilities", ({ sample }) => sample.samplerLogprobs],
  ["scores", ({ reward }) => Object.entries(reward.terms).map(([term, score]) => `${term} ${score}`)],
  ["reward", ({ reward }) => JSON.stringify(reward.outcome)],
  ["reference log-probabilities", ({ refLogprobs }) => refLogprobs],
];

/** Compares recorded batches; of each quantity the first sample that differs. */
export function compareBatches(first: ScoredBatch, second: ScoredBatch): QuantityDifference[] {
  const [a, b] = [first.samples, second.samples];
  if (a.length !== b.length) {
    return [{ quantity: "samples", first: String(a.length), second: String(b.length) }];
  }
  return FIELDS.flatMap(([quantity, of]) => {
    for (const [sample, own] of a.entries()) {
      const difference = differenceOf(of(own), of(b[sample] as ScoredSample));
      if (difference) return [{ quantity, sample, first: difference[0], second: difference[1] }];
    }
    return [];
  });
}

/** What differs between two texts or rows, as text. */
function differenceOf(a: unknown, b: unknown): [string, string] | undefined {
  if (!isRow(a) || !isRow(b)) return a === b ? undefined : [String(a), String(b)];
  if (a.length !== b.length) return [`${a.length} values`, `${b.length} values`];
  for (let i = 0; i < a.length; i++) {
    if (!Object.is(a[i], b[i])) return [`[${i}] ${a[i]}`, `[${i}] ${b[i]}`];
  }
  return undefined;
}

function isRow(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || ArrayBuffer.isView(value);
}

const textOf = (value: number | null | undefined) =>
  value === undefined ? "missing" : String(value ?? "NaN");
