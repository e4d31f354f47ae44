import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { BusUnavailableError } from "./errors.js";
import { FetchThread } from "./fetch-thread.js";
import type { WeightsManifest } from "./index.js";
import { fileHarness, type Harness, someTensors } from "./testing.js";

const MB = 1 << 20;

describe("a fetch thread", () => {
  const options = { deadlineMs: 60_000, stallMs: 5000, expected: undefined };
  const signal = new AbortController().signal;
  let harness: Harness;
  let manifest: WeightsManifest;
  let thread: FetchThread;
  before(async () => {
    harness = await fileHarness();
    const bus = await harness.open({ run: "r", model: "m" });
    manifest = await bus.publish(someTensors(1, 8 * MB), { version: 1 });
    thread = new FetchThread(harness.url, harness.url, { run: "r", model: "m" });
  });
  after(async () => {
    await thread.close();
    await harness.close();
  });

  it("that ends in the middle of a fetch is an error worth another try, and the next fetch starts another", async () => {
    const fetching = thread.fetch(manifest, options, signal);
    fetching.catch(() => {});
    await thread.close();
    await assert.rejects(fetching, (error) => {
      assert.ok(error instanceof BusUnavailableError, String(error));
      assert.match(error.message, /weights bus file:.*: fetch: the fetch thread ended/);
      return true;
    });
    const tensors = await thread.fetch(manifest, options, signal);
    for (const [name, { data }] of someTensors(1, 8 * MB)) assert.deepEqual(tensors.get(name), data);
  });

  it("says that a bus cannot be reached, and tries again with the next fetch", async () => {
    const nowhere = new FetchThread("nats://127.0.0.1:1", "nats://127.0.0.1:1", {
      run: "r",
      model: "m",
      connectTimeoutMs: 200,
    });
    for (let attempt = 0; attempt < 2; attempt++) {
      await assert.rejects(nowhere.fetch(manifest, options, signal), (error) => {
        assert.ok(error instanceof BusUnavailableError, String(error));
        assert.equal(error.code, "BUS_UNAVAILABLE");
        assert.match(error.message, /127\.0\.0\.1:1.*connect/);
        return true;
      });
    }
    await nowhere.close();
  });

  it("yields to threads that compute, and leaves their priority alone", async function () {
    if (process.platform !== "linux") {
      console.log("priorities of threads: only Linux has them");
      return this.skip();
    }
    await thread.fetch(manifest, options, signal);
    const nice = readdirSync("/proc/self/task").map((id) => {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, "utf8");
      // "id (name) state ppid …", nice is the 19th; the name may hold anything, so count from its last bracket
      return { id: Number(id), nice: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]) };
    });
    const main = nice.find(({ id }) => id === process.pid);
    assert.deepEqual(
      nice.filter((one) => one.nice > main!.nice).map((one) => one.nice - main!.nice),
      [10],
    );
  });
});
