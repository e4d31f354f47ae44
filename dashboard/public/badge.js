/** @file A run's state as a badge, and how far it is as a bar. */
import { el } from "./dom.js";
import { state } from "./format.js";

export const badge = (name) => el("span", { class: `badge state-${state(name)}` }, state(name));

export function progress(run) {
  const share = run.totalSteps > 0 ? Math.min(1, run.step / run.totalSteps) : 0;
  const bar = el("span", { class: "fill" });
  bar.style.width = `${(100 * share).toFixed(1)}%`;
  return el(
    "span",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": "Steps done",
      "aria-valuemin": 0,
      "aria-valuemax": run.totalSteps,
      "aria-valuenow": run.step,
    },
    el("span", { class: "track" }, bar),
    el("span", { class: "steps" }, `${run.step}/${run.totalSteps || "?"}`),
  );
}
