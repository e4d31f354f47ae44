/** @file The head of a run's page: where it stands, and what to do where it ended badly. */
import { runPage } from "./api.js";
import { badge, progress } from "./badge.js";
import { el } from "./dom.js";
import { duration, when } from "./format.js";

const ENDS = {
  FAILED: "This run failed.",
  INTERRUPTED: "This run was interrupted: its process is gone.",
  UNREADABLE: "This run's run.json can't be read.",
  STOPPED: "This run was stopped on request.",
  PAUSED: "This run is paused.",
};

/** Elements of the head. `secondsLeft`: estimate, while it runs. */
export function headOf(run, secondsLeft) {
  const facts = [
    ["kind", run.kind],
    ["started", run.startedAt && when(run.startedAt)],
    ["weights", run.weights && `version ${run.weights.version} · ${run.weights.digest.slice(0, 12)}`],
    ["travel by", run.weightsBus],
    ["time left", secondsLeft > 0 && `about ${duration(secondsLeft)}`],
    ["model", run.modelDirectory],
    ["directory", run.directory],
  ].filter(([, value]) => value);
  return [
    el("div", { class: "heading" }, el("h1", {}, run.id), badge(run.state), progress(run)),
    el(
      "dl",
      { class: "facts" },
      ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
    ending(run),
    run.hasReport &&
      el(
        "p",
        {},
        el("a", { class: "button", href: `${runPage(run.id)}/report` }, "Before and after: report"),
      ),
  ];
}

function ending(run) {
  const says = ENDS[run.state];
  if (!says) return undefined;
  const resumable = ["FAILED", "INTERRUPTED", "STOPPED", "PAUSED"].includes(run.state);
  return el(
    "div",
    { class: `ending state-${run.state.toLowerCase()}`, role: run.state === "FAILED" ? "alert" : "status" },
    el("strong", {}, says),
    run.reason && el("pre", { class: "why" }, run.reason),
    resumable &&
      el("p", {}, "From its newest good checkpoint: ", el("code", {}, `rlhf runs resume ${run.id}`)),
  );
}
