/** @file A batch as lanes of bars, one lane per process: who did what when. */
import { el, fill } from "./dom.js";
import { duration } from "./format.js";

const ROW_PX = 20;
/** What a span is about, by its name; the first that fits. */
const PARTS = [
  ["generate", /generate|text_completion/i],
  ["reference", /reference|logprobs/i],
  ["score", /score/i],
  ["learn", /learn|experience/i],
  ["weights", /publish|weights/i],
  ["checkpoint", /checkpoint/i],
  ["other", /./],
];

const partOf = (name) => PARTS.find(([, pattern]) => pattern.test(name))[0];
/** `PolicyService/Generate` of `rlhf.policy.v1.PolicyService/Generate`; `generate` of `rlhf.generate`. */
const shortName = (name) =>
  name.includes("/") ? name.replace(/^.*\.(?=[^.]+\/)/, "") : name.replace(/^rlhf\./, "");

/** Elements of a timeline. */
export function timelineView({ traceId, durationMs, lanes, leftOut }) {
  const detail = el("div", { class: "detail", role: "status" }, "Choose a bar for its figures.");
  const parts = new Set(lanes.flatMap((lane) => lane.spans.map((span) => partOf(span.name))));
  return [
    el(
      "h3",
      {},
      "Timeline ",
      el("span", { class: "muted" }, `${duration(durationMs / 1000)} · trace ${traceId.slice(0, 8)}`),
    ),
    el(
      "ul",
      { class: "legend" },
      ...PARTS.filter(([part]) => parts.has(part)).map(([part]) =>
        el("li", {}, el("span", { class: `key part-${part}` }), part),
      ),
    ),
    el(
      "div",
      { class: "timeline" },
      ...lanes.map((lane) =>
        el(
          "div",
          { class: "lane" },
          el(
            "div",
            { class: "lane-name", title: lane.instance },
            lane.name,
            el("small", {}, `${lane.service} ${lane.instance}`),
          ),
          track(lane, durationMs, detail),
        ),
      ),
      axis(durationMs),
    ),
    detail,
    leftOut > 0 && el("p", { class: "muted" }, `${leftOut} of the shortest spans are left out.`),
  ];
}

function track(lane, durationMs, detail) {
  const bars = lane.spans.map((span) => {
    const took = span.endMs - span.startMs;
    const bar = el(
      "button",
      {
        type: "button",
        class: `span part-${partOf(span.name)}${span.error ? " failed" : ""}`,
        title: `${span.name}: ${duration(took / 1000)}`,
        on: { click: () => fill(detail, ...figures(span)) },
      },
      shortName(span.name),
    );
    bar.style.left = `${(100 * span.startMs) / durationMs}%`;
    bar.style.width = `${(100 * took) / durationMs}%`;
    bar.style.top = `${span.row * ROW_PX}px`;
    return bar;
  });
  const root = el("div", { class: "track" }, ...bars);
  root.style.height = `${lane.rows * ROW_PX}px`;
  return root;
}

function figures(span) {
  const facts = [
    ["began", duration(span.startMs / 1000)],
    ["took", duration((span.endMs - span.startMs) / 1000)],
    ...(span.error ? [["failed", span.error]] : []),
    ...Object.entries(span.attributes),
  ];
  return [
    el("strong", {}, span.name),
    el(
      "dl",
      { class: "facts" },
      ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
  ];
}

/** Marks at round times. */
function axis(durationMs) {
  const rough = durationMs / 6;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-3)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power;
  const marks = [];
  for (let at = 0; at <= durationMs * 0.97; at += step) {
    const mark = el("span", { class: "mark" }, duration(at / 1000));
    mark.style.left = `${(100 * at) / durationMs}%`;
    marks.push(mark);
  }
  return el(
    "div",
    { class: "lane" },
    el("div", { class: "lane-name" }),
    el("div", { class: "track axis" }, ...marks),
  );
}
