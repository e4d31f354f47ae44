/** @file A run's page: its head, charts, a batch, log and run file; live over server-sent events. */
import { get, runPath } from "./api.js";
import { BatchView } from "./batch.js";
import { ChartGrid } from "./chart-grid.js";
import { byId, el, fill } from "./dom.js";
import { headOf } from "./head.js";
import { LogView } from "./log.js";
import { MetricsStore } from "./metrics-store.js";

const id = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const store = new MetricsStore();
const grid = new ChartGrid(byId("charts"));
const log = new LogView(byId("log"), byId("warnings"));
const batch = new BatchView(byId("batch"), id);
let details = {};
let secondsLeft;
let run;
let due = false;

document.title = `${id} · rlhf-mesh`;

function head() {
  if (run)
    fill(byId("head"), headOf({ ...details, ...run }, run.state === "RUNNING" ? secondsLeft : undefined));
}

/** Draws once per frame, however many messages came. */
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    grid.show(store, run);
  });
}

async function describe() {
  details = await get(runPath(id));
  fill(
    byId("config"),
    el("h2", {}, "Run file"),
    details.config
      ? el("pre", { class: "config" }, details.config)
      : el("p", { class: "notice" }, "This run's directory holds no run.yaml."),
  );
  head();
}

const source = new EventSource(`${runPath(id)}/stream`);
const on = (event, handle) => source.addEventListener(event, (message) => handle(JSON.parse(message.data)));
on("run", (summary) => {
  const before = run?.state;
  run = summary;
  // only batches of PPO have servers and samples
  byId("batch").hidden = summary.kind !== "ppo" && summary.kind !== "";
  head();
  draw();
  // a report may have been written, or the run resumed with other servers
  if (before !== undefined && before !== summary.state) void describe();
});
on("metrics", (lines) => {
  store.add(lines);
  batch.steps(store.xs);
  draw();
});
on("events", (lines) => {
  for (const event of lines.values) if (event.kind === "step") secondsLeft = event.secondsLeft;
  log.add(lines);
  head();
});
on("records", (steps) => batch.records(steps));
on("gone", () => {
  source.close();
  byId("connection").textContent = "the run's directory is gone";
});
source.addEventListener("open", () => {
  byId("connection").textContent = "";
});
source.addEventListener("error", () => {
  byId("connection").textContent = "not connected; trying again";
});
addEventListener("pagehide", () => source.close());

await describe();
