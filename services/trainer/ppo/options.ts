/**
 * @file The options of PPO: one schema, three profiles. In: what a run file says under `ppo`. Out: every option, checked.
 * `default` is sound practice, `trl-0.2.1` reproduces TRL v0.2.1, `notebook` adds the habits of the notebook that used it.
 * A profile is a plain object of defaults; anything else in the run file wins over it.
 */
import { z } from "zod";
import { ADVANTAGE_WHITENINGS, REWARD_WHITENINGS } from "./advantages.js";
import { KL_PENALTIES } from "./kl.js";

/** Every option of PPO, resolved. Those marked "run loop" are read around `ppoStep`, not by it. */
export interface PpoOptions {
  /** Which defaults the options started from. */
  profile: "default" | "trl-0.2.1" | "notebook";
  /** Samples per PPO step. A step may get fewer, when scores failed. */
  batchSize: number;
  /** Samples per forward and backward pass. */
  minibatchSize: number;
  /** Minibatches per optimizer step; each counts the same. */
  gradientAccumulationSteps: number;
  /** Passes over the batch per PPO step. */
  epochs: number;
  /** Adam's learning rate. Run loop: goes to the learner. */
  learningRate: number;
  /** Global gradient norm to clip to; null for no clipping. Run loop: goes to the learner. */
  maxGradNorm: number | null;
  /**
   * Optimizer steps whose gradient is clipped: `all`, or only the `first` of a run, as TRL v0.7.11 had it (its iterator over
   * the weights was used up by then). Run loop: goes to the learner.
   */
  gradClipping: "all" | "first";
  /** Discount per token. */
  gamma: number;
  /** GAE's λ. */
  lambda: number;
  /** The probability ratio is clipped to 1 ± this. */
  clipRange: number;
  /** New values are clipped to the rollout's ± this in the value loss. */
  clipRangeValue: number;
  /** Weight of the value loss. */
  valueCoef: number;
  /** KL penalty per token: `k1`, `abs`, `mse` or `full` (see kl.ts). */
  klPenalty: (typeof KL_PENALTIES)[number];
  /** `adaptive` steers the mean KL per sequence to klTarget; `fixed` keeps initialKlCoef. */
  klController: "adaptive" | "fixed";
  /** KL coefficient of the first step. */
  initialKlCoef: number;
  /** KL that the adaptive controller steers to, nats per sequence. */
  klTarget: number;
  /** Samples over which the adaptive coefficient may move by about its own size. */
  klHorizon: number;
  /** Tokens over which advantages are whitened: `batch`, `sample` or `none`. */
  advantageWhitening: (typeof ADVANTAGE_WHITENINGS)[number];
  /** Whitening of token rewards: `none`, `response`, or `padded` as TRL v0.7.11 has it (see advantages.ts). */
  rewardWhitening: (typeof REWARD_WHITENINGS)[number];
  /** Divide scores by their running standard deviation. */
  scoreScaling: boolean;
  /** With scoreScaling: subtract the running mean first. */
  scoreNorm: boolean;
  /** Clip scores to ± this, after scaling; null for no clip. */
  scoreClip: number | null;
  /** Stop after an epoch whose last minibatch moved further than 1.5 × targetKl from the rollout policy. */
  earlyStopping: boolean;
  /** Mean of (old − new logprob) per token that earlyStopping allows, in nats. */
  targetKl: number;
  /** A minibatch whose mean ratio is above this contributes no gradient; null for no such guard. */
  ratioThreshold: number | null;
  /** Rollout values: 0 where the loss predicts them, −1 one position too far left (TRL v0.2.1). */
  valueIndexShift: 0 | -1;
  /** Dropout before the value head, in rollouts and in training. */
  valueHeadDropout: number;
  /** `ppo/policy/entropy` over the response tokens, or over all positions of the sequences. */
  entropyScope: "response" | "all";
  /** Sign of `ppo/policy/policykl`. */
  policyKlSign: "old-new" | "new-old";
  /** `ppo/mean_non_score_reward`: mean over tokens, or sum per sequence averaged over the batch. */
  nonScoreRewardStat: "token-mean" | "sequence-sum";
  /** Which version's set of statistics a step returns; ours are added to both. */
  statistics: "trl-0.7.11" | "trl-0.2.1";
  /** Whether the response that is trained on repeats the query. Run loop. */
  responseIncludesQuery: boolean;
  /** New tokens per response: the generation options' limit, or words(question) + words(answer) + 1. Run loop. */
  newTokens: "config" | "question-and-answer-words";
  /** Whether the end-of-sequence token ends a response. Run loop. */
  eosStops: boolean;
  /** Where evaluation puts the control token: where training did, or inside the question. Run loop. */
  evalControlPlacement: "as-trained" | "inside-question";
  /** What the classifier's output becomes: its logit or its softmax probability (the control token signs either). Run loop. */
  rewardTransform: "logit" | "probability";
  /** Text the scorers see: the continuation, or prompt and continuation. Run loop. */
  rewardText: "continuation" | "full";
}

