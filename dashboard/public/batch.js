/** @file One batch: which server did what when, and its samples. One choice of the step for both. */
import { get, runPath } from "./api.js";
import { el, fill } from "./dom.js";
import { samplesView } from "./samples.js";
import { timelineView } from "./timeline.js";

const LATE_SPANS_MS = 1500;

export class BatchView {
  #id;
  #steps = [];
  #records = [];
  /** Whether the samples of the shown step were recorded when it was drawn. */
  #recorded;
  /** The step that is shown; undefined: the newest, as it comes. */
  #chosen;
  #shown;
  #input = el("input", { type: "number", min: 1, "aria-label": "Batch", class: "step" });
  #newest = el("button", { type: "button", class: "quiet" }, "newest");
  #timeline = el("div", { id: "timeline" });
  #samples = el("div", { id: "samples" });

  constructor(root, id) {
    this.#id = id;
    const move = (by) => () => this.#choose((this.#step ?? 1) + by);
    fill(
      root,
      el(
        "div",
        { class: "heading" },
        el("h2", {}, "One batch"),
        el(
          "span",
          { class: "controls" },
          el(
            "button",
            { type: "button", class: "quiet", "aria-label": "Batch before", on: { click: move(-1) } },
            "‹",
          ),
          this.#input,
          el(
            "button",
            { type: "button", class: "quiet", "aria-label": "Batch after", on: { click: move(1) } },
            "›",
          ),
          this.#newest,
        ),
      ),
      this.#timeline,
      this.#samples,
    );
    this.#input.addEventListener("change", () => this.#choose(Number(this.#input.value)));
    this.#newest.addEventListener("click", () => {
      this.#chosen = undefined;
      this.#draw();
    });
    this.#draw();
  }

  /** Steps that the run has done. */
  steps(steps) {
    this.#steps = steps;
    this.#draw();
  }

  /** Steps whose samples are recorded. */
  records(steps) {
    this.#records = steps;
    this.#draw();
  }

  get #step() {
    return this.#chosen ?? this.#steps.at(-1);
  }

  #choose(step) {
    const last = this.#steps.at(-1) ?? 1;
    this.#chosen = Math.min(last, Math.max(1, Math.round(step) || 1));
    this.#draw();
  }

  #draw() {
    const step = this.#step;
    if (step === undefined) {
      fill(this.#timeline, el("p", { class: "notice" }, "No batch is done yet."));
      fill(this.#samples);
      return;
    }
    if (document.activeElement !== this.#input) this.#input.value = String(step);
    this.#newest.setAttribute("aria-pressed", String(this.#chosen === undefined));
    const recorded = this.#records.includes(step);
    if (this.#shown === step && this.#recorded === recorded) return;
    if (this.#shown !== step) void this.#showTimeline(step);
    this.#shown = step;
    this.#recorded = recorded;
    void this.#showSamples(step, recorded);
  }

  async #showTimeline(step, attempt = 0) {
    const [view, complete] = await this.#view(`timeline/${step}`, "Timeline", timelineView);
    if (this.#shown !== step) return;
    fill(this.#timeline, view);
    // spans of a batch that has just ended are still on their way into the trace files
    if (step !== this.#steps.at(-1) || attempt >= (complete ? 1 : 3)) return;
    setTimeout(() => {
      if (this.#shown === step) void this.#showTimeline(step, attempt + 1);
    }, LATE_SPANS_MS);
  }

  async #showSamples(step, recorded) {
    if (recorded) {
      const [view] = await this.#view(`samples/${step}`, "Samples", samplesView);
      if (this.#shown === step) fill(this.#samples, view);
      return;
    }
    const others = this.#records.length;
    const why =
      others > 0
        ? `Batch ${step} was not recorded; ${others} others were, the newest is ${this.#records.at(-1)}.`
        : "Batches are recorded where the run file says `record: true`; this run has none.";
    fill(this.#samples, el("h3", {}, "Samples"), el("p", { class: "notice" }, why));
  }

  /** What the API has, as elements, or the reason why it has nothing; and whether it had something. */
  async #view(path, title, draw) {
    try {
      return [draw(await get(`${runPath(this.#id)}/${path}`)), true];
    } catch (error) {
      return [[el("h3", {}, title), el("p", { class: "notice" }, error.message)], false];
    }
  }
}
