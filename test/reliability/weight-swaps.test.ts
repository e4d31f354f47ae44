/**
 * @file Weights that change all the time while a policy server answers: no call fails, every reply is of one version that was active during
 * it, and versions that are not sound are never served.
 */
import assert from "node:assert/strict";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { LoadState, WeightsService } from "../../lib/api/gen/rlhf/weights/v1/weights_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import {
  BusUnavailableError,
  findNatsServer,
  type NatsServer,
  openWeightsBus,
  type WeightsBus,
  type WeightsManifest,
} from "../../lib/weights/index.js";
import type { WeightTensor } from "../../lib/weights/object-bytes.js";
import {
  type Damage,
  fileHarness,
  type Harness,
  natsHarness,
  startProxy,
  type TcpProxy,
} from "../../lib/weights/testing.js";
import { GOLDEN, versionedWeights } from "../../services/policy/testing.js";
import { eventually } from "../support/eventually.js";
import { useSandbox } from "../support/sandbox.js";
import { noteFigure } from "./figures.js";
import { LeakDetector } from "./leak-detector.js";
import { assertRepeats, PolicyTraffic } from "./policy-traffic.js";
import { workerOf } from "./process-facts.js";
import { sabotagedBus } from "./sabotage.js";
import { scale } from "./scale.js";
import { reporting } from "./vitals.js";

const RUN = "swaps";
const CALLERS = scale.full ? 6 : 3;
const ROUNDS = 5;
/** Time within which a version must serve, or its refusal be told; the bus gives up on a silent NATS after 10 s. */
const SOON_MS = 30_000;

type Weights = Awaited<ReturnType<typeof versionedWeights>>;
let base: Weights;

/** Weights of a version: the golden ones, each number moved by up to 5 %, so that no two versions are alike anywhere. */
function weightsOf(version: number): Weights {
  const random = Rng.from(21, "weights", version);
  const moved = ({ shape, data }: WeightTensor & { data: Float32Array }) => ({
    shape,
    data: data.map((x) => x * (0.95 + 0.1 * random.uniform())),
  });
  return new Map([...base].map(([name, tensor]) => [name, moved(tensor)]));
}

