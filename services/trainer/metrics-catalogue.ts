/**
 * @file Every metric that a run writes into metrics.jsonl and its event files: name, unit, what it says, and its formula.
 * docs/metrics.md is made from it (metrics-page.ts), and a test compares it with what runs emit.
 *
 * Symbols: B samples of the batch that were scored, i one of them; t a response token, G tokens of a response; ℓ the rollout's and
 * n the new log-probability of a token, ρ the reference policy's; v the rollout's and u the new value; Â whitened advantage, R return;
 * ⟨·⟩ mean over the minibatches of all epochs, each of which counts the same.
 */

/** Which runs write a metric. */
export type MetricGroup = "reward" | "rollout" | "objective" | "ppo" | "time" | "supervised";

/** One metric of a run. */
export interface RunMetric {
  readonly group: MetricGroup;
  /** `1` has no unit; nats, tokens, samples, versions, s. */
  readonly unit: string;
  /** What it says, in a sentence. */
  readonly says: string;
  readonly formula: string;
  /** When it is there, if not in every step of its kind of run. */
  readonly when?: string;
}

const metric =
  (group: MetricGroup) =>
  (unit: string, says: string, formula: string, when?: string): RunMetric => ({
    group,
    unit,
    says,
    formula,
    ...(when === undefined ? {} : { when }),
  });

const reward = metric("reward");
const rollout = metric("rollout");
const objective = metric("objective");
const ppo = metric("ppo");
const time = metric("time");
const supervised = metric("supervised");

const LATER_TRL = "`ppo.statistics: trl-0.7.11` (the default)";

