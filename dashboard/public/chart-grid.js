/** @file The charts of one run: panels of what it has, everything else on request. */
import { COLOURS, createChart } from "./chart.js";
import { el, fill } from "./dom.js";
import { otherPanels, panelsOf } from "./panels.js";

const SMOOTHING = [
  ["0", "as measured"],
  ["0.6", "a little"],
  ["0.9", "strongly"],
];

export class ChartGrid {
  #root;
  #grid = el("div", { class: "grid" });
  #more = el("div", { class: "grid" });
  #details = el("details", {}, el("summary", {}, "All other metrics"), this.#more);
  #smooth = el(
    "select",
    { "aria-label": "Smoothing" },
    ...SMOOTHING.map(([value, label]) => el("option", { value }, label)),
  );
  #sets = [];
  #latest;

  constructor(root) {
    this.#root = root;
    const again = () => this.#latest && this.show(...this.#latest);
    this.#smooth.addEventListener("change", again);
    this.#details.addEventListener("toggle", again);
  }

  /** Draws what the store holds; `run` says what to write where it holds nothing. */
  show(store, run) {
    this.#latest = [store, run];
    if (store.xs.length === 0) {
      this.#clear();
      fill(this.#root, el("p", { class: "notice" }, emptyText(run)));
      return;
    }
    const { names } = store;
    const sets = [
      [this.#grid, panelsOf(names)],
      [this.#more, this.#details.open ? otherPanels(names) : []],
    ];
    if (this.#sets.length === 0) {
      fill(
        this.#root,
        el("div", { class: "controls" }, el("label", {}, "Curves ", this.#smooth)),
        this.#grid,
        this.#details,
      );
    }
    this.#sets = sets.map(([grid, panels], i) => this.#update(this.#sets[i], grid, panels));
    const weight = Number(this.#smooth.value);
    for (const { charts } of this.#sets) {
      for (const { chart, lines } of charts)
        chart.set(
          store.xs,
          lines.map(([metric]) => store.column(metric, weight)),
        );
    }
  }

  /** Charts of these panels; those that are there already stay. */
  #update(before, grid, panels) {
    const key = JSON.stringify(panels);
    if (before?.key === key) return before;
    for (const { chart } of before?.charts ?? []) chart.destroy();
    const charts = panels.map(({ title, note, lines }) => ({
      lines,
      chart: createChart({
        title,
        note,
        sync: "run",
        series: lines.map(([, label], i) => ({ label, colour: COLOURS[i % COLOURS.length] })),
      }),
    }));
    fill(
      grid,
      charts.map(({ chart }) => chart.root),
    );
    return { key, charts };
  }

  #clear() {
    for (const { charts } of this.#sets) for (const { chart } of charts) chart.destroy();
    this.#sets = [];
  }
}

function emptyText(run) {
  if (!run) return "Reading the run…";
  if (run.state === "STARTING")
    return "Checking servers and loading models; charts begin with the first step.";
  if (run.state === "RUNNING") return "No step is done yet; charts begin with the first one.";
  return "This run ended before its first step: there is nothing to draw.";
}
