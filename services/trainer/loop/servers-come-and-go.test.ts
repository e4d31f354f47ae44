/**
 * Policy servers that die, are slow to learn of new weights, and come back while a run is at work.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NotReadyError } from "../../../lib/rpc/errors.js";
import { isTime } from "../replay/quantities.js";
import { logged, type MeshRun, TestMesh } from "../testing/mesh.js";
import { startPolicyServer } from "../testing/policy-server.js";
import { readBatchRecord } from "./batch-record.js";

describe("a run whose policy servers come and go", function () {
  this.timeout(60_000); // half of what a run waits for weights: nothing here may wait that long
  let mesh: TestMesh;
  before(async () => {
    mesh = await TestMesh.start();
  });
  after(() => mesh.close());

  /** Which servers a recorded batch came from, one a sample; every sample is of the newest weights. */
  function serversOf(id: string, step: number): string[] {
    const record = readBatchRecord(join(mesh.runsDirectory, id), step);
    return (record?.batch.samples ?? []).map(({ sample }) => {
      assert.equal(sample.weightVersion, step - 1);
      return sample.server;
    });
  }

  /** Metrics but for times. */
  function numbers({ metrics }: MeshRun): object[] {
    return metrics.map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !isTime(name))));
  }

  it("goes on at once with those that serve, and shares work again with one that is back", async () => {
    const id = "coming";
    const bus = { url: `file:${join(mesh.runsDirectory, id, "weights")}`, run: id };
    const staying = await mesh.policy(id);
    const going = await startPolicyServer({ bus });
    let back: Awaited<ReturnType<typeof startPolicyServer>> | undefined;
    let batch = 0;
    let together = 0;
    staying.faults.beforeGenerate = async () => {
      batch += 1;
      if (batch === 2) await going.close();
      if (batch === 4) back = await startPolicyServer({ bus, listen: going.address });
      if (batch > 4 && together === 0) await sleep(100); // its channel waits a moment before it tries again
      if (batch > 5 && serversOf(id, batch - 1).includes(going.address)) together += 1;
      if (together === 2) mesh.manager.request(id, "paused");
    };
    const change = { batches: 200, record: true, checkpoint: { every: 1000 } };
    mesh.manager.start(mesh.runFile([staying.address, going.address], change), mesh.directory, id);
    const run = await mesh.ended(id);
    await back?.close();
    assert.equal(run.record.state, "PAUSED", run.record.reason);
    assert.equal(new Set(serversOf(id, 1)).size, 2);
    assert.deepEqual(new Set(serversOf(id, 3)), new Set([staying.address]));
    assert.deepEqual(new Set(serversOf(id, run.record.step)), new Set([staying.address, going.address]));
    const said = logged(run, "address").map(({ message }) => message);
    const left = `policy server ${going.address} is left out until it serves weight version`;
    assert.ok(
      said.some((message) => message.startsWith(left)),
      said.join("\n"),
    );
    assert.equal(said.at(-1), `policy server ${going.address} takes part again`);
    const alone = await mesh.run("alone", { ...change, batches: run.record.step });
    assert.deepEqual(numbers(run), numbers(alone), "and none of it shows in the numbers");
  });

  it("begins without one that is not there yet, and takes it in when it joins", async () => {
    const id = "joining";
    const bus = { url: `file:${join(mesh.runsDirectory, id, "weights")}`, run: id };
    const first = await mesh.policy(id);
    const place = await startPolicyServer({ bus });
    await place.close(); // nobody listens there now
    let joined: Awaited<ReturnType<typeof startPolicyServer>> | undefined;
    let batch = 0;
    first.faults.beforeGenerate = async () => {
      batch += 1;
      if (batch === 2) joined = await startPolicyServer({ bus, listen: place.address });
      if (batch > 2) await sleep(100); // its channel waits a moment before it tries again
      if (batch > 2 && serversOf(id, batch - 1).includes(place.address)) mesh.manager.request(id, "paused");
    };
    const change = { batches: 200, record: true, checkpoint: { every: 1000 } };
    mesh.manager.start(mesh.runFile([first.address, place.address], change), mesh.directory, id);
    const run = await mesh.ended(id);
    await joined?.close();
    assert.equal(run.record.state, "PAUSED", run.record.reason);
    assert.deepEqual(new Set(serversOf(id, 1)), new Set([first.address]));
    assert.deepEqual(new Set(serversOf(id, run.record.step)), new Set([first.address, place.address]));
  });

  it("spreads the samples of one that fails amid a batch over the others", async () => {
    const id = "failing";
    const servers = [await mesh.policy(id), await mesh.policy(id), await mesh.policy(id)];
    const [first, second, third] = servers.map(({ address }) => address);
    let calls = 0;
    (servers[0] as (typeof servers)[0]).faults.beforeGenerate = async () => {
      calls += 1;
      if (calls === 2) throw new NotReadyError("the model worker is restarting");
    };
    mesh.manager.start(
      mesh.runFile([first, second, third] as string[], { record: true }),
      mesh.directory,
      id,
    );
    const run = await mesh.ended(id);
    assert.equal(run.record.state, "FINISHED", run.record.reason);
    assert.deepEqual(serversOf(id, 1), [first, first, second, third]);
    assert.deepEqual(serversOf(id, 2), [second, third, second, third]);
    assert.deepEqual(serversOf(id, 3), [first, first, second, third]);
    const [failure] = logged(run, "address");
    assert.match(failure?.message ?? "", new RegExp(`^generate on ${first}, attempt 1: .*restarting`));
  });
});