/** Metrics by name. A part in braces stands for a name of the run file. */
export const RUN_METRICS: Readonly<Record<string, RunMetric>> = {
  "env/reward_mean": reward("1", "Mean composed reward of the batch's samples.", "mean_i r_i"),
  "env/reward_std": reward(
    "1",
    "How much the rewards of a batch differ; 0 for one sample.",
    "√(Σ_i (r_i − mean r)² / (B − 1))",
  ),
  "env/reward_good": reward(
    "1",
    "Mean reward of the samples that carried the first control token.",
    "mean r_i over samples with the token",
    "where a sample of the batch drew it",
  ),
  "env/reward_bad": reward(
    "1",
    "Mean reward of the samples that carried the second control token.",
    "mean r_i over samples with the token",
    "where a sample of the batch drew it",
  ),
  "reward/{term}": reward(
    "1",
    "Mean raw score of one reward term, before sign, normalisation, clip and weight.",
    "mean_i score_i of the term",
  ),
  "reward/{term}/std": reward(
    "1",
    "How much the raw scores of one term differ within the batch; 0 for long is a term that teaches nothing.",
    "√(Σ_i (score_i − mean score)² / (n − 1)) over the n samples that the term scored",
  ),
  "reward/{term}/failed": reward("samples", "Samples that one term could not score.", "count"),
  "reward/{term}/good": reward(
    "1",
    "Mean raw score of one term over the samples that carried the first control token.",
    "mean score_i over samples with the token",
    "where a sample of the batch drew it",
  ),

  "rollout/failed": rollout(
    "samples",
    "Samples left out since a term could not score them.",
    "batch size − B",
  ),
  "rollout/score_retries": rollout("1", "Scoring calls that failed and were made again.", "count"),
  "rollout/response_tokens_mean": rollout("tokens", "Mean length of a response as sampled.", "mean_i G_i"),
  "rollout/eos_fraction": rollout(
    "1",
    "Share of responses that ended with the end-of-sequence token.",
    "samples that ended so / B",
  ),
  "rollout/staleness_max": rollout(
    "versions",
    "Most versions between the learner and the weights that wrote a sample; 0 is on-policy.",
    "max_i (learner's version − version of sample i)",
  ),
  "rollout/weight_version_lag": rollout(
    "versions",
    "Mean versions between the learner and the weights that wrote the samples.",
    "mean_i (learner's version − version of sample i)",
  ),
  "rollout/logprob_gap": rollout(
    "nats",
    "How far sampler and learner disagree on the same tokens; above rounding, they hold different weights or read prompts differently (with `maxStaleness: 1`: how stale the samples are).",
    "mean over all response tokens of |sampler's ℓ − learner's ℓ|, before the step",
    "unless `responseIncludesQuery`",
  ),
  "tokens/queries_len_mean": rollout(
    "tokens",
    "Mean length of a query as trained on.",
    "mean_i Q_i",
    LATER_TRL,
  ),
  "tokens/queries_len_std": rollout("tokens", "Deviation of the query lengths.", "√var_i Q_i", LATER_TRL),
  "tokens/responses_len_mean": rollout(
    "tokens",
    "Mean length of a response as trained on (with the query, where `responseIncludesQuery`).",
    "mean_i G_i",
    LATER_TRL,
  ),
  "tokens/responses_len_std": rollout(
    "tokens",
    "Deviation of the response lengths.",
    "√var_i G_i",
    LATER_TRL,
  ),

  "objective/kl": objective(
    "nats",
    "How far the rollout policy is from the reference, per response, by the penalty of `ppo.klPenalty` (k1: may be negative in a batch; negative for long means that the responses were not sampled from the policy that is trained).",
    "mean_i Σ_t (ℓ_t − ρ_t), for k1",
  ),
  "objective/kl_k3": objective(
    "nats",
    "The same distance by the k3 estimate, which is never negative and varies less.",
    "mean_i Σ_t (e^d − 1 − d), d = ρ_t − ℓ_t",
  ),
  "objective/kl_coef": objective("1", "KL coefficient β of this step, before its update.", "β"),
  "objective/entropy": objective(
    "nats",
    "Negative log-likelihood of the sampled responses; an estimate of the entropy of a response.",
    "mean_i Σ_t (−ℓ_t)",
  ),
  "ppo/mean_non_score_reward": objective(
    "nats",
    "The KL part of the reward: per token, or summed per response with `nonScoreRewardStat: sequence-sum`.",
    "mean of −β·(ℓ_t − ρ_t) over all tokens; or mean_i Σ_t of it",
  ),
  "ppo/mean_scores": objective(
    "1",
    "Mean score after `scoreScaling` and `scoreClip`.",
    "mean_i s_i",
    LATER_TRL,
  ),
  "ppo/std_scores": objective("1", "Deviation of those scores.", "√var_i s_i", LATER_TRL),

  "ppo/loss/policy": ppo(
    "1",
    "Clipped policy loss.",
    "⟨mean_t max(−Â·r, −Â·clip(r, 1 ± clipRange))⟩, r = e^(n − ℓ)",
  ),
  "ppo/loss/value": ppo(
    "1",
    "Clipped value loss, without its coefficient.",
    "⟨½·mean_t max((u − R)², (clip(u, v ± clipRangeValue) − R)²)⟩",
  ),
  "ppo/loss/total": ppo("1", "What the gradient is of.", "⟨policy loss + valueCoef · value loss⟩"),
  "ppo/policy/entropy": ppo(
    "nats",
    "Entropy of the next-token distribution, over the response tokens or, with `entropyScope: all`, over every position; near 0 the policy has collapsed.",
    "⟨mean_t H_t⟩, H = logsumexp z − Σ_k softmax(z)_k·z_k",
  ),
  "ppo/policy/approxkl": ppo(
    "nats",
    "How far the updates of this step have moved the policy, by half the squared change.",
    "⟨½·mean_t (n_t − ℓ_t)²⟩",
  ),
  "ppo/policy/policykl": ppo(
    "nats",
    "The same by the plain change; what `targetKl` bounds. Its sign is turned with `policyKlSign: new-old`.",
    "⟨mean_t (ℓ_t − n_t)⟩",
  ),
  "ppo/policy/clipfrac": ppo(
    "1",
    "Share of tokens whose policy loss was clipped.",
    "⟨share of t where the clipped candidate is strictly larger⟩",
  ),
  "ppo/policy/ratio_min": ppo(
    "1",
    "Smallest probability ratio of a token; far below 1 together with a large maximum: the updates are too large, or the old log-probabilities are not the sampler's.",
    "min over the tokens of all minibatches of r",
  ),
  "ppo/policy/ratio_max": ppo(
    "1",
    "Largest probability ratio of a token.",
    "max over the tokens of all minibatches of r",
  ),
  "ppo/policy/advantages_mean": ppo("1", "Mean whitened advantage; about 0.", "⟨mean_t Â_t⟩"),
  "ppo/returns/mean": ppo("1", "Mean return.", "⟨mean_t R_t⟩, R = advantage before whitening + v"),
  "ppo/returns/var": ppo("1", "Variance of the returns, unbiased.", "⟨var_t R_t⟩"),
  "ppo/val/vpred": ppo("1", "Mean value under the new weights.", "⟨mean_t u_t⟩"),
  "ppo/val/error": ppo("1", "Squared error of the new values, not clipped.", "⟨mean_t (u_t − R_t)²⟩"),
  "ppo/val/clipfrac": ppo(
    "1",
    "Share of tokens whose value error was clipped.",
    "⟨share of t where the clipped error is strictly larger⟩",
  ),
  "ppo/val/mean": ppo("1", "Mean value of the rollout.", "⟨mean_t v_t⟩"),
  "ppo/val/var": ppo("1", "Variance of the rollout's values, unbiased.", "⟨var_t v_t⟩"),
  "ppo/val/var_explained": ppo(
    "1",
    "Share of the returns' variance that the values explain; 1 is perfect, 0 no better than the mean, below 0 worse. Null where returns do not vary.",
    "1 − `ppo/val/error` / `ppo/returns/var`",
  ),
  "ppo/learning_rate": ppo("1", "Learning rate of this step.", "`ppo.learningRate` · schedule"),
  "ppo/grad_norm": ppo(
    "1",
    "Global norm of the gradient before clipping.",
    "mean over optimizer steps of √Σ g²",
  ),

  "time/generate": time("s", "First request for this batch's responses to the last reply.", "wall time"),
  "time/score": time(
    "s",
    "First scoring call of the batch to the end of the last; overlaps generation.",
    "wall time",
  ),
  "time/reference": time(
    "s",
    "First call for reference log-probabilities to the end of the last; overlaps generation.",
    "wall time",
  ),
  "time/learn": time("s", "The PPO step.", "wall time"),
  "time/publish": time("s", "Publishing the new weights and waiting until servers serve them.", "wall time"),
  "time/batch": time("s", "The whole step of the loop, without its checkpoint.", "wall time"),
  "time/tokens_per_second": time(
    "tokens/s",
    "Speed: tokens generated (PPO), or tokens learned from (supervised stages).",
    "Σ_i G_i / `time/generate`; or tokens of the batch / `time/step`",
  ),
  "time/step": time("s", "One optimizer step of a supervised stage.", "wall time", "supervised stages"),
  "time/ppo/forward_pass": time("s", "Old log-probabilities and values by the learner.", "wall time"),
  "time/ppo/compute_rewards": time("s", "Token rewards.", "wall time"),
  "time/ppo/compute_advantages": time("s", "Advantages and returns.", "wall time", LATER_TRL),
  "time/ppo/optimize_step": time("s", "All epochs (with the advantages under trl-0.2.1).", "wall time"),
  "time/ppo/calc_stats": time("s", "These statistics.", "wall time"),
  "time/ppo/total": time("s", "The PPO step, in all.", "wall time"),
  "ppo/time/ppo/optimizer_step": time(
    "s",
    "Mean time of one optimizer step; the doubled prefix is TRL's.",
    "mean over optimizer steps",
    "where a step was taken",
  ),

  ...supervisedMetrics(
    "sft",
    "predicted token",
    "mean of −log p(token | tokens before it) over the batch's labelled tokens",
  ),
  ...supervisedMetrics("classifier", "example", "mean of −log p(label) over the batch's examples"),
  "classifier/accuracy": supervised(
    "1",
    "Share of held-out examples whose most probable label is the right one.",
    "right / held-out examples",
    "at checkpoints",
  ),
  ...supervisedMetrics(
    "mlm",
    "hidden token",
    "mean of −log p(token | the text around it) over the batch's hidden tokens",
  ),
  "mlm/accuracy": supervised(
    "1",
    "Share of the held-out texts' hidden tokens whose most probable token is the right one.",
    "right / hidden tokens",
    "at checkpoints",
  ),
};

