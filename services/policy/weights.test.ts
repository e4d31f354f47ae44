/**
 * Weights of a policy server that change: by hand, by the bus, and across the death of the worker. Real processes and sockets.
 */
import assert from "node:assert/strict";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { LoadState, WeightsService } from "../../lib/api/gen/rlhf/weights/v1/weights_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { createClient } from "../../lib/rpc/client.js";
import { silentLog } from "../../lib/rpc/log.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { type ServiceProcess, startService } from "../../lib/rpc/testing/service-process.js";
import { until } from "../../lib/rpc/testing/until.js";
import { findNatsServer, openWeightsBus, startNatsServer, type WeightsBus } from "../../lib/weights/index.js";
import { PolicyHost } from "./backend.js";
import type { PolicyModel } from "./model/policy-model.js";
import { WeightStore } from "./model/weight-store.js";
import { WeightsManager } from "./model/weights-manager.js";
import type { GenerateCall, GenerateReply, WeightsStatus, WorkerConfig } from "./protocol.js";
import { EXPECTED, GOLDEN, idsOf, TestPolicy, versionedCheckpoint, versionedWeights } from "./testing.js";

const MAIN = new URL("./main.js", import.meta.url);
const ADMIN = ["--admin-listen", "127.0.0.1:0"];

const servers: ServiceProcess[] = [];
const buses: WeightsBus[] = [];

async function openBus(url: string, run: string): Promise<WeightsBus> {
  const bus = await openWeightsBus(url, { run, model: "policy" });
  buses.push(bus);
  return bus;
}

async function start(...args: string[]): Promise<ServiceProcess> {
  const common = ["--model", GOLDEN, "--threads", "1", "--log-level", "error"];
  const server = await startService(MAIN, [...common, ...args]);
  servers.push(server);
  return server;
}
const policyClient = (address: string) =>
  createClient(PolicyService, address, { deadlineMs: 30_000, retry: false });
const weightsClient = (server: ServiceProcess) =>
  createClient(WeightsService, server.adminAddress!, { deadlineMs: 30_000, retry: false });

/** The error of a call that must fail. */
async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  throw new Error("the call succeeded");
}

/** A request whose every token depends on the weights. */
const REQUEST = {
  prompts: EXPECTED.input_ids.slice(0, 3).map((ids) => ({
    input: { case: "tokens" as const, value: { ids } },
  })),
  options: { doSample: true, topK: 0, maxNewTokens: 40, ignoreEos: true },
};

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "rlhf-policy-"));
});
after(async () => {
  // what a failed test left running
  await Promise.all(servers.map((server) => server.stop()));
  await Promise.all(buses.map((bus) => bus.close()));
  await rm(folder, { recursive: true });
});

