/**
 * @file docs/metrics.md, made from the two catalogues: a run's own metrics, and the instruments and spans of OpenTelemetry. Pure.
 * `node scripts/metrics-page.mjs` writes the page after a build.
 */
import { METRICS, type MetricEntry, SPANS } from "../../lib/telemetry/catalogue.js";
import { type MetricGroup, RUN_METRICS } from "./metrics-catalogue.js";

const GROUPS: readonly (readonly [group: MetricGroup, title: string, intro: string])[] = [
  [
    "reward",
    "Rewards",
    "What the terms of the run file gave. r is the composed reward: Σ weight · sign · clip(normalise(score)).",
  ],
  ["rollout", "Rollout", "How the batch was generated."],
  ["objective", "Objective", "What PPO is asked to raise: scores less the KL penalty."],
  ["ppo", "PPO", "The updates of one step. Names and formulas are TRL's."],
  ["time", "Time", "Seconds of wall time; phases overlap, so they do not add up."],
  ["supervised", "Supervised stages", "Runs of kind sft, reward and encoder."],
];

const INTRO = `# Metrics

<!-- Made from services/trainer/metrics-catalogue.ts and lib/telemetry/catalogue.ts by \`node scripts/metrics-page.mjs\`. -->

A run writes one line per step into \`runs/<run>/metrics.jsonl\`: \`step\` and every metric below that the step has, by name. The same
values stand in TensorBoard event files (\`tensorboard --logdir runs\` reads \`runs/<run>/tensorboard\`), in \`WatchRun\`'s events and
on the dashboard. A value that is not a number (NaN) is \`null\` in JSON.

In the formulas: B samples of the batch that were scored, i one of them; t a response token, G tokens of a response, Q of its query; ℓ the
rollout's and n the new log-probability of a token, ρ the reference policy's; v the rollout's and u the new value; Â whitened
advantage, R return, r ratio or reward; ⟨·⟩ mean over the minibatches of all epochs, each of which counts the same.
`;

const OTEL = `## OpenTelemetry

Instruments of all processes, exported over OTLP and on \`/metrics\` (where dots become underscores, and counters end in \`_total\`). Only
the attributes named here become time series.
`;

/** The page. */
export function metricsPage(): string {
  const sections = GROUPS.map(([group, title, intro]) => {
    const rows = Object.entries(RUN_METRICS)
      .filter(([, metric]) => metric.group === group)
      .map(([name, { unit, says, formula, when }]) => [
        `\`${name}\``,
        when === undefined ? says : `${says} (${when})`,
        formula,
        unit === "1" ? "" : unit,
      ]);
    return `## ${title}\n\n${intro}\n\n${table(["metric", "what it says", "formula", "unit"], rows)}`;
  });
  const instruments = Object.entries(METRICS as Record<string, MetricEntry>).map(([name, entry]) => [
    `\`${name}\``,
    entry.kind,
    entry.description,
    entry.unit,
    entry.attributes.map((attribute) => `\`${attribute}\``).join(", "),
  ]);
  const spans = Object.entries(SPANS).map(([name, says]) => [`\`${name}\``, says]);
  return [
    INTRO,
    ...sections,
    `${OTEL}\n${table(["instrument", "kind", "what it counts", "unit", "attributes"], instruments)}`,
    `## Spans\n\n${table(["span", "what it covers"], spans)}`,
  ].join("\n");
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return `${[line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n")}\n`;
}
