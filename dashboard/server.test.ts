import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RunningDashboard, startDashboard } from "./server.js";
import { PpoFixture } from "./testing/ppo-fixture.js";

describe("the dashboard", () => {
  let folder: string;
  let dashboard: RunningDashboard;
  const failures: Error[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-dashboard-"));
    dashboard = await startDashboard({
      runsDirectory: folder,
      listen: "127.0.0.1:0",
      onError: (error) => failures.push(error),
    });
  });
  beforeEach(() => {
    for (const name of ["one", "two", "broken"]) rmSync(join(folder, name), { recursive: true, force: true });
  });
  afterEach(() => assert.deepEqual(failures.splice(0), []));
  after(async () => {
    await dashboard.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const get = (path: string) => fetch(dashboard.url + path);
  const json = async (path: string) => (await get(path)).json() as Promise<Record<string, unknown>>;

  /** A request as it is typed, without what fetch would normalise. */
  function raw(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<number> {
    const { hostname, port } = new URL(dashboard.url);
    return new Promise((resolve, reject) => {
      request({ hostname, port, path, method, headers }, (reply) => {
        reply.resume();
        resolve(reply.statusCode ?? 0);
      })
        .on("error", reject)
        .end();
    });
  }

  describe("the dashboard's API", () => {
    it("lists runs newest first, a dead one as interrupted and a damaged one with what is wrong", async () => {
      new PpoFixture(folder, "one", { seed: 1 }).steps(2).end();
      new PpoFixture(folder, "two", { seed: 2 }).steps(1).end("FINISHED");
      mkdirSync(join(folder, "broken"));
      writeFileSync(join(folder, "broken", "run.json"), '{"kind": "ppo", "sta');
      mkdirSync(join(folder, "no-run"), { recursive: true });
      const { runs } = (await json("/api/runs")) as { runs: { id: string; state: string; reason: string }[] };
      assert.deepEqual(
        runs.map(({ id, state }) => [id, state]),
        [
          ["two", "FINISHED"],
          ["one", "INTERRUPTED"],
          ["broken", "UNREADABLE"],
        ],
      );
      assert.match(runs[2]?.reason ?? "", /^run\.json: .*JSON/);
    });

    it("says of a run that works that it runs, with its run file by field", async () => {
      const run = new PpoFixture(folder, "one").steps(1);
      const details = (await json("/api/runs/one")) as { state: string; fields: Record<string, string> };
      assert.equal(details.state, "RUNNING");
      assert.equal(details.fields["ppo.batchSize"], "8");
      assert.equal(details.fields["rewards.1.type"], "bertscore");
      run.end("FINISHED");
    });

    it("gives the samples of a recorded batch with scores per term and advantages per token", async () => {
      new PpoFixture(folder, "one").steps(5).end("FINISHED");
      const { samples } = (await json("/api/runs/one/samples/5")) as { samples: Record<string, never>[] };
      assert.equal(samples.length, 8);
      const [first, last] = [samples[0], samples[7]] as unknown as {
        response: string;
        tokens: { text: string; advantage: number }[];
        terms: Record<string, number | null>;
        reward: number | null;
        failure: string;
      }[];
      assert.equal(first?.tokens.map(({ text }) => text).join(""), first?.response);
      assert.ok(first?.tokens.every(({ advantage }) => Number.isFinite(advantage)));
      assert.equal(typeof first?.terms.bertscore, "number");
      assert.equal(last?.reward, null);
      assert.match(last?.failure ?? "", /deadline/);
      assert.deepEqual(last?.tokens, []);
    });

    it("streams a run: all of it, then what comes", async () => {
      const run = new PpoFixture(folder, "one").steps(2);
      const leave = new AbortController();
      const reply = await fetch(`${dashboard.url}/api/runs/one/stream`, { signal: leave.signal });
      assert.equal(reply.headers.get("content-type"), "text/event-stream");
      const messages = readEvents(reply);
      const steps: number[] = [];
      for await (const { event, data } of messages) {
        if (event !== "metrics") continue;
        const { reset, values } = data as { reset: boolean; values: { step: number }[] };
        if (reset) steps.length = 0;
        steps.push(...values.map(({ step }) => step));
        if (steps.length === 2) run.step();
        if (steps.length === 3) break;
      }
      assert.deepEqual(steps, [1, 2, 3]);
      leave.abort();
      run.end();
    });

    it("answers what does not exist with 404 and says what it was", async () => {
      new PpoFixture(folder, "one").steps(1).end();
      for (const [path, message] of [
        ["/api/runs/nope", /There is no run "nope"/],
        ["/api/runs/nope/stream", /There is no run "nope"/],
        ["/api/runs/one/samples/9", /Batch 9 was not recorded/],
        ["/api/runs/one/samples/x", /There is no batch "x"/],
        ["/api/runs/one/timeline/1", /This run has no traces/],
        ["/api/nothing", /no such page/],
      ] as const) {
        const reply = await get(path);
        assert.equal(reply.status, 404, path);
        assert.match(((await reply.json()) as { error: string }).error, message);
      }
      const page = await get("/runs/nope");
      assert.equal(page.status, 404);
      assert.match(await page.text(), /Not found/);
      assert.equal((await get("/runs/one/report")).status, 404);
    });
  });

  describe("the dashboard's guards", () => {
    it("let pages load nothing but our own files, and run nothing inline", async () => {
      const reply = await get("/");
      const policy = reply.headers.get("content-security-policy") ?? "";
      for (const part of [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
      ]) {
        assert.ok(policy.includes(part), part);
      }
      assert.equal(reply.headers.get("x-content-type-options"), "nosniff");
      const html = await reply.text();
      assert.ok(
        !/\son\w+=|<script>|<style|style=|https?:/.test(html),
        "nothing inline, nothing from elsewhere",
      );
    });

    it("serve no file but their own, however the path is written", async () => {
      writeFileSync(join(folder, "secret.txt"), "secret");
      for (const path of [
        "/assets/../server.js",
        "/assets/..%2fserver.js",
        "/assets/%2e%2e/%2e%2e/package.json",
        "/assets/index.html",
        "/runs/..%2f..",
        "/api/runs/%2e%2e%2fsecret.txt",
        "/api/runs/one/samples/../../../secret.txt",
      ]) {
        assert.equal(await raw(path), 404, path);
      }
    });

    it("change nothing: other methods than GET find nothing", async () => {
      for (const method of ["POST", "PUT", "DELETE"]) assert.equal(await raw("/api/runs", {}, method), 404);
    });

    it("refuse a Host that is not this machine, so that no other site can read us", async () => {
      assert.equal(await raw("/api/runs", { host: "evil.example" }), 403);
      assert.equal(await raw("/api/runs", { host: "localhost:1234" }), 200);
    });

    it("refuse to listen where others can reach, unless told to", async () => {
      const at = (listen: string, insecure = false) =>
        startDashboard({ runsDirectory: folder, listen, insecure });
      await assert.rejects(at("0.0.0.0:0"), /can be reached from other machines.*--insecure/);
      await assert.rejects(at("nonsense"), /is no address; accepted: host:port/);
      await assert.rejects(at(dashboard.url.replace("http://", "")), /cannot be bound: .*EADDRINUSE/);
      const open = await at("0.0.0.0:0", true);
      await open.close();
    });
  });

  async function* readEvents(reply: Response): AsyncGenerator<{ event: string; data: unknown }> {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of reply.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const message = text.slice(0, end);
        text = text.slice(end + 2);
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(message)?.[1] ?? "";
        if (field("data")) yield { event: field("event"), data: JSON.parse(field("data")) };
      }
    }
  }
});