describe("weights loaded by hand", function () {
  this.timeout(60_000);
  let server: ServiceProcess;
  let policy: ReturnType<typeof policyClient>;
  let weights: ReturnType<typeof weightsClient>;
  before(async () => {
    // batch-invariant, else one draw in a million falls otherwise where batches differ
    server = await start(...ADMIN, "--keep-versions", "1", "--batch-invariant");
    policy = policyClient(server.address);
    weights = weightsClient(server);
  });
  after(async () => {
    policy.close();
    weights.close();
    assert.equal(await server.stop(), 0);
  });

  it("are served from the next request on, under their own version and digest", async () => {
    const before = await weights.getStatus({});
    assert.deepEqual([before.serving?.version, before.loadState], [0n, LoadState.UNSPECIFIED]);
    const { dir, digest } = await versionedCheckpoint(join(folder, "v3"), 3);
    const { serving } = await weights.load({ directory: dir, expectVersion: 0n, digest });
    assert.deepEqual([serving?.version, serving?.digest], [3n, digest]);
    assert.equal((await policy.getInfo({})).model?.weights?.version, 3n);
    const reply = await policy.generate({ ...REQUEST, minWeightVersion: 3n });
    assert.deepEqual([reply.weights?.version, reply.weights?.digest], [3n, digest]);
    const status = await weights.getStatus({});
    assert.deepEqual([status.loadState, status.loadVersion, status.loadError], [LoadState.SERVING, 3n, ""]);
  });

  it("are refused where they are not what was asked for, and the old ones serve on", async () => {
    const { dir } = await versionedCheckpoint(join(folder, "v4"), 4);
    const refused = async (request: object) => (await failure(weights.load(request))).status;
    assert.equal(await refused({ directory: dir, expectVersion: 9n }), "ABORTED");
    assert.equal(await refused({ directory: dir, version: 2n }), "ABORTED");
    assert.equal(await refused({ directory: dir, digest: "0".repeat(64) }), "DATA_LOSS");
    assert.equal(await refused({ directory: dir, digest: "short" }), "INVALID_ARGUMENT");
    assert.equal(await refused({ directory: join(folder, "nowhere") }), "INVALID_ARGUMENT");
    assert.equal(await refused({ directory: "" }), "INVALID_ARGUMENT");
    const file = await open(join(dir, "model.safetensors"), "r+");
    await file.truncate(1000);
    await file.close();
    assert.equal(await refused({ directory: dir }), "DATA_LOSS");
    const status = await weights.getStatus({});
    assert.deepEqual([status.serving?.version, status.loadState], [3n, LoadState.FAILED]);
    assert.match(status.loadError, /model\.safetensors/);
  });

  it("go back to a held version, and forward again", async () => {
    assert.equal((await weights.rollback({ version: 0n })).serving?.version, 0n);
    assert.equal((await policy.generate(REQUEST)).weights?.version, 0n);
    assert.equal((await weights.rollback({ version: 3n })).serving?.version, 3n);
    assert.equal((await failure(weights.rollback({ version: 1n }))).status, "FAILED_PRECONDITION");
  });

  it("never mix: what ran while weights changed equals a run on its own version", async () => {
    const running: ReturnType<typeof policy.generate>[] = [];
    for (const version of [5, 6, 7]) {
      for (let i = 0; i < 3; i++)
        running.push(policy.generate({ ...REQUEST, seed: BigInt(100 * version + i) }));
      const { dir } = await versionedCheckpoint(join(folder, `v${version}`), version);
      await weights.load({ directory: dir });
    }
    const replies = await Promise.all(running);
    const versions = new Set(replies.map((reply) => Number(reply.weights!.version)));
    assert.ok(versions.size > 1, `all ran on ${[...versions]}`);
    for (const version of versions) {
      const alone = await start("--model", join(folder, `v${version}`), "--batch-invariant");
      const client = policyClient(alone.address);
      for (const reply of replies.filter(({ weights: ref }) => Number(ref?.version) === version)) {
        const again = await client.generate({ ...REQUEST, seed: reply.sequences[0].seed });
        assert.deepEqual(
          again.sequences.map(({ tokens }) => tokens?.ids),
          reply.sequences.map(({ tokens }) => tokens?.ids),
        );
        assert.equal(again.weights?.digest, reply.weights?.digest);
      }
      client.close();
      await alone.stop();
    }
  });

  it("of a reference policy never change", async () => {
    const pinned = await start(...ADMIN, "--pinned");
    const [client, admin] = [policyClient(pinned.address), weightsClient(pinned)];
    assert.equal((await client.getInfo({})).pinned, true);
    assert.equal((await failure(admin.load({ directory: join(folder, "v3") }))).status, "ABORTED");
    assert.equal((await client.getInfo({})).model?.weights?.version, 0n);
    client.close();
    admin.close();
    await pinned.stop();
  });
});

const kinds: ("file" | "nats")[] = (await findNatsServer()) ? ["file", "nats"] : ["file"];

for (const kind of kinds) {
  describe(`weights from the bus: ${kind}`, function () {
    this.timeout(60_000);
    let url: string;
    let stopNats = async () => {};
    before(async () => {
      if (kind === "file") url = `file:${join(folder, "bus")}`;
      else {
        const nats = await startNatsServer();
        url = nats.url;
        stopNats = () => nats.stop();
      }
    });
    after(async () => {
      await Promise.all(buses.splice(0).map((bus) => bus.close()));
      await stopNats();
    });

    it("are taken up as they are published, by who is there and by who comes late; damaged ones are not", async () => {
      const bus = await openBus(url, "r1");
      const early = await start("--weights", url, "--run", "r1");
      const client = policyClient(early.address);
      const served = async () => Number((await client.getInfo({})).model!.weights!.version);
      assert.equal(await served(), 0);

      const first = await bus.publish(await versionedWeights(1), { version: 1 });
      await bus.waitForServing(1, 1, { deadlineMs: 10_000 });
      await until(async () => (await served()) === 1);
      const reply = await client.generate({ ...REQUEST, seed: 1n });
      assert.deepEqual([reply.weights?.version, reply.weights?.digest], [1n, first.digest]);

      const late = await start("--weights", url, "--run", "r1");
      const lateClient = policyClient(late.address);
      const same = await lateClient.generate({ ...REQUEST, seed: 1n });
      assert.deepEqual(
        same.sequences.map(({ tokens }) => tokens?.ids),
        reply.sequences.map(({ tokens }) => tokens?.ids),
      );
      assert.equal(same.weights?.version, 1n);

      const broken = await versionedWeights(2);
      broken.get("transformer.ln_f.bias")!.data[3] = Number.NaN;
      await bus.publish(broken, { version: 2, allowNonFinite: true });
      await until(
        async () => (await bus.statuses()).filter(({ state }) => state === "failed").length === 2,
        10_000,
      );
      assert.equal((await client.generate(REQUEST)).weights?.version, 1n);

      await bus.publish(await versionedWeights(3), { version: 3 });
      await bus.waitForServing(3, 2, { deadlineMs: 10_000 });
      await until(async () => (await served()) === 3);
      client.close();
      lateClient.close();
      assert.equal(await early.stop(), 0);
      assert.equal(await late.stop(), 0);
    });
  });
}