describe("a policy server whose weights change under load", function () {
  this.timeout(scale.full ? 300_000 : 120_000);
  const sandbox = useSandbox("all");
  let harness: Harness & { readonly server?: NatsServer };
  let proxy: TcpProxy | undefined;
  let address: string;
  let bus: WeightsBus;
  let traffic: PolicyTraffic;
  let detector: LeakDetector;
  /** What the server complained about. */
  let log = () => "";
  /** Digest of each version that may serve. */
  const digests = new Map<number, string>();

  before(async () => {
    base = await versionedWeights(0);
    if (await findNatsServer()) harness = await natsHarness();
    else {
      console.log(
        "      !! no nats-server on the PATH: weights travel by FILES, and nothing is said about a NATS that goes away",
      );
      harness = await fileHarness();
    }
    sandbox().defer(() => harness.close());
    if (harness.server) proxy = await startProxy(harness.server.port);
    bus = await openWeightsBus(harness.url, { run: RUN, model: "policy" });
    sandbox().defer(() => bus.close());
    const url = proxy?.url ?? harness.url;
    const args = ["--model", GOLDEN, "--weights", url, "--run", RUN, "--batch-invariant"];
    const vitals = sandbox().path("vitals");
    const env = reporting(vitals);
    const server = await sandbox().serve("policy", [...args, "--admin-listen", "127.0.0.1:0"], { env });
    log = () => server.stderr().slice(-8000);
    detector = new LeakDetector(vitals, [
      { name: "policy", pid: server.pid },
      { name: "policy worker", pid: workerOf(server.pid) },
    ]);
    address = server.adminAddress as string;
    const client = sandbox().client(PolicyService, server.address, { retry: false });
    traffic = new PolicyTraffic(client);
  });
  after(async () => {
    await proxy?.close();
  });

  const status = () => sandbox().client(WeightsService, address).getStatus({});
  /** Publishes a sound version; a NATS that is just back may leave the first requests without an answer. */
  const publish = (version: number): Promise<WeightsManifest> =>
    eventually(
      () =>
        bus.publish(weightsOf(version), { version }).catch((error: unknown) => {
          if (error instanceof BusUnavailableError) return undefined;
          throw error;
        }),
      () => `version ${version} is published`,
      SOON_MS,
    );
  /** Publishes and waits until the version serves. */
  const swap = async (version: number) => {
    traffic.published = version;
    digests.set(version, (await publish(version)).digest);
    await bus.waitForServing(version, 1, { deadlineMs: SOON_MS });
  };
  /** Waits until the server says that it refused a version, and why; the one before must serve. */
  const refused = async (version: number, why: RegExp) => {
    let last = "";
    await eventually(
      async () => {
        const { loadState, loadVersion, loadError, serving } = await status();
        last = `${LoadState[loadState]} ${loadVersion}: ${loadError}`;
        assert.ok(serving && digests.has(Number(serving.version)), `version ${serving?.version} serves`);
        return loadState === LoadState.FAILED && Number(loadVersion) === version && why.test(loadError);
      },
      () => `version ${version} is refused with ${why}; the server says ${last}`,
      SOON_MS,
    );
  };
  let next = 1;

  it("swaps them all", async () => {
    let seconds = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      const calls = traffic.observed.length;
      const started = performance.now();
      traffic.start(CALLERS);
      while (next <= (scale.swaps * round) / ROUNDS) await swap(next++);
      seconds += (performance.now() - started) / 1000;
      await traffic.stop();
      await detector.round(traffic.observed.length - calls);
    }
    detector.assertFlat("weight swaps: leaks");
    traffic.start(CALLERS);
    noteFigure({
      test: "weight swaps: rate",
      load: `${CALLERS} callers without pause, ${harness.kind} bus`,
      measured: `${scale.swaps} swaps, ${(scale.swaps / seconds).toFixed(1)} a second`,
    });
  });

  const damages: [string, Damage, RegExp][] = [
    ["a corrupt digest", "flip", /digest|sha256|corrupt/i],
    ["a truncated object", "truncate", /bytes|missing|chunk|length|digest|arrived/i],
  ];
  for (const [what, how, why] of damages) {
    it(`keeps the old ones at ${what}, and says why`, async () => {
      const saboteur = await sabotagedBus(harness, RUN, how);
      await saboteur.publish(weightsOf(next), { version: next });
      await saboteur.close();
      await refused(next++, why);
      await swap(next++);
    });
  }

  it("keeps the old ones at a wrong shape and at NaN, and says why", async () => {
    const misshapen = new Map<string, WeightTensor>(weightsOf(next));
    misshapen.set("transformer.ln_f.bias", { shape: [7], data: new Float32Array(7) });
    await bus.publish(misshapen, { version: next });
    await refused(next++, /transformer\.ln_f\.bias/);
    const poisoned = weightsOf(next);
    const { data } = poisoned.get("transformer.ln_f.bias") as { data: Float32Array };
    data[3] = Number.NaN;
    await bus.publish(poisoned, { version: next, allowNonFinite: true });
    await refused(next++, /transformer\.ln_f\.bias|finite|NaN/i);
    await swap(next++);
  });

  it("keeps the old ones when NATS goes away in the middle of a download, and goes on when it is back", async function () {
    if (!proxy || !harness.server) {
      console.log("      !! no nats-server: a NATS that goes away is NOT TESTED");
      this.skip();
    }
    proxy.hold("down", 40_000); // of some 220 kB
    traffic.published = next;
    digests.set(next, (await publish(next)).digest);
    await proxy.held();
    await harness.server.kill();
    await refused(next, /arrived|bus|NATS|connection/i);
    await harness.server.restart();
    proxy.release();
    await eventually(
      async () => Number((await status()).serving?.version) === next,
      () => `version ${next} serves once NATS is back`,
      SOON_MS,
    );
    next++;
    await swap(next++);
  });

  it("failed no call, and made each reply of one version that was active during it", async () => {
    await traffic.stop();
    assert.deepEqual(traffic.failures.map(String), [], log());
    const { observed } = traffic;
    for (const { version, oldest, newest, digest } of observed) {
      assert.ok(
        version >= oldest && version <= newest,
        `version ${version}, active were ${oldest} to ${newest}`,
      );
      if (version > 0) assert.equal(digest, digests.get(version), `version ${version} was not sound`);
    }
    const versions = new Set(observed.map(({ version }) => version));
    assert.ok(versions.size > scale.swaps / 4, `replies of only ${versions.size} versions`);
    await repeatAll();
    noteFigure({
      test: "weight swaps",
      load: `${next - 1} versions, 4 of them damaged, NATS away once`,
      measured: `${observed.length} calls, 0 failed, on ${versions.size} versions; each repeated on its version alone`,
    });
  });

  /** Repeats every reply on a server of its own that serves nothing but its version. */
  async function repeatAll(): Promise<void> {
    const run = "repeat";
    const again = await openWeightsBus(harness.url, { run, model: "policy" });
    sandbox().defer(() => again.close());
    const args = ["--model", GOLDEN, "--weights", harness.url, "--run", run, "--batch-invariant"];
    const server = await sandbox().serve("policy", args);
    const client = sandbox().client(PolicyService, server.address);
    const { observed } = traffic;
    const versions = [...new Set(observed.map(({ version }) => version))].sort((a, b) => a - b);
    let told = false;
    for (const version of versions) {
      if (version > 0) {
        await again.publish(weightsOf(version), { version });
        await again.waitForServing(version, 1, { deadlineMs: SOON_MS });
      }
      const own = observed.filter((each) => each.version === version);
      await Promise.all(own.map((each) => assertRepeats(client, each)));
      // and the comparison can tell versions apart: a reply of the version before is not repeated
      const other = observed.find((each) => each.version === version - 1 && each.content.logprobs.length > 0);
      if (other && !told) {
        await assert.rejects(
          assertRepeats(client, { ...other, version, digest: digests.get(version) ?? "" }),
        );
        told = true;
      }
    }
    assert.ok(told, "no two versions in a row were seen");
  }
});
