import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { Evaluator } from "../services/trainer/evaluate/evaluator.js";
import { RunManager } from "../services/trainer/runs/manager.js";
import { runSft } from "../services/trainer/supervised/sft-run.js";
import { TestMesh } from "../services/trainer/testing/mesh.js";
import { type RunningDashboard, startDashboard } from "./server.js";
import { findChromium, launchChromium } from "./testing/chromium.js";
import { PpoFixture } from "./testing/ppo-fixture.js";
import { writeTrace } from "./testing/trace-fixture.js";

const HOSTILE = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"'&amp;`;
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

describe("the dashboard in a browser", function () {
  this.timeout(60_000);
  let browser: Browser;
  let folder: string;
  let dashboard: RunningDashboard;
  const contexts: { close(): Promise<void> }[] = [];
  const complaints: string[] = [];

  before(async function () {
    const path = findChromium();
    if (path === undefined) {
      console.log("      SKIPPED: no Chromium here (apt-get install chromium, or CHROMIUM_PATH)");
      this.skip();
    }
    browser = await launchChromium(path);
    folder = mkdtempSync(join(tmpdir(), "rlhf-browser-"));
    mkdirSync(join(folder, "mesh"));
    dashboard = await startDashboard({
      runsDirectory: folder,
      listen: "127.0.0.1:0",
      onError: (error) => complaints.push(`server: ${error.message}`),
    });
    new PpoFixture(folder, "ppo-done", { seed: 1 }).steps(12).end("FINISHED");
    new PpoFixture(folder, "ppo-faster", { seed: 2, learningRate: 3e-4 }).steps(8).end("STOPPED");
    new PpoFixture(folder, "ppo-failed", { seed: 3 })
      .steps(2)
      .end("FAILED", "step 3: expected a finite loss, got NaN");
    new PpoFixture(folder, "ppo-gone", { seed: 4 }).steps(3).end();
    new PpoFixture(folder, "ppo-empty", { seed: 5 }).end("FAILED", "servers.policy.addresses is empty");
    await writeTrace(folder, "ppo-done", 12);
  });
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close();
    assert.deepEqual(complaints.splice(0), []);
  });
  after(async () => {
    await browser?.close();
    await dashboard?.close();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  /** A page whose errors fail the test, and which may talk to the dashboard alone. */
  async function open(path: string, options: BrowserContextOptions = {}, at = dashboard.url): Promise<Page> {
    const context = await browser.newContext(options);
    contexts.push(context);
    const page = await context.newPage();
    page.on("pageerror", (error) => complaints.push(`page: ${error.message}`));
    page.on("console", (message) => {
      // a part that is not there (a batch without a trace) is said on the page; the browser notes the 404
      if (message.type() === "error" && !message.text().includes("404")) complaints.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(at)) complaints.push(`asked elsewhere: ${request.url()}`);
    });
    await page.goto(at + path);
    return page;
  }

  const chart = (page: Page, title: string) => page.locator(`figure[data-title="${title}"]`);

  /** Pixels of a chart that are painted. */
  const painted = (page: Page, title: string): Promise<number> =>
    page.evaluate(`(() => {
      const canvas = document.querySelector('figure[data-title="${title}"] canvas');
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, i) => i % 4 === 3 && value > 0).length;
    })()`);

  const evaluate = <T>(page: Page, expression: string) => page.evaluate(expression) as Promise<T>;

  const never = async () => assert.fail("another kind of run");

  it("draws the curves of a real run while the trainer works on it", async () => {
    const rows = Array.from({ length: 8 }, (_, i) => `where is tool ${i}?,tool ${i} hangs on the wall.`);
    writeFileSync(join(folder, "rows.csv"), `question,answer\n${rows.join("\n")}\n`);
    const manager = new RunManager({
      runsDirectory: folder,
      log: { info() {}, warn() {}, error() {} },
      runners: { sft: runSft, ppo: never, reward: never, encoder: never },
    });
    manager.start(
      `{ kind: sft, threads: 1, epochs: 10, batchSize: 4, checkpoint: { every: 10 }, data: { train: rows.csv, test: rows.csv },
         init: { layers: 1, width: 32, heads: 2, positions: 64, tokenizer: { vocabSize: 320 } } }`,
      folder,
      "sft-real",
    );
    const page = await open("/runs/sft-real");
    await page.locator(".heading .state-finished").waitFor();
    await page.locator('figure[data-title="Loss"][data-points="20"]').waitFor();
    assert.equal((await manager.finished("sft-real")).state, "FINISHED");
    assert.match(
      (await chart(page, "Loss").locator(".legend").textContent()) ?? "",
      /train [\d.]+held out [\d.]+/,
    );
    assert.ok((await painted(page, "Loss")) > 500);
    assert.ok((await painted(page, "Tokens per second")) > 500);
    assert.ok(await page.locator("#batch").isHidden(), "a supervised run has no batches of samples");
  });

  it("shows a real PPO run: curves, tokens by their advantage, and the report of its evaluation", async () => {
    const mesh = await TestMesh.start({ runsDirectory: join(folder, "mesh") });
    const own = await startDashboard({ runsDirectory: mesh.runsDirectory, listen: "127.0.0.1:0" });
    try {
      const { record } = await mesh.run("ppo-real", { batches: 2, record: true });
      assert.equal(record.state, "FINISHED", record.reason);
      const { signal } = new AbortController();
      await new Evaluator(mesh.manager).evaluate("ppo-real", { rows: 3, signal });
      const page = await open("/runs/ppo-real", {}, own.url);
      await page.locator('figure[data-title="Reward by control token"][data-points="2"]').waitFor();
      assert.ok((await painted(page, "KL to the reference")) > 100);
      const advantages = page.locator(".tokens .token");
      await advantages.first().waitFor();
      assert.equal(await page.locator(".samples tbody tr").count(), 4);
      assert.ok((await advantages.count()) >= 4);
      assert.match((await page.locator("#config").textContent()) ?? "", /kind: ppo/);
      await page.getByText("Before and after: report").click();
      await page.getByRole("heading", { name: "Differences to the reference" }).waitFor();
      assert.ok((await page.locator("svg polyline").count()) > 0);
      assert.equal(
        await evaluate(page, "getComputedStyle(document.body).maxWidth"),
        "992px",
        "its styles hold",
      );
    } finally {
      await own.close();
      await mesh.close();
    }
  });

  it("follows a run live: steps, log and end appear without a reload", async () => {
    const run = new PpoFixture(folder, "ppo-live", { seed: 6, totalSteps: 5 }).steps(2);
    const page = await open("/runs/ppo-live");
    const reward = (points: number) =>
      page.locator(`figure[data-title="Reward by control token"][data-points="${points}"]`).waitFor();
    await reward(2);
    await page.getByText("2/5").waitFor();
    const before = await painted(page, "KL to the reference");
    run.steps(2);
    run.log("warn", "ratio out of range", { ratio: "14.2" });
    await reward(4);
    assert.notEqual(await painted(page, "KL to the reference"), before);
    await page.locator("#warnings").getByText("ratio out of range").waitFor();
    await page.locator("#warnings").getByText("ratio: 14.2").waitFor();
    await page.locator("#samples").getByText("weights 3").first().waitFor();
    run.step();
    run.end("FINISHED");
    await page.locator(".heading .state-finished").waitFor();
    for (const title of [
      "Entropy",
      "Clip fraction",
      "Explained variance",
      "Tokens per second",
      "Staleness",
    ]) {
      assert.ok((await painted(page, title)) > 300, title);
    }
  });

  it("filters the list by words and by state, and keeps the filter in the address", async () => {
    const page = await open("/");
    const names = () => page.locator("a.name").allTextContents();
    await page.locator("a.name").first().waitFor();
    assert.ok((await names()).length >= 5);
    await page.getByLabel("Filter runs").fill("ppo finite");
    assert.deepEqual(await names(), ["ppo-failed"]);
    await page.getByLabel("Filter runs").fill("");
    await page.getByLabel("State").selectOption({ label: "failed" });
    assert.deepEqual((await names()).sort(), ["ppo-empty", "ppo-failed"]);
    await page.reload();
    await page.locator("a.name").first().waitFor();
    assert.deepEqual((await names()).sort(), ["ppo-empty", "ppo-failed"]);
    await page.getByLabel("Filter runs").fill("no such thing");
    await page.getByText(/None of \d+ runs matches/).waitFor();
  });

  it("says plainly how a run ended, and that an empty one has nothing to draw", async () => {
    const failed = await open("/runs/ppo-failed");
    await failed.getByText("This run failed.").waitFor();
    await failed.locator(".why", { hasText: "expected a finite loss, got NaN" }).waitFor();
    await failed.getByText("rlhf runs resume ppo-failed").waitFor();
    await chart(failed, "Value loss").waitFor();
    const gone = await open("/runs/ppo-gone");
    await gone.getByText("This run was interrupted: its process is gone.").waitFor();
    const empty = await open("/runs/ppo-empty");
    await empty.getByText("This run ended before its first step: there is nothing to draw.").waitFor();
    assert.equal(await empty.locator("canvas").count(), 0);
  });

  it("shows a batch: lanes of servers with figures on request, samples with scores and coloured tokens", async () => {
    const page = await open("/runs/ppo-done");
    await page.locator(".lane-name", { hasText: "policy-2" }).waitFor();
    assert.deepEqual((await page.locator(".lane-name").allTextContents()).filter(Boolean), [
      "trainertrainer trainer-host-1",
      "bertscorebertscore bertscore-host-1",
      "policy-1policy policy-host-1",
      "policy-2policy policy-host-1",
      "referencepolicy policy-host-1",
      "rewardreward reward-host-1",
    ]);
    await page.locator(".span.failed").click();
    await page.locator(".detail", { hasText: "fetch timed out once" }).waitFor();
    const rows = page.locator(".samples tbody tr");
    assert.equal(await rows.count(), 8);
    const tokens = page.locator(".tokens .token");
    assert.ok((await tokens.count()) > 20);
    const [shares, colours] = await evaluate<[string[], string[]]>(
      page,
      `(() => { const tokens = [...document.querySelectorAll(".tokens .token")];
        return [tokens.map((t) => t.style.getPropertyValue("--share")), tokens.map((t) => getComputedStyle(t).backgroundColor)]; })()`,
    );
    assert.ok(new Set(shares).size > 5, "shades follow the advantages");
    assert.ok(new Set(colours).size > 5);
    await tokens.first().click();
    await page.locator(".said", { hasText: /advantage −?[\d.]+, value/ }).waitFor();
    await page.getByLabel("Order").selectOption({ label: "lowest reward first" });
    const rewards = (await page.locator('.samples td[data-label="reward"]').allTextContents()).flatMap(
      (text) => (/^−?[\d.e]+$/.test(text) ? [Number(text.replace("−", "-"))] : []),
    );
    assert.deepEqual(
      rewards,
      [...rewards].sort((a, b) => a - b),
    );
    await page.getByLabel("Find in samples").fill("membership");
    assert.ok((await rows.count()) < 8);
    await page.getByLabel("Batch before").click();
    await page.getByText("No trace has batch 11.").waitFor();
  });

  it("compares runs: a line each, newest values, and where the run files differ", async () => {
    const page = await open("/");
    await page.getByLabel("Compare ppo-done").check();
    await page.getByLabel("Compare ppo-faster").check();
    await page.getByText("Compare 2 selected").click();
    await chart(page, "Reward by control token: all").waitFor();
    assert.match(
      (await chart(page, "KL to the reference: k1").locator(".legend").textContent()) ?? "",
      /ppo-done −?[\d.]+ppo-faster −?[\d.]+|ppo-faster −?[\d.]+ppo-done −?[\d.]+/,
    );
    assert.ok((await painted(page, "Explained variance")) > 300);
    const differences = page.locator("#differences tbody tr");
    assert.equal(await differences.count(), 1);
    assert.match((await differences.first().textContent()) ?? "", /^ppo\.learningRate/);
    const missing = await open("/compare?run=ppo-done&run=nope");
    await missing.getByText('nope: There is no run "nope"').waitFor();
    await chart(missing, "Entropy").waitFor();
  });

  it("shows text as text, whatever it says", async () => {
    const run = new PpoFixture(folder, "ppo-hostile", { seed: 7, text: HOSTILE }).steps(2);
    run.log("error", HOSTILE, { [HOSTILE]: HOSTILE });
    run.end("FAILED", HOSTILE);
    const page = await open("/runs/ppo-hostile");
    await page.locator(".samples tbody tr").first().waitFor();
    const response = page.locator(".tokens").first();
    assert.equal(await response.textContent(), HOSTILE);
    assert.equal(await page.locator(".why").textContent(), HOSTILE);
    assert.match((await page.locator("#log").textContent()) ?? "", /<script>window\.hacked/);
    const list = await open("/?q=hostile");
    await list.locator("a.name").first().waitFor();
    const lost = await open(`/runs/${encodeURIComponent(HOSTILE)}`);
    await lost.getByText("No such run").waitFor();
    for (const each of [page, list, lost]) {
      assert.equal(await evaluate(each, "window.hacked ?? null"), null);
      assert.equal(await each.locator("img, body script").count(), 0);
    }
  });

  it("has a clear page for what does not exist", async () => {
    const page = await open("/runs/ppo-2020");
    await page.getByText("There is no run named “ppo-2020” in this runs directory.").waitFor();
    await page.getByText("All runs").click();
    await page.locator("a.name").first().waitFor();
    const report = await open("/runs/ppo-done/report");
    await report.getByRole("heading", { name: "No report" }).waitFor();
  });

  it("fits a phone", async () => {
    for (const path of ["/", "/runs/ppo-done", "/compare?run=ppo-done&run=ppo-faster", "/runs/nope"]) {
      const page = await open(path, PHONE);
      await page.locator("a.name, .lane, canvas, .button").first().waitFor();
      const [wide, screen] = await evaluate<[number, number]>(
        page,
        "[document.documentElement.scrollWidth, window.innerWidth]",
      );
      assert.ok(wide <= screen, `${path}: ${wide} px on a screen of ${screen}`);
    }
  });

  it("is dark where the system is, and the button has the last word", async () => {
    const page = await open("/runs/ppo-done", { colorScheme: "dark" });
    await chart(page, "Entropy").locator("canvas").waitFor();
    const brightness = () =>
      evaluate<number>(
        page,
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3",
      );
    assert.ok((await brightness()) < 60);
    await page.locator("#theme").click();
    assert.ok((await brightness()) > 200);
    assert.ok((await painted(page, "Entropy")) > 300, "charts are drawn anew");
    await page.reload();
    assert.ok((await brightness()) > 200, "the choice is kept");
  });

  it("says when the connection is lost, and goes on when it is back", async () => {
    const run = new PpoFixture(folder, "ppo-again", { seed: 8, totalSteps: 5 }).steps(2);
    const start = (port: string) => startDashboard({ runsDirectory: folder, listen: `127.0.0.1:${port}` });
    const first = await start("0");
    const context = await browser.newContext();
    contexts.push(context);
    const page = await context.newPage();
    await page.goto(`${first.url}/runs/ppo-again`);
    await page.getByText("2/5").waitFor();
    await first.close();
    await page.getByText("not connected; trying again").waitFor();
    run.step();
    const second = await start(new URL(first.url).port);
    await page.getByText("3/5").waitFor();
    await page.locator('figure[data-title="Entropy"][data-points="3"]').waitFor();
    await second.close();
    run.end();
  });
});
