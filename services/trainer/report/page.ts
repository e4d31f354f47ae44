/**
 * @file The report of an evaluation: one page that holds everything it shows. In: what was compared and by what. Out: HTML. Pure.
 */
import type { ComparisonRow, VariantSummary } from "../evaluate/comparison.js";
import { type Curve, curveChart } from "./curve.js";
import { type Difference, extremes, type Measure } from "./differences.js";
import { heatMap, type Similarities } from "./heat-map.js";
import { Html, html } from "./html.js";
import { REPORT_STYLE } from "./style.js";

/** Who answered or judged. */
export interface ModelIdentity {
  /** "tuned policy", "reference policy", "reward", "bertscore". */
  readonly role: string;
  readonly address: string;
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  /** Anything that the numbers depend on besides: the layer's hash of BERTScore, the build. */
  readonly detail: string;
}

/** The similarity map of one pair, or why there is none. */
export type Explanation =
  | {
      readonly variant: string;
      readonly question: string;
      readonly candidate: string;
      readonly reference: string;
      readonly f1: number;
      readonly similarities: Similarities;
    }
  | { readonly missing: string };

/** Everything that the page shows. */
export interface ReportContent {
  readonly run: string;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly createdAt: string;
  readonly steps: number;
  readonly variants: readonly VariantSummary[];
  readonly rows: readonly ComparisonRow[];
  readonly differences: readonly Difference[];
  /** Steps of metrics.jsonl; null where a value was no number. */
  readonly metrics: readonly Readonly<Record<string, number | null>>[];
  readonly explanation: Explanation;
  readonly models: readonly ModelIdentity[];
  /** Files and their SHA-256, in hex. */
  readonly files: readonly { readonly path: string; readonly sha256: string }[];
  /** The resolved run file, as YAML. */
  readonly config: string;
  /** Facts about the evaluation, by name. */
  readonly facts: Readonly<Record<string, string>>;
  /** Command lines that repeat it. */
  readonly repeat: readonly string[];
}

const SAMPLES = 4;
const MEASURES: Readonly<Record<Measure, string>> = { f1: "BERTScore F1", reward: "reward" };

