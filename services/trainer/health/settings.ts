/**
 * @file What a run file says under `alarms`: for each alarm whether it warns, stops the run or is off, and its thresholds. Pure.
 */
import { z } from "zod";

/** What an alarm does. */
export const ALARM_ACTIONS = ["warn", "stop", "off"] as const;

const batches = (usual: number) => z.number().int().min(1).default(usual);

/** One alarm: a mapping, or its action alone (`negativeKl: stop`). */
function alarm<S extends z.ZodRawShape>(usual: "warn" | "stop", thresholds: S) {
  const fields = z.strictObject({ action: z.enum(ALARM_ACTIONS).default(usual), ...thresholds });
  return z.preprocess((said) => (typeof said === "string" ? { action: said } : said), fields).prefault({});
}

/** The alarms of a PPO run. */
export const alarmsSchema = z.strictObject({
  /** Policy server and learner disagree on the same tokens under the same weights. */
  logprobMismatch: alarm("stop", {
    /** Largest mean difference that is rounding, nats per token. */
    tolerance: z.number().positive().default(0.01),
  }),
  /** The KL estimate stays below zero. */
  negativeKl: alarm("warn", {
    /** Mean over the batches that is too low, nats per response. */
    below: z.number().max(0).default(-0.2),
    /** Batches in a row that must be negative. */
    batches: batches(3),
  }),
  /** The probability ratio of a token leaves the range. */
  ratioOutOfRange: alarm("warn", {
    /** Largest ratio of a token. */
    max: z.number().min(1).default(100),
    /** Smallest ratio of a token; single tokens get rare in healthy steps, too. */
    min: z.number().min(0).max(1).default(1e-4),
  }),
  /** The policy has all but stopped to vary. */
  entropyCollapse: alarm("warn", {
    /** Share of the entropy of the first batches that counts as collapsed. */
    fallenTo: z.number().min(0).max(1).default(0.1),
    /** Entropy that counts as collapsed whatever it was, nats per token. */
    below: z.number().min(0).default(0.02),
    /** Batches in a row. */
    batches: batches(3),
  }),
  /** The values predict the returns worse than their mean would. */
  valueUnexplained: alarm("warn", {
    /** Explained variance that is too low. */
    below: z.number().max(1).default(0),
    /** Batches in a row. */
    batches: batches(20),
  }),
  /** The reward rises while the similarity to the reference answers falls. */
  rewardHacking: alarm("warn", {
    /** Batches whose first and second half are compared. */
    batches: z.number().int().min(4).default(20),
    /** Least fall of the mean BERTScore. */
    fall: z.number().positive().default(0.01),
  }),
  /** A metric, a loss, a gradient or a weight is NaN or infinite. The last three end the run whatever this says. */
  nonFinite: alarm("stop", {}),
  /** A reward term gives every sample the same score, or scores none. */
  deadTerm: alarm("warn", {
    /** Deviation within a batch that counts as none. */
    minStd: z.number().min(0).default(1e-6),
    /** Batches in a row with no deviation; a batch in which nothing was scored counts at once. */
    batches: batches(5),
  }),
});

/** Settings of all alarms. */
export type AlarmSettings = z.output<typeof alarmsSchema>;

/** Name of an alarm, as in the run file. */
export type AlarmName = keyof AlarmSettings;