/** Name of a profile. */
export type PpoProfile = PpoOptions["profile"];

const DEFAULT: PpoOptions = {
  profile: "default",
  batchSize: 64,
  minibatchSize: 8,
  gradientAccumulationSteps: 1,
  epochs: 4,
  learningRate: 1e-5,
  maxGradNorm: 1,
  gradClipping: "all",
  gamma: 1,
  lambda: 0.95,
  clipRange: 0.2,
  clipRangeValue: 0.2,
  valueCoef: 0.1,
  klPenalty: "k1",
  klController: "adaptive",
  initialKlCoef: 0.2,
  klTarget: 6,
  klHorizon: 10_000,
  advantageWhitening: "batch",
  rewardWhitening: "none",
  scoreScaling: false,
  scoreNorm: false,
  scoreClip: null,
  earlyStopping: true,
  targetKl: 0.1,
  ratioThreshold: 10,
  valueIndexShift: 0,
  valueHeadDropout: 0,
  entropyScope: "response",
  policyKlSign: "old-new",
  nonScoreRewardStat: "token-mean",
  statistics: "trl-0.7.11",
  responseIncludesQuery: false,
  newTokens: "config",
  eosStops: true,
  evalControlPlacement: "as-trained",
  rewardTransform: "logit",
  rewardText: "continuation",
};

const TRL_0_2_1: PpoOptions = {
  ...DEFAULT,
  profile: "trl-0.2.1",
  batchSize: 256,
  minibatchSize: 1,
  maxGradNorm: null,
  advantageWhitening: "sample",
  earlyStopping: false,
  ratioThreshold: null,
  valueIndexShift: -1,
  valueHeadDropout: 0.1,
  entropyScope: "all",
  policyKlSign: "new-old",
  nonScoreRewardStat: "sequence-sum",
  statistics: "trl-0.2.1",
};

const NOTEBOOK: PpoOptions = {
  ...TRL_0_2_1,
  profile: "notebook",
  batchSize: 32,
  learningRate: 1.41e-6,
  responseIncludesQuery: true,
  newTokens: "question-and-answer-words",
  eosStops: false,
  evalControlPlacement: "inside-question",
  rewardTransform: "probability",
  rewardText: "full",
};

/** The defaults of each profile. */
export const PPO_PROFILES: Readonly<Record<PpoProfile, Readonly<PpoOptions>>> = {
  default: DEFAULT,
  "trl-0.2.1": TRL_0_2_1,
  notebook: NOTEBOOK,
};

const count = z.number().int().min(1);
const positive = z.number().positive();
const share = z.number().min(0).max(1);

