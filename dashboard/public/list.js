/** @file The list of runs: filter, select for comparison, always fresh. */
import { get, runPage } from "./api.js";
import { badge, progress } from "./badge.js";
import { byId, el, fill, table } from "./dom.js";
import { short, state, when } from "./format.js";

const REFRESH_MS = 2000;
const STATES = [
  "RUNNING",
  "STARTING",
  "FINISHED",
  "PAUSED",
  "STOPPED",
  "FAILED",
  "INTERRUPTED",
  "UNREADABLE",
];
/** What a kind of run is judged by. */
const FIGURES = {
  ppo: [
    ["env/reward_mean", "reward"],
    ["objective/kl", "KL"],
  ],
  sft: [
    ["sft/loss", "loss"],
    ["sft/test_loss", "held out"],
  ],
  encoder: [
    ["mlm/loss", "loss"],
    ["mlm/test_loss", "held out"],
  ],
  reward: [
    ["classifier/loss", "loss"],
    ["classifier/accuracy", "accuracy"],
  ],
};

const text = byId("text");
const chosenState = byId("state");
const compare = byId("compare");
const selected = new Set();
let runs = [];
let directory = "";
let drawn = "";

chosenState.append(...STATES.map((name) => el("option", { value: name }, state(name))));
const query = new URLSearchParams(location.search);
text.value = query.get("q") ?? "";
chosenState.value = STATES.includes(query.get("state") ?? "") ? query.get("state") : "";

function matching() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) => {
    const hay = `${run.id} ${run.kind} ${run.state} ${run.reason}`.toLowerCase();
    return (
      (chosenState.value === "" || run.state === chosenState.value) &&
      words.every((word) => hay.includes(word))
    );
  });
}

function figures(run) {
  return (FIGURES[run.kind] ?? [])
    .filter(([metric]) => typeof run.metrics[metric] === "number")
    .map(([metric, label]) => `${label} ${short(run.metrics[metric])}`)
    .join(", ");
}

function row(run) {
  const box = el("input", {
    type: "checkbox",
    "aria-label": `Compare ${run.id}`,
    checked: selected.has(run.id),
    on: {
      change: () => {
        if (box.checked) selected.add(run.id);
        else selected.delete(run.id);
        link();
      },
    },
  });
  return [
    box,
    el("a", { href: runPage(run.id), class: "name" }, run.id),
    run.kind || "–",
    badge(run.state),
    progress(run),
    figures(run) || "–",
    run.startedAt ? when(run.startedAt) : "–",
    el("span", { class: "reason", title: run.reason }, run.reason.split("\n")[0] || ""),
  ];
}

function draw() {
  const found = matching();
  const key = JSON.stringify([found, text.value, chosenState.value, runs.length]);
  if (key === drawn) return;
  drawn = key;
  if (runs.length === 0) {
    fill(
      byId("runs"),
      el(
        "div",
        { class: "empty" },
        el("h2", {}, "No runs yet"),
        el(
          "p",
          {},
          "A run appears here as soon as it starts: ",
          el("code", {}, "rlhf demo"),
          " makes three of them.",
        ),
      ),
    );
    return;
  }
  fill(
    byId("runs"),
    found.length === 0
      ? el("p", { class: "notice" }, `None of ${runs.length} runs matches.`)
      : table(["", "run", "kind", "state", "steps", "newest figures", "started", "reason"], found.map(row), {
          className: "stacked runs",
        }),
  );
}

function link() {
  const ids = [...selected].filter((id) => runs.some((run) => run.id === id));
  const search = new URLSearchParams(ids.map((id) => ["run", id]));
  compare.href = `/compare?${search}`;
  compare.textContent = ids.length === 0 ? "Compare selected" : `Compare ${ids.length} selected`;
  compare.setAttribute("aria-disabled", String(ids.length < 2));
}

function remember() {
  const search = new URLSearchParams();
  if (text.value) search.set("q", text.value);
  if (chosenState.value) search.set("state", chosenState.value);
  history.replaceState(null, "", search.size > 0 ? `/?${search}` : "/");
  draw();
}

async function refresh() {
  try {
    ({ runs, directory } = await get("/api/runs"));
    byId("where").textContent = directory;
    byId("connection").textContent = "";
    draw();
    link();
  } catch (error) {
    byId("connection").textContent = `not connected: ${error.message}`;
  }
}

byId("filter").addEventListener("submit", (event) => event.preventDefault());
text.addEventListener("input", remember);
chosenState.addEventListener("change", remember);
await refresh();
setInterval(() => {
  if (!document.hidden) void refresh();
}, REFRESH_MS);
