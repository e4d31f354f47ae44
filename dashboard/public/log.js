/** @file What happened in a run, newest first: states, warnings, alarms with their figures. */
import { el, fill } from "./dom.js";
import { state, when } from "./format.js";

const SHOWN = 300;

/** Newest warnings that stand above the charts. */
const WARNINGS = 3;

export class LogView {
  #root;
  #warnings;
  #lines = [];

  /** `warnings`: where the newest warnings and errors stand once more. */
  constructor(root, warnings) {
    this.#root = root;
    this.#warnings = warnings;
    this.#draw();
  }

  /** Takes lines of events.jsonl; steps are the charts' business. */
  add({ reset, values }) {
    if (reset) this.#lines = [];
    const fresh = values.filter(
      (event) => event && typeof event === "object" && event.kind !== "step" && event.kind !== "phase",
    );
    this.#lines.push(...fresh);
    this.#draw();
  }

  #draw() {
    const urgent = this.#lines.filter(({ level }) => level === "warn" || level === "error");
    fill(
      this.#warnings,
      urgent.length > 0 && [
        el("ol", { class: "log warnings" }, ...urgent.slice(-WARNINGS).reverse().map(line)),
        urgent.length > WARNINGS &&
          el("p", {}, el("a", { href: "#log" }, `${urgent.length} warnings in all`)),
      ],
    );
    const lines = this.#lines.slice(-SHOWN).reverse();
    fill(
      this.#root,
      el("h2", {}, "Log"),
      lines.length === 0
        ? el("p", { class: "notice" }, "Nothing has been said yet.")
        : el("ol", { class: "log" }, ...lines.map(line)),
      this.#lines.length > SHOWN &&
        el("p", { class: "muted" }, `The newest ${SHOWN} of ${this.#lines.length} lines.`),
    );
  }
}

const said = (words, value) => typeof value === "string" && value.length > 20 && words.includes(value);

function line(event) {
  const {
    kind,
    time,
    level = "info",
    message,
    fields,
    state: entered,
    reason,
    event: _number,
    ...rest
  } = event;
  const words =
    kind === "state" ? `run is ${state(String(entered))}${reason ? `: ${reason}` : ""}` : (message ?? kind);
  // an alarm's cause and remedy stand in its message already
  const figures = Object.entries({ ...rest, ...fields }).filter(([, value]) => !said(words, value));
  return el(
    "li",
    { class: `level-${kind === "state" && entered === "FAILED" ? "error" : level}` },
    el("time", { datetime: time }, when(time)),
    el("span", { class: "words" }, words),
    ...figures.map(([name, value]) =>
      el(
        "span",
        { class: "figure" },
        `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`,
      ),
    ),
  );
}