/** The metrics that all supervised stages share, under their own names. */
function supervisedMetrics(name: string, counted: string, loss: string): Record<string, RunMetric> {
  return {
    [`${name}/loss`]: supervised("nats", `Mean loss per ${counted} of the batch, before the update.`, loss),
    [`${name}/test_loss`]: supervised("nats", "The same over the held-out examples.", loss, "at checkpoints"),
    [`${name}/grad_norm`]: supervised("1", "Global norm of the gradient before clipping.", "√Σ g²"),
    [`${name}/learning_rate`]: supervised(
      "1",
      "Learning rate of this step.",
      "`optimizer.learningRate` · warm-up · schedule",
    ),
  };
}

/** The catalogue's entry of a metric's name, patterns included; undefined where there is none. */
export function runMetricOf(name: string): RunMetric | undefined {
  const part = /^reward\/[a-z][a-z0-9_]*(\/[a-z]+)?$/.exec(name);
  return RUN_METRICS[name] ?? (part ? RUN_METRICS[`reward/{term}${part[1] ?? ""}`] : undefined);
}

/** The prefix of a supervised stage's metrics, by kind of run. */
const STAGES = { sft: "sft", reward: "classifier", encoder: "mlm" } as const;

/** Names of the metrics that a run of this kind may write; `terms` are the names of its reward terms. */
export function runMetricNames(kind: "ppo" | keyof typeof STAGES, terms: readonly string[]): string[] {
  const own = ([name, { group, when }]: [string, RunMetric]) =>
    kind === "ppo"
      ? group !== "supervised" && when !== "supervised stages"
      : name.startsWith(`${STAGES[kind]}/`) ||
        when === "supervised stages" ||
        name === "time/tokens_per_second";
  return Object.entries(RUN_METRICS)
    .filter(own)
    .flatMap(([name]) =>
      name.includes("{term}") ? terms.map((term) => name.replace("{term}", term)) : name,
    );
}