/** The page. */
export function reportPage(content: ReportContent): string {
  const { run, variants, rows, config } = content;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${run}: before and after</title>
<style>${new Html(REPORT_STYLE)}</style>
</head>
<body>
<h1>${run}: before and after</h1>
<p class="muted">${rows.length} rows, ${content.steps} steps of training, ${content.createdAt}</p>
<h2>Means</h2>
${summaryTable(variants)}
<p class="muted">Means over ${rows.length} rows with 95 % intervals by bootstrap (2,000 resamples).</p>
<h2>Differences to the reference</h2>
${differenceTable(content.differences)}
<p class="muted">Mean of the differences row by row, with the 95 % interval of a paired bootstrap. An interval that holds 0 is no clear difference.</p>
<h2>Training</h2>
<div class="charts">${charts(content.metrics)}</div>
${samples(content)}
<h2>Similarity of one pair</h2>
${explanation(content.explanation)}
<h2>How to repeat it</h2>
<pre>${content.repeat.join("\n")}</pre>
${facts({ run, started: content.startedAt, ...content.facts })}
<h2>Models</h2>
${modelTable(content.models)}
<h2>Files</h2>
${table(
  ["file", "SHA-256"],
  content.files.map(({ path, sha256 }) => [html`<code>${path}</code>`, html`<code>${sha256}</code>`]),
)}
<h2>Run file</h2>
<pre>${config}</pre>
</body>
</html>
`;
  return page.markup;
}

function summaryTable(variants: readonly VariantSummary[]): Html {
  return table(
    ["policy", "BERTScore P", "R", "F1", "± 95 %", "reward", "± 95 %", "tokens"],
    variants.map((v) => [
      v.name,
      ...[v.precision, v.recall, v.f1, v.f1Ci95, v.reward, v.rewardCi95].map((value) => number(value)),
      number(v.tokens, 1),
    ]),
    1,
  );
}

function differenceTable(differences: readonly Difference[]): Html {
  const known = differences.filter(({ estimate }) => estimate !== undefined);
  if (known.length === 0) return html`<p class="muted">No row was judged under both policies.</p>`;
  return table(
    ["policy", "measure", "difference", "95 % interval", "rows", ""],
    known.map(({ name, measure, estimate, rows }) => {
      const { mean, low, high } = estimate ?? { mean: Number.NaN, low: Number.NaN, high: Number.NaN };
      const verdict =
        low > 0
          ? html`<span class="up">higher</span>`
          : high < 0
            ? html`<span class="down">lower</span>`
            : html`<span class="muted">no clear difference</span>`;
      return [
        name,
        MEASURES[measure],
        signed(mean),
        `${signed(low)} … ${signed(high)}`,
        String(rows),
        verdict,
      ];
    }),
    2,
  );
}

function charts(metrics: ReportContent["metrics"]): Html[] {
  const curve = (label: string, name: string): Curve => ({
    label,
    points: metrics.map((line) => [line.step ?? 0, line[name] ?? Number.NaN] as const),
  });
  return [
    curveChart("Reward", [
      curve("all", "env/reward_mean"),
      curve("good", "env/reward_good"),
      curve("bad", "env/reward_bad"),
    ]),
    curveChart("KL to the reference, nats per response", [
      curve("k1", "objective/kl"),
      curve("k3", "objective/kl_k3"),
    ]),
    curveChart("KL coefficient", [curve("β", "objective/kl_coef")]),
    curveChart("Entropy, nats per token", [curve("entropy", "ppo/policy/entropy")]),
  ];
}

function samples({ rows, variants }: ReportContent): Html {
  const { best, worst, measure } = extremes(rows, SAMPLES);
  const list = (title: string, chosen: readonly ComparisonRow[]) =>
    chosen.length === 0 ? html`` : html`<h2>${title}</h2>${chosen.map((row) => sample(row, variants))}`;
  const by = `by ${MEASURES[measure]} against the reference`;
  return html`${list(`Best samples: most gained ${by}`, best)}${list(`Worst samples: least gained ${by}`, worst)}`;
}

function sample(row: ComparisonRow, variants: readonly VariantSummary[]): Html {
  const answers = row.responses.map(
    (response, v) => html`<dt>${variants[v]?.name ?? ""}</dt>
<dd>${response.response} <span class="muted">F1 ${number(response.f1, 3)}, reward ${number(response.reward, 3)}</span></dd>`,
  );
  return html`<div class="sample"><strong>${row.question}</strong>
<dl><dt>reference answer</dt><dd>${row.answer}</dd>${answers}</dl></div>`;
}

function explanation(given: Explanation): Html {
  if ("missing" in given) return html`<p class="muted">${given.missing}</p>`;
  const { variant, question, candidate, reference, f1, similarities } = given;
  return html`${facts({ question, [`${variant} (down)`]: candidate, "reference answer (across)": reference, F1: number(f1) })}
${heatMap(similarities)}`;
}

function modelTable(models: readonly ModelIdentity[]): Html {
  return table(
    ["role", "address", "model", "weights", "digest", ""],
    models.map(({ role, address, name, version, digest, detail }) => [
      role,
      address,
      name,
      String(version),
      html`<code>${digest}</code>`,
      detail,
    ]),
  );
}

/** A table; columns from `numeric` on are set to the right. */
function table(
  header: readonly string[],
  rows: readonly (readonly (string | Html)[])[],
  numeric = Infinity,
): Html {
  const kind = (column: number) => (column >= numeric ? "number" : "text");
  return html`<div class="scroll"><table>
<thead><tr>${header.map((cell, i) => html`<th scope="col" class="${kind(i)}">${cell}</th>`)}</tr></thead>
<tbody>${rows.map((cells) => html`<tr>${cells.map((cell, i) => html`<td class="${kind(i)}">${cell}</td>`)}</tr>`)}</tbody>
</table></div>`;
}

function facts(entries: Readonly<Record<string, string>>): Html {
  return html`<dl class="facts">${Object.entries(entries).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

const number = (value: number, digits = 4) =>
  Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–";
const signed = (value: number) => `${value > 0 ? "+" : ""}${number(value)}`;
