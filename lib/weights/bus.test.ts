import assert from "node:assert/strict";
import { weightsDigest } from "../checkpoint/index.js";
import {
  type ServerStatus,
  type WeightsBus,
  WeightsCancelledError,
  WeightsConflictError,
  WeightsCorruptError,
  WeightsDeadlineError,
  WeightsFollower,
  WeightsGoneError,
  type WeightsManifest,
  WeightsNotFiniteError,
} from "./index.js";
import { eventually, fileHarness, type Harness, natsHarness, natsMissing, someTensors } from "./testing.js";

/** The contract of a weights bus: every kind of bus must pass all of it. */
function contract(kind: "nats" | "file", make: () => Promise<Harness>) {
  describe(`a weights bus over ${kind}`, () => {
    let harness: Harness;
    let runs = 0;
    let run: string;
    const followers: WeightsFollower[] = [];
    before(async function () {
      const missing = kind === "nats" ? await natsMissing() : undefined;
      if (missing) {
        console.log(missing);
        this.skip();
      }
      harness = await make();
    });
    after(() => harness?.close());
    beforeEach(() => {
      run = `run-${++runs}`;
    });
    afterEach(async () => {
      await Promise.all(followers.splice(0).map((follower) => follower.stop()));
    });
    const open = (options = {}) => harness.open({ run, ...options });
    const follow = (
      bus: WeightsBus,
      instance: string,
      options: Partial<ConstructorParameters<typeof WeightsFollower>[0]> = {},
    ) => {
      const applied: number[] = [];
      const states: ServerStatus[] = [];
      const follower = new WeightsFollower({
        bus,
        instance,
        retryMs: 50,
        apply: (version) => void applied.push(version),
        onStatus: (status) => states.push(status),
        ...options,
      });
      followers.push(follower);
      follower.start();
      return { follower, applied, states };
    };

    it("has no head before the first version, then gives back what was published, bit for bit", async () => {
      const bus = await open();
      assert.equal(await bus.head(), undefined);
      const tensors = someTensors(1);
      tensors.get("scale")!.data[0] = -0;
      const manifest = await bus.publish(tensors, { version: 0 });
      assert.deepEqual(await bus.head(), manifest);
      assert.equal(manifest.digest, await weightsDigest(tensors));
      assert.equal(manifest.parameters, 89);
      assert.equal(manifest.object, `${run}/0-${manifest.digest.slice(0, 16)}`);
      const { tensors: found } = await bus.fetch(manifest);
      assert.deepEqual([...found.keys()].sort(), [...tensors.keys()].sort());
      for (const [name, { data }] of tensors) {
        assert.deepEqual(found.get(name), data, name);
        assert.equal(found.get(name)?.byteOffset, 0, name);
        assert.equal(found.get(name)?.buffer.byteLength, data.byteLength, name);
      }
      assert.ok(Object.is(found.get("scale")?.[0], -0));
    });

    it("stores one and the same safetensors file, whatever the bus", async () => {
      const bus = await open({ run: "same" });
      const manifest = await bus.publish(someTensors(1), { version: 7 });
      const bytes = Buffer.from(await harness.bytes(manifest));
      assert.equal(bytes.length, manifest.bytes);
      const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
      assert.deepEqual(header.__metadata__, { format: "pt", run: "same", model: "tiny", version: "7" });
      assert.deepEqual(header["wte.weight"].shape, [7, 4]);
    });

    it("refuses a version that is not above the head, and keeps the head", async () => {
      const bus = await open();
      await bus.publish(someTensors(1), { version: 5 });
      for (const version of [5, 4, 0]) {
        await assert.rejects(bus.publish(someTensors(2), { version }), (error) => {
          assert.ok(error instanceof WeightsConflictError);
          assert.equal(error.code, "WEIGHTS_CONFLICT");
          assert.equal(error.head.version, 5);
          assert.match(
            error.message,
            new RegExp(`v${version}: expected a version above the head, the head is v5`),
          );
          return true;
        });
      }
      assert.equal((await bus.head())?.version, 5);
      await bus.publish(someTensors(2), { version: 9 });
      assert.equal((await bus.head())?.version, 9);
    });

    it("lets exactly one of several publishers of a version win, and leaves nothing of the others", async () => {
      const buses = await Promise.all(Array.from({ length: 5 }, () => open()));
      const results = await Promise.allSettled(
        buses.map((bus, i) => bus.publish(someTensors(i), { version: 1 })),
      );
      const won = results.filter((result) => result.status === "fulfilled");
      assert.equal(won.length, 1);
      for (const result of results) {
        if (result.status === "rejected")
          assert.ok(result.reason instanceof WeightsConflictError, String(result.reason));
      }
      const head = await buses[0].head();
      assert.deepEqual(head, won[0].value);
      await buses[0].fetch(head!);
      assert.deepEqual(await buses[0].prune(1), []);
    });

    it("never lets the head go back when publishers of different versions race", async () => {
      const buses = await Promise.all(Array.from({ length: 4 }, () => open()));
      const watching = new AbortController();
      const seen: number[] = [];
      const watch = buses[0].watch(({ version }) => void seen.push(version), watching.signal);
      const results = await Promise.allSettled(
        buses.flatMap((bus, i) =>
          [1, 2, 3].map((n) => bus.publish(someTensors(n + i), { version: n * 10 + i })),
        ),
      );
      assert.ok(results.some((result) => result.status === "fulfilled"));
      const top = Math.max(
        ...results.map((result) => (result.status === "fulfilled" ? result.value.version : -1)),
      );
      assert.equal((await buses[0].head())?.version, top);
      await eventually(() => seen.at(-1) === top, "the watch sees the head");
      assert.deepEqual(
        seen,
        [...seen].sort((a, b) => a - b),
      );
      watching.abort();
      await watch;
    });

    it("refuses NaN and infinities when publishing, naming tensor and element", async () => {
      const bus = await open();
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const tensors = someTensors(1);
        tensors.get("wte.weight")!.data[3] = bad;
        await assert.rejects(bus.publish(tensors, { version: 1 }), (error) => {
          assert.ok(error instanceof WeightsNotFiniteError);
          assert.equal(error.code, "NON_FINITE");
          assert.match(
            error.message,
            /v1 tensor wte\.weight: expected finite numbers, found .* at element 3/,
          );
          return true;
        });
      }
      assert.equal(await bus.head(), undefined);
    });

    it("refuses to hand out weights that are not finite", async () => {
      const bus = await open();
      const tensors = someTensors(1);
      tensors.get("wte.weight")!.data[9] = Number.NaN;
      const manifest = await bus.publish(tensors, { version: 1, allowNonFinite: true });
      await assert.rejects(bus.fetch(manifest), corrupt("wte.weight", /finite numbers/, /NaN at element 9/));
    });

    it("detects a flipped bit by the digest", async () => {
      const bus = await open();
      const manifest = await bus.publish(someTensors(1), { version: 1 });
      await harness.damage(manifest, "flip");
      await assert.rejects(
        bus.fetch(manifest),
        corrupt(undefined, new RegExp(`sha256 ${manifest.digest}`), /^[0-9a-f]{64}$/),
      );
    });

    it("detects a damaged header", async () => {
      const bus = await open();
      const manifest = await bus.publish(someTensors(1), { version: 1 });
      await harness.damage(manifest, "flip header");
      await assert.rejects(bus.fetch(manifest), (error) => error instanceof WeightsCorruptError);
    });

    it("detects a truncated object by its length", async () => {
      const bus = await open();
      const manifest = await bus.publish(someTensors(1), { version: 1 });
      await harness.damage(manifest, "truncate");
      await assert.rejects(bus.fetch(manifest), (error) => {
        assert.ok(error instanceof WeightsCorruptError, String(error));
        assert.match(error.expected, /bytes|chunks/);
        return true;
      });
    });

    it("says that an object is gone", async () => {
      const bus = await open();
      const manifest = await bus.publish(someTensors(1), { version: 1 });
      await harness.damage(manifest, "delete");
      await assert.rejects(
        bus.fetch(manifest),
        (error) => error instanceof WeightsGoneError && error.code === "WEIGHTS_GONE",
      );
    });

    it("checks names, shapes and size against the model before it takes anything", async () => {
      const bus = await open();
      const tensors = someTensors(1);
      const manifest = await bus.publish(tensors, { version: 1 });
      const specs = [...tensors].map(([name, { shape }]) => ({ name, shape }));
      await bus.fetch(manifest, { expected: specs });
      await bus.fetch(manifest, { expected: [...specs, { name: "maybe", shape: [1], optional: true }] });
      const other = specs.map((spec) => (spec.name === "wte.weight" ? { ...spec, shape: [4, 7] } : spec));
      await assert.rejects(
        bus.fetch(manifest, { expected: other }),
        corrupt("wte.weight", /shape \[4,7\]/, /\[7,4\]/),
      );
      const more = [...specs, { name: "lm_head.weight", shape: [2] }];
      await assert.rejects(
        bus.fetch(manifest, { expected: more }),
        corrupt("lm_head.weight", /shape \[2\]/, /no such tensor/),
      );
      await assert.rejects(
        bus.fetch(manifest, { expected: specs.slice(1) }),
        corrupt(specs[0].name, /no tensor of that name/, /one/),
      );
      const forged = { ...manifest, version: 2 };
      await assert.rejects(bus.fetch(forged), corrupt(undefined, /version 2 in its metadata/, /1/));
      await assert.rejects(
        bus.fetch({ ...manifest, bytes: manifest.bytes + 4 }),
        corrupt(undefined, /bytes/, /bytes/),
      );
      await assert.rejects(bus.fetch({ ...manifest, run: "other" }), corrupt(undefined, /run/, /run other/));
    });

    it("gives up at the deadline and when the caller does, with different errors", async () => {
      const bus = await open();
      const manifest = await bus.publish(someTensors(1, 4 << 20), { version: 1 });
      await assert.rejects(bus.fetch(manifest, { deadlineMs: 1 }), (error) => {
        assert.ok(error instanceof WeightsDeadlineError, String(error));
        assert.match(error.message, /v1 .*not fetched within 1 ms, \d+ of \d+ bytes were read/);
        return true;
      });
      const caller = new AbortController();
      const fetching = bus.fetch(manifest, { signal: caller.signal });
      caller.abort();
      await assert.rejects(fetching, (error) => error instanceof WeightsCancelledError);
      await bus.fetch(manifest); // and is as good as new
    });

    it("gives a late joiner the head and no older version", async () => {
      const bus = await open();
      for (const version of [1, 2, 3]) await bus.publish(someTensors(version), { version });
      const { applied, follower } = follow(await open(), "late");
      await follower.whenServing(3, { deadlineMs: 10_000 });
      assert.deepEqual(applied, [3]);
    });

    it("tells every watcher of every head it can, newest last, and ends the watch on request", async () => {
      const bus = await open();
      const watching = new AbortController();
      const seen: WeightsManifest[] = [];
      const watch = (await open()).watch((manifest) => void seen.push(manifest), watching.signal);
      for (const version of [1, 2, 3]) {
        await bus.publish(someTensors(version), { version });
        await eventually(() => seen.at(-1)?.version === version, `the watcher sees v${version}`);
      }
      assert.deepEqual(
        seen.map(({ version }) => version),
        [1, 2, 3],
      );
      watching.abort();
      await watch;
      await bus.publish(someTensors(4), { version: 4 });
      assert.equal(seen.length, 3);
    });

    it("waits until enough servers serve, and names those that are behind", async () => {
      const bus = await open();
      const specs = [...someTensors(1)].map(([name, { shape }]) => ({ name, shape }));
      follow(await open(), "policy-a", { serving: { version: 0, digest: "0".repeat(64) } });
      follow(await open(), "policy-b", {
        expected: specs.slice(1),
        serving: { version: 0, digest: "0".repeat(64) },
      });
      await bus.publish(someTensors(1), { version: 1 });
      const [one] = await bus.waitForServing(1, 1, { deadlineMs: 10_000 });
      assert.equal(one.instance, "policy-a");
      assert.equal(one.state, "serving");
      await eventually(
        async () => (await bus.statuses()).some(({ state }) => state === "failed"),
        "policy-b reports",
      );
      await assert.rejects(bus.waitForServing(1, 3, { deadlineMs: 300 }), (error) => {
        assert.ok(error instanceof WeightsDeadlineError);
        assert.match(
          error.message,
          /v1: 1 of 3 servers serve it after 300 ms; behind: policy-b serves v0, failed v1: .*no tensor of that name.*; 1 more server has not reported/,
        );
        return true;
      });
      const gaveUp = new AbortController();
      const waiting = bus.waitForServing(1, 3, { deadlineMs: 10_000, signal: gaveUp.signal });
      gaveUp.abort();
      await assert.rejects(waiting, (error) => error instanceof WeightsCancelledError);
    });

    it("forgets servers that fell silent", async () => {
      const bus = await open({ statusTtlMs: 1000 });
      await bus.report({ instance: "gone.example:1", version: 1, state: "serving", tookMs: 3 });
      const [status] = await bus.statuses();
      assert.equal(status.instance, "gone.example:1");
      assert.equal(status.tookMs, 3);
      if (kind === "file")
        await eventually(async () => (await bus.statuses()).length === 0, "it is forgotten");
    });

    it("prunes what nobody needs and nothing else", async () => {
      const bus = await open();
      const published: WeightsManifest[] = [];
      for (let version = 1; version <= 6; version++) {
        published.push(await bus.publish(someTensors(version), { version }));
      }
      await bus.report({ instance: "slow", version: 2, state: "serving", tookMs: 1 });
      await bus.report({ instance: "loading", version: 3, state: "loading", tookMs: 1, servingVersion: 1 });
      const deleted = await bus.prune(2);
      assert.deepEqual(deleted, [published[3].object]);
      for (const manifest of published) {
        if (manifest.version === 4) await assert.rejects(bus.fetch(manifest), WeightsGoneError);
        else await bus.fetch(manifest);
      }
      assert.deepEqual(await (await open({ pruneGraceMs: 60_000 })).prune(1), []);
      await assert.rejects(bus.prune(0), /keep: 0 → a whole number of at least 1/);
    });

    it("keeps runs and models apart, also with names that no file system would like", async () => {
      const odd = await open({ run: "a/b.c:d", model: "openai-community/gpt2" });
      const plain = await open({ run: "a_b_c_d", model: "openai-community/gpt2" });
      const other = await open({ run: "a/b.c:d", model: "other" });
      const manifest = await odd.publish(someTensors(1), { version: 1 });
      assert.equal(await plain.head(), undefined);
      assert.equal(await other.head(), undefined);
      await odd.fetch((await odd.head())!);
      assert.equal(manifest.run, "a/b.c:d");
      await other.publish(someTensors(2), { version: 1 });
      await other.publish(someTensors(3), { version: 2 });
      assert.deepEqual(await odd.prune(1), []);
    });

    describe("follower", () => {
      it("keeps the old version when the new one is damaged, says why, and takes the next", async () => {
        const bus = await open();
        const { follower, applied, states } = follow(await open(), "server");
        await bus.publish(someTensors(1), { version: 1 });
        await follower.whenServing(1, { deadlineMs: 10_000 });
        const tensors = someTensors(2);
        tensors.get("scale")!.data[0] = Number.NaN;
        await bus.publish(tensors, { version: 2, allowNonFinite: true });
        await eventually(() => states.at(-1)?.state === "failed", "it reports the failure");
        assert.equal(follower.serving?.version, 1);
        assert.match(states.at(-1)?.reason ?? "", /v2 .*tensor scale: expected finite numbers, found NaN/);
        assert.equal(states.at(-1)?.servingVersion, 1);
        await assert.rejects(
          follower.whenServing(2, { deadlineMs: 50 }),
          /v2: not served after 50 ms; v1 is served, the head is v2, v2 failed: .*NaN/,
        );
        const third = await bus.publish(someTensors(3), { version: 3 });
        assert.deepEqual(await follower.whenServing(3, { deadlineMs: 10_000 }), {
          version: 3,
          digest: third.digest,
        });
        assert.deepEqual(applied, [1, 3]);
      });

      it("keeps the old version when apply throws", async () => {
        const bus = await open();
        const { follower, states } = follow(await open(), "server", {
          apply: (version) => {
            if (version === 2) throw new Error("canary failed");
          },
        });
        await bus.publish(someTensors(1), { version: 1 });
        await follower.whenServing(1, { deadlineMs: 10_000 });
        await bus.publish(someTensors(2), { version: 2 });
        await eventually(() => states.at(-1)?.reason === "canary failed", "it reports the failure");
        assert.equal(follower.serving?.version, 1);
        await eventually(async () => (await bus.statuses())[0]?.state === "failed", "the bus knows");
      });

      it("skips versions that were overtaken while it was busy", async () => {
        const bus = await open();
        let release = () => {};
        const { follower, applied } = follow(await open(), "busy", {
          apply: async (version) => {
            if (version === 1) {
              await new Promise<void>((resolve) => {
                release = resolve;
              });
            }
            applied.push(version);
          },
        });
        await bus.publish(someTensors(1), { version: 1 });
        await eventually(async () => (await bus.statuses())[0]?.state === "loading", "it loads v1");
        for (const version of [2, 3, 4]) await bus.publish(someTensors(version), { version });
        await eventually(() => follower.head?.version === 4, "it has seen v4");
        release();
        await follower.whenServing(4, { deadlineMs: 10_000 });
        assert.equal(applied[0], 1);
        assert.equal(applied.at(-1), 4);
        assert.ok(applied.length <= 3, `applied ${applied}`);
      });

      it("does not fetch what it serves already, and stays when the head is behind", async () => {
        const bus = await open();
        const manifest = await bus.publish(someTensors(1), { version: 1 });
        const same = follow(await open(), "same", { serving: manifest });
        const ahead = follow(await open(), "ahead", { serving: { version: 2, digest: "0".repeat(64) } });
        const twin = follow(await open(), "other-digest", {
          serving: { version: 1, digest: "0".repeat(64) },
        });
        await eventually(
          () => ahead.follower.head !== undefined && same.follower.head !== undefined,
          "they see the head",
        );
        await eventually(
          () => twin.follower.serving?.digest === manifest.digest,
          "the wrong digest is replaced",
        );
        assert.deepEqual(same.applied, []);
        assert.deepEqual(ahead.applied, []);
        assert.equal(ahead.follower.serving?.version, 2);
        const statuses = await bus.statuses();
        assert.equal(statuses.find(({ instance }) => instance === "ahead")?.version, 2);
      });
    });
  });
}

function corrupt(tensor: string | undefined, expected: RegExp, found: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof WeightsCorruptError, String(error));
    assert.equal(error.code, "WEIGHTS_CORRUPT");
    assert.equal(error.tensor, tensor);
    assert.match(error.expected, expected);
    assert.match(error.found, found);
    return true;
  };
}

contract("file", fileHarness);
contract("nats", natsHarness);
