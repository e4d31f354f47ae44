/** @file Runs side by side: a chart per metric with a line per run, newest values, and where their run files differ. */
import { get, runPage, runPath } from "./api.js";
import { badge } from "./badge.js";
import { COLOURS, createChart } from "./chart.js";
import { byId, el, fill, table } from "./dom.js";
import { short } from "./format.js";
import { MetricsStore } from "./metrics-store.js";
import { panelsOf } from "./panels.js";

const MOST = COLOURS.length;

const asked = [...new Set(new URLSearchParams(location.search).getAll("run"))];
if (asked.length === 0) {
  fill(
    byId("chosen"),
    el(
      "div",
      { class: "empty" },
      el("p", {}, "Select runs in the list to compare them."),
      el("p", {}, el("a", { class: "button", href: "/" }, "All runs")),
    ),
  );
} else {
  const results = await Promise.all(asked.slice(0, MOST).map(load));
  const loaded = results.filter((run) => !run.error);
  show(results);
  charts(loaded);
  values(loaded);
  differences(loaded);
}

async function load(id) {
  try {
    const [details, { lines }] = await Promise.all([get(runPath(id)), get(`${runPath(id)}/metrics`)]);
    const store = new MetricsStore();
    store.add({ reset: true, values: lines });
    return { id, details, store };
  } catch (error) {
    return { id, error: error.message };
  }
}

function show(results) {
  fill(
    byId("chosen"),
    asked.length > MOST &&
      el("p", { class: "notice" }, `The first ${MOST} of ${asked.length} runs are compared.`),
    el(
      "ul",
      { class: "chosen" },
      ...results.map(({ id, details, error }) => {
        const key = el("span", { class: "key" });
        if (details) key.style.background = `var(${colourOf(results, id)})`;
        return el(
          "li",
          {},
          key,
          error
            ? el("span", { class: "error" }, `${id}: ${error}`)
            : [el("a", { href: runPage(id) }, id), badge(details.state)],
        );
      }),
    ),
  );
}

function colourOf(runs, id) {
  return COLOURS[runs.filter((run) => !run.error).findIndex((run) => run.id === id) % COLOURS.length];
}

function charts(runs) {
  const names = new Set(runs.flatMap((run) => [...run.store.names]));
  // runs are told apart by colour, so each metric has a chart of its own
  const metrics = panelsOf(names).flatMap(({ title, note, lines }) =>
    lines.map(([metric, label]) => ({
      metric,
      note,
      title: lines.length > 1 ? `${title}: ${label}` : title,
    })),
  );
  const xs = [...new Set(runs.flatMap((run) => run.store.xs))].sort((a, b) => a - b);
  if (xs.length === 0) {
    fill(byId("charts"), el("p", { class: "notice" }, "None of these runs has done a step."));
    return;
  }
  const grid = el("div", { class: "grid" });
  fill(byId("charts"), grid);
  for (const { metric, title, note } of metrics) {
    const own = runs.filter((run) => run.store.names.has(metric));
    const chart = createChart({
      title,
      note: [metric, note].filter(Boolean).join(": "),
      sync: "compare",
      series: own.map((run) => ({ label: run.id, colour: colourOf(runs, run.id) })),
    });
    grid.append(chart.root);
    chart.set(
      xs,
      own.map((run) => aligned(run.store, metric, xs)),
    );
  }
}

/** A column at these steps; null where the run does not have the step. */
function aligned(store, metric, xs) {
  const byStep = new Map(store.xs.map((step, i) => [step, store.column(metric)[i]]));
  return xs.map((step) => byStep.get(step) ?? null);
}

function values(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.details.metrics)))].sort();
  if (names.length === 0) return;
  fill(
    byId("values"),
    el("h2", {}, "Newest values"),
    table(
      ["metric", ...runs.map((run) => run.id)],
      names.map((name) => [el("code", {}, name), ...runs.map((run) => short(run.details.metrics[name]))]),
      {
        numeric: runs.map((_, i) => i + 1),
      },
    ),
  );
}

function differences(runs) {
  if (runs.length < 2) return;
  const fields = [...new Set(runs.flatMap((run) => Object.keys(run.details.fields)))].sort();
  const differing = fields.filter((field) => new Set(runs.map((run) => run.details.fields[field])).size > 1);
  fill(
    byId("differences"),
    el("h2", {}, "Differences of the run files"),
    differing.length === 0
      ? el("p", { class: "notice" }, "The run files are the same.")
      : table(
          ["field", ...runs.map((run) => run.id)],
          differing.map((field) => [
            el("code", {}, field),
            ...runs.map((run) => run.details.fields[field] ?? "–"),
          ]),
        ),
  );
}
