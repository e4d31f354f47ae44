// Takes the dashboard's pictures in docs/images. Needs a build and a Chromium.
//   node scripts/screenshots.mjs                  of runs with made-up numbers
//   node scripts/screenshots.mjs RUNS RUN OTHER   of the runs in that directory: RUN is recorded, OTHER is compared with it
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { startDashboard } from "../dist/dashboard/server.js";
import { findChromium, launchChromium } from "../dist/dashboard/testing/chromium.js";
import { PpoFixture } from "../dist/dashboard/testing/ppo-fixture.js";
import { writeTrace } from "../dist/dashboard/testing/trace-fixture.js";

const images = fileURLToPath(new URL("../docs/images/", import.meta.url));
const chromium = findChromium();
if (!chromium) throw new Error("no Chromium here; CHROMIUM_PATH names one");
mkdirSync(images, { recursive: true });
const { runs, run, other, end } = process.argv[2] ? given(process.argv.slice(2)) : await madeUp();
const dashboard = await startDashboard({ runsDirectory: runs, listen: "127.0.0.1:0" });
const browser = await launchChromium(chromium);

function given([runs, run, other]) {
  if (!run || !other) throw new Error("expected RUNS RUN OTHER");
  return { runs: resolve(runs), run, other, end: () => {} };
}

async function madeUp() {
  const folder = mkdtempSync(join(tmpdir(), "rlhf-"));
  const runs = join(folder, "runs");
  const live = new PpoFixture(runs, "faq-ppo", { seed: 4 }).steps(30);
  live.log("warn", "reward term classifier, attempt 1: the deadline has passed", {
    address: "127.0.0.1:50071",
  });
  new PpoFixture(runs, "faq-ppo-faster", { seed: 3, learningRate: 3e-4 }).steps(40).end("FINISHED");
  new PpoFixture(runs, "faq-ppo-too-fast", { seed: 2, learningRate: 0.1 })
    .steps(3)
    .end("FAILED", "step 4: expected a finite loss, got NaN");
  new PpoFixture(runs, "faq-ppo-first", { seed: 1 }).steps(12).end();
  await writeTrace(runs, "faq-ppo", 30);
  const end = () => {
    live.end();
    rmSync(folder, { recursive: true, force: true });
  };
  return { runs, run: "faq-ppo", other: "faq-ppo-faster", end };
}

async function take(name, path, { wait, from, ...options }) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.goto(dashboard.url + path);
  await page.locator(wait).first().waitFor();
  await page.locator(".tokens, .runs, #differences table").first().waitFor();
  if (from) await page.locator(from).evaluate((node) => node.scrollIntoView());
  await page.screenshot({ path: join(images, `${name}.png`) });
  await context.close();
}

const desk = { viewport: { width: 1280, height: 860 } };
await take("dashboard-runs", "/", { ...desk, viewport: { width: 1280, height: 400 }, wait: ".runs" });
await take("dashboard-run", `/runs/${run}`, { ...desk, wait: "canvas" });
await take("dashboard-run-dark", `/runs/${run}`, { ...desk, colorScheme: "dark", wait: "canvas" });
const tall = { viewport: { width: 1280, height: 1240 } };
await take("dashboard-batch", `/runs/${run}`, { ...tall, wait: ".lane", from: "#batch" });
await take("dashboard-compare", `/compare?run=${run}&run=${other}`, { ...desk, wait: "canvas" });
await take("dashboard-phone", `/runs/${run}`, {
  viewport: { width: 390, height: 844 },
  wait: ".lane",
  from: "#batch",
});
await browser.close();
await dashboard.close();
end();