/** What a run file may say: any option, none required. */
const ppoOverrides = z.strictObject({
  profile: z.enum(["default", "trl-0.2.1", "notebook"]).optional(),
  batchSize: count.optional(),
  minibatchSize: count.optional(),
  gradientAccumulationSteps: count.optional(),
  epochs: count.optional(),
  learningRate: z.number().min(0).optional(),
  maxGradNorm: positive.nullable().optional(),
  gradClipping: z.enum(["all", "first"]).optional(),
  gamma: share.optional(),
  lambda: share.optional(),
  clipRange: positive.optional(),
  clipRangeValue: positive.optional(),
  valueCoef: z.number().min(0).optional(),
  klPenalty: z.enum(KL_PENALTIES).optional(),
  klController: z.enum(["adaptive", "fixed"]).optional(),
  initialKlCoef: z.number().min(0).optional(),
  klTarget: positive.optional(),
  klHorizon: positive.optional(),
  advantageWhitening: z.enum(ADVANTAGE_WHITENINGS).optional(),
  rewardWhitening: z.enum(REWARD_WHITENINGS).optional(),
  scoreScaling: z.boolean().optional(),
  scoreNorm: z.boolean().optional(),
  scoreClip: positive.nullable().optional(),
  earlyStopping: z.boolean().optional(),
  targetKl: positive.optional(),
  ratioThreshold: positive.nullable().optional(),
  valueIndexShift: z.union([z.literal(0), z.literal(-1)]).optional(),
  valueHeadDropout: z.number().min(0).lt(1).optional(),
  entropyScope: z.enum(["response", "all"]).optional(),
  policyKlSign: z.enum(["old-new", "new-old"]).optional(),
  nonScoreRewardStat: z.enum(["token-mean", "sequence-sum"]).optional(),
  statistics: z.enum(["trl-0.7.11", "trl-0.2.1"]).optional(),
  responseIncludesQuery: z.boolean().optional(),
  newTokens: z.enum(["config", "question-and-answer-words"]).optional(),
  eosStops: z.boolean().optional(),
  evalControlPlacement: z.enum(["as-trained", "inside-question"]).optional(),
  rewardTransform: z.enum(["logit", "probability"]).optional(),
  rewardText: z.enum(["continuation", "full"]).optional(),
});

/** What a run file says under `ppo`, before the profile's defaults. */
export type PpoOverrides = z.input<typeof ppoOverrides>;

/** Parses what a run file says under `ppo` into PpoOptions: the profile's defaults below, then the cross-field rules. */
export const ppoOptionsSchema = ppoOverrides.transform((given, context): PpoOptions => {
  const options = resolve(given);
  for (const { field, message } of conflicts(options)) {
    context.addIssue({ code: "custom", path: [field], message });
  }
  return options;
});

function resolve(given: PpoOverrides): PpoOptions {
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...PPO_PROFILES[given.profile ?? "default"], ...set };
}

/** Options that are sound alone but not together. Messages read on from the field's name. */
function conflicts(options: PpoOptions): { field: keyof PpoOptions; message: string }[] {
  const { batchSize, minibatchSize, gradientAccumulationSteps } = options;
  const found: { field: keyof PpoOptions; message: string }[] = [];
  if (batchSize % minibatchSize !== 0) {
    found.push({
      field: "minibatchSize",
      message: `${minibatchSize} does not divide batchSize ${batchSize}`,
    });
  } else if ((batchSize / minibatchSize) % gradientAccumulationSteps !== 0) {
    const minibatches = batchSize / minibatchSize;
    found.push({
      field: "gradientAccumulationSteps",
      message: `${gradientAccumulationSteps} does not divide the ${minibatches} minibatches of a batch`,
    });
  }
  if (options.scoreNorm && !options.scoreScaling) {
    found.push({ field: "scoreNorm", message: "true has no effect without scoreScaling: true" });
  }
  if (options.statistics === "trl-0.2.1" && options.klPenalty !== "k1") {
    found.push({
      field: "klPenalty",
      message: `${options.klPenalty} does not go with statistics trl-0.2.1, which knows k1 alone`,
    });
  }
  return found;
}