/** A worker as the front process has it, with its process id and counters at hand. */
async function startHost(config: Partial<WorkerConfig> = {}): Promise<PolicyHost> {
  const host = new PolicyHost(
    {
      model: GOLDEN,
      device: "cpu",
      threads: 1,
      decoder: {
        maxRows: 8,
        maxCacheBytes: 2 ** 28,
        maxPromptTokens: 256,
        maxWaiting: 8,
        maxWaitingTokens: 10_000,
      },
      scorer: { maxTokens: 256, maxLogits: 2 ** 20, maxWaiting: 64, maxWaitingTokens: 10_000 },
      keepVersions: 0,
      maxHeld: 3,
      pinned: false,
      telemetry: { instance: "test", logLevel: "silent" },
      resume: { version: 0 },
      ...config,
    },
    silentLog,
  );
  hosts.push(host);
  await host.start();
  return host;
}

const hosts: PolicyHost[] = [];

const CALL: GenerateCall = {
  prompts: [{ ids: EXPECTED.input_ids[0] }, { ids: EXPECTED.input_ids[1] }],
  options: { maxNewTokens: 90, ignoreEos: true },
  seed: 1n,
  demand: {},
  stream: false,
};

describe("the worker of a policy server", function () {
  this.timeout(60_000);
  afterEach(async () => {
    for (const host of hosts.splice(0)) await host.close();
  });

  it("fails its calls when it is killed, and is back within 5 s with the weights it had", async () => {
    const { dir, digest } = await versionedCheckpoint(join(folder, "v11"), 11);
    const host = await startHost();
    await host.load({ directory: dir }, {});
    const before = await host.generate(CALL, {});
    const states: boolean[] = [];
    host.watch((able) => states.push(able));
    const running = host.generate({ ...CALL, options: { maxNewTokens: 100, ignoreEos: true } }, {});
    process.kill(host.workerPid!, "SIGKILL");
    const killed = performance.now();
    await assert.rejects(running, { code: "WORKER_CRASHED" });
    assert.throws(() => host.facts(), { code: "NOT_READY" });
    await until(() => states.includes(true), 10_000);
    assert.ok(performance.now() - killed < 5000);
    assert.deepEqual(states, [false, true]);
    assert.deepEqual(host.facts().weights.serving, { version: 11, digest });
    const after = await host.generate(CALL, {});
    assert.deepEqual(
      after.sequences.map(({ ids }) => ids),
      before.sequences.map(({ ids }) => ids),
    );
  });

  it("does not answer with older weights than before it was killed: it waits for the bus", async () => {
    const url = `file:${join(folder, "kill-bus")}`;
    const bus = await openBus(url, "r");
    const { object } = await bus.publish(await versionedWeights(4), { version: 4 });
    const host = await startHost({ bus: { url, run: "r" } });
    assert.equal(host.facts().weights.serving.version, 4);
    // the object is damaged while the worker is down, so that it cannot take it up again
    const path = await objectPath(join(folder, "kill-bus"), object);
    const sound = await damage(path);
    let back = false;
    host.watch((able) => {
      back ||= able;
    });
    process.kill(host.workerPid!, "SIGKILL");
    await until(async () => (await bus.statuses()).some(({ state }) => state === "failed"), 10_000);
    assert.equal(back, false);
    assert.throws(() => host.facts(), { code: "NOT_READY" });
    await assert.rejects(host.generate(CALL, {}), { code: "NOT_READY" });
    await writeFile(path, sound);
    await bus.publish(await versionedWeights(5), { version: 5 });
    await until(() => back, 10_000);
    assert.equal(host.facts().weights.serving.version, 5);
  });

  it("stops computing when a caller goes away, and counts nothing afterwards", async () => {
    const host = await startHost();
    await host.generate({ ...CALL, options: { maxNewTokens: 1 } }, {});
    const cancel = new AbortController();
    let tokens = 0;
    const streaming = (async () => {
      for await (const event of host.generateStream({ ...CALL, stream: true }, { signal: cancel.signal })) {
        tokens += event.tokens.length;
        if (tokens >= 6) cancel.abort();
      }
    })();
    await assert.rejects(streaming, { code: "CANCELLED" });
    const waiting = host.generate(CALL, { signal: AbortSignal.timeout(20) });
    await assert.rejects(waiting, { code: "CANCELLED" });
    await until(() => host.stats?.jobs === 0 && host.stats.active === 0 && host.stats.waiting === 0);
    // room for as many as ever: nothing was left behind
    const calls = Array.from({ length: 8 }, () =>
      host.generate({ ...CALL, options: { maxNewTokens: 4 } }, {}),
    );
    assert.equal((await Promise.all(calls)).length, 8);
  });

  it("says which weights it holds, also once the last request on older ones has ended", () => {
    const store = new WeightStore();
    const said: number[][] = [];
    const note = ({ held }: WeightsStatus) => said.push(held.map(({ version }) => version));
    const manager = new WeightsManager({} as PolicyModel, store, false, note);
    store.swap({ version: 1, digest: "one", tensors: new Map() });
    const request = store.acquire();
    store.swap({ version: 2, digest: "two", tensors: new Map() });
    assert.deepEqual(
      manager.status().held.map(({ version }) => version),
      [2, 1],
    );
    request.release();
    assert.deepEqual(said, [[2]]);
    store.close();
    assert.deepEqual(said, [[2]], "nothing is said of what ends");
  });

  it("answers on one version each while requests, cancellations and swaps come at random", async () => {
    const decoder = {
      maxRows: 8,
      maxCacheBytes: 2 ** 28,
      maxPromptTokens: 256,
      maxWaiting: 8,
      maxWaitingTokens: 2 ** 20,
      // else one draw in a million falls otherwise
      batchInvariant: true,
    };
    const host = await startHost({ decoder });
    const random = Rng.from(5, "policy-stress");
    const answered: { call: GenerateCall; reply: GenerateReply }[] = [];
    const refusals = new Set<unknown>();
    let busy = true;
    const swapping = (async () => {
      for (let version = 1; busy; version++) {
        const { dir } = await versionedCheckpoint(join(folder, `random-${version}`), version);
        await host.load({ directory: dir }, {});
      }
    })();
    const one = async (i: number) => {
      const ids = EXPECTED.input_ids[random.int(5)].slice(0, 2 + random.int(18));
      const options = { doSample: true, topK: 0, maxNewTokens: 1 + random.int(40), ignoreEos: true };
      const call: GenerateCall = { prompts: [{ ids }], options, seed: BigInt(i), demand: {}, stream: false };
      const cancel = new AbortController();
      if (random.int(2) === 0) setTimeout(() => cancel.abort(), random.int(60));
      try {
        const reply = await host.generate(call, { signal: cancel.signal });
        answered.push({ call, reply });
      } catch (error) {
        refusals.add((error as { code?: unknown }).code);
      }
    };
    await Promise.all(
      Array.from({ length: 8 }, async (_, worker) => {
        for (let i = 0; i < 25; i++) await one(100 * worker + i);
      }),
    );
    busy = false;
    await swapping;
    assert.deepEqual([...refusals], ["CANCELLED"]);
    await until(() => host.stats?.jobs === 0 && host.stats.active === 0);
    await until(() => host.facts().weights.held.length === 1); // the last to run on older weights has let go of them
    const versions = new Set(answered.map(({ reply }) => reply.weights.version));
    assert.ok(versions.size > 2, `all ran on ${[...versions]}`);
    for (const version of versions) {
      const alone = await TestPolicy.create({ batchInvariant: true });
      if (version > 0) await alone.swap(version);
      for (const { call, reply } of answered.filter(
        ({ reply: { weights } }) => weights.version === version,
      )) {
        const again = await alone.generate([call.prompts[0].ids!], call.options, { seed: call.seed });
        assert.deepEqual(idsOf(again), [reply.sequences[0].ids]);
      }
      await alone.close();
    }
  });

  it("refuses at once what neither its rows nor its queue can take", async () => {
    const host = await startHost();
    const calls = Array.from({ length: 8 }, () => host.generate(CALL, {})); // 16 sequences: 8 rows, 8 waiting
    await assert.rejects(host.generate(CALL, {}), { code: "QUEUE_FULL" });
    await Promise.all(calls);
    await host.generate({ ...CALL, options: { maxNewTokens: 1 } }, {});
  });
});

/** Where a file bus keeps an object. */
async function objectPath(root: string, object: string): Promise<string> {
  const entries = await readdir(root, { recursive: true });
  const found = entries.find((entry) => entry.includes(object.split("/")[1]));
  assert.ok(found, `${object} is not in ${entries.join(", ")}`);
  return join(root, found);
}

/** Flips one byte of a file; returns what it held. */
async function damage(path: string): Promise<Buffer> {
  const sound = await readFile(path);
  const wrong = Buffer.from(sound);
  wrong[wrong.length - 9] ^= 0x40;
  await writeFile(path, wrong);
  return sound;
}
