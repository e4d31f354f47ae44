/**
 * @file Alarm rewardHacking: the reward rises while the answers grow less like the reference answers. The second half of a
 * window of batches is compared with the first; both changes must exceed two standard errors. Pure.
 */
import { meanOf } from "../evaluate/statistics.js";
import type { PpoRunConfig } from "../run-config.js";
import { termName } from "../scoring/terms.js";
import { type Detector, type Finding, figure, type StepMetrics } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";

/** Standard errors that a change must exceed. */
const SIGNIFICANT = 2;

/** One step of the window. */
interface Point {
  readonly reward: number;
  readonly similarity: number;
  readonly others: readonly number[];
}

/** Watches reward and BERTScore. There is none where the run has no BERTScore term; one of weight 0 is enough. */
export function rewardHacking(
  { batches, fall }: AlarmSettings["rewardHacking"],
  { rewards, control }: Pick<PpoRunConfig, "rewards" | "control">,
): Detector | undefined {
  const judge = rewards.find((term) => term.type === "bertscore");
  if (!judge) return undefined;
  const judged = termName(judge);
  const others = rewards.map(termName).filter((name) => name !== judged);
  // the second control token asks for bad answers: what those are like says nothing
  const asked = control.tokens.length === 2;
  const of = (name: string) => `reward/${name}${asked ? "/good" : ""}`;
  const series = { reward: asked ? "env/reward_good" : "env/reward_mean", similarity: of(judged) };
  const window: Point[] = [];
  return {
    alarm: "rewardHacking",
    subject: "",
    observe({ metrics }: StepMetrics): Finding | undefined {
      const reward = metrics[series.reward];
      const similarity = metrics[series.similarity];
      if (reward === undefined || similarity === undefined) return undefined;
      window.push({ reward, similarity, others: others.map((name) => metrics[of(name)] ?? Number.NaN) });
      if (window.length > batches) window.shift();
      if (window.length < batches) return undefined;
      const rewardChange = changeOf(window.map((point) => point.reward));
      const change = changeOf(window.map((point) => point.similarity));
      const hacked = rewardChange.errors > SIGNIFICANT && change.errors < -SIGNIFICANT;
      if (!hacked || change.from - change.to < fall) return undefined;
      const risen = others.flatMap((name, i) => {
        const other = changeOf(window.map((point) => point.others[i] as number));
        return other.errors > SIGNIFICANT ? [`${name} ${figure(other.from)} → ${figure(other.to)}`] : [];
      });
      return {
        figures: {
          rewardFrom: rewardChange.from,
          rewardTo: rewardChange.to,
          similarityFrom: change.from,
          similarityTo: change.to,
          batches,
        },
        says: `over the last ${batches} batches ${series.reward} rose from ${figure(rewardChange.from)} to ${figure(rewardChange.to)} while ${series.similarity} fell from ${figure(change.from)} to ${figure(change.to)}`,
        cause: `the policy has found what the scorer likes and a reader would not${risen.length > 0 ? ` (risen: ${risen.join(", ")})` : ""}.`,
        remedy: `read the newest samples, raise the weight of the term ${judged} or ppo.initialKlCoef, train the classifier on such samples, or go on from a checkpoint before the fall.`,
      };
    },
  };
}

/** Means of the first and second half, and their difference in standard errors. */
function changeOf(values: readonly number[]): { from: number; to: number; errors: number } {
  const middle = Math.floor(values.length / 2);
  const [first, second] = [values.slice(0, middle), values.slice(middle)];
  const [from, to] = [meanOf(first), meanOf(second)];
  const error = Math.sqrt(squaredError(first, from) + squaredError(second, to));
  // two flat halves of different height differ by any number of errors
  return { from, to, errors: to === from ? 0 : (to - from) / error };
}

/** Squared standard error of a mean. */
function squaredError(values: readonly number[], mean: number): number {
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return squares / (values.length - 1) / values.length;
}
