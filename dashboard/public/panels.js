/** @file Which metrics share a chart, in the order people look at them. docs/metrics.md defines each metric. */

const ANY_TERM = /^reward\/[^/]+$/;

/** title, note, and metrics with their labels; a RegExp stands for every metric that matches. The first is what runs are compared by. */
export const PANELS = [
  {
    title: "Reward by control token",
    note: "Mean composed reward of a batch, over all samples and by the control token they carried",
    lines: [
      ["env/reward_mean", "all"],
      ["env/reward_good", "good"],
      ["env/reward_bad", "bad"],
    ],
  },
  { title: "Reward terms", note: "Mean raw score of each term", lines: [[ANY_TERM, ""]] },
  {
    title: "KL to the reference",
    note: "Nats per response; k1 may be negative in a batch, k3 never is",
    lines: [
      ["objective/kl", "k1"],
      ["objective/kl_k3", "k3"],
    ],
  },
  { title: "KL coefficient", lines: [["objective/kl_coef", "β"]] },
  { title: "Policy loss", lines: [["ppo/loss/policy", "policy"]] },
  { title: "Value loss", lines: [["ppo/loss/value", "value"]] },
  {
    title: "Entropy",
    note: "Nats per token; near 0 the policy has collapsed",
    lines: [["ppo/policy/entropy", "entropy"]],
  },
  {
    title: "Clip fraction",
    note: "Share of tokens whose loss was clipped",
    lines: [
      ["ppo/policy/clipfrac", "policy"],
      ["ppo/val/clipfrac", "value"],
    ],
  },
  {
    title: "Explained variance",
    note: "Of the returns by the values; below 0 they are worse than the mean",
    lines: [["ppo/val/var_explained", "values"]],
  },
  {
    title: "Movement per step",
    note: "Nats per token",
    lines: [
      ["ppo/policy/approxkl", "approx. KL"],
      ["ppo/policy/policykl", "policy KL"],
    ],
  },
  {
    title: "Loss",
    lines: [
      ["sft/loss", "train"],
      ["sft/test_loss", "held out"],
    ],
  },
  {
    title: "Classifier loss",
    lines: [
      ["classifier/loss", "train"],
      ["classifier/test_loss", "held out"],
    ],
  },
  {
    title: "Masked-token loss",
    lines: [
      ["mlm/loss", "train"],
      ["mlm/test_loss", "held out"],
    ],
  },
  {
    title: "Accuracy",
    note: "On held-out rows",
    lines: [
      ["classifier/accuracy", "classifier"],
      ["mlm/accuracy", "encoder"],
    ],
  },
  {
    title: "Gradient norm",
    lines: [
      ["ppo/grad_norm", "PPO"],
      ["sft/grad_norm", "SFT"],
      ["classifier/grad_norm", "classifier"],
      ["mlm/grad_norm", "encoder"],
    ],
  },
  {
    title: "Learning rate",
    lines: [
      ["ppo/learning_rate", "PPO"],
      ["sft/learning_rate", "SFT"],
      ["classifier/learning_rate", "classifier"],
      ["mlm/learning_rate", "encoder"],
    ],
  },
  { title: "Response length", note: "Tokens", lines: [["rollout/response_tokens_mean", "mean"]] },
  { title: "Tokens per second", lines: [["time/tokens_per_second", "tokens/s"]] },
  {
    title: "Staleness",
    note: "Versions between the learner and the weights that wrote the samples",
    lines: [
      ["rollout/staleness_max", "most"],
      ["rollout/weight_version_lag", "mean"],
    ],
  },
  {
    title: "Time by phase",
    note: "Seconds; phases overlap",
    lines: [
      ["time/generate", "generate"],
      ["time/score", "score"],
      ["time/reference", "reference"],
      ["time/learn", "learn"],
      ["time/publish", "publish"],
    ],
  },
  { title: "Time per step", note: "Seconds", lines: [["time/step", "step"]] },
];

/** The panels of which a run has something, each with the metrics that it has: [{ title, note, lines: [[metric, label]] }]. */
export function panelsOf(names) {
  const known = [...names];
  return PANELS.map((panel) => ({
    ...panel,
    lines: panel.lines.flatMap(([metric, label]) =>
      metric instanceof RegExp
        ? known.filter((name) => metric.test(name)).map((name) => [name, name.slice(name.indexOf("/") + 1)])
        : names.has(metric)
          ? [[metric, label]]
          : [],
    ),
  })).filter((panel) => panel.lines.length > 0);
}

/** Metrics that no panel shows, each a panel of its own. */
export function otherPanels(names) {
  const shown = new Set(panelsOf(names).flatMap((panel) => panel.lines.map(([metric]) => metric)));
  return [...names]
    .filter((name) => !shown.has(name))
    .sort()
    .map((name) => ({ title: name, lines: [[name, "value"]] }));
}
