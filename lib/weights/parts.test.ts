import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { weightsDigest } from "../checkpoint/index.js";
import { runReadmeExample } from "../config/readme-example.js";
import {
  BusAddressError,
  findNonFinite,
  openWeightsBus,
  WeightsCorruptError,
  type WeightsManifest,
} from "./index.js";
import { objectName, parseManifest, safeName, versionOfObject } from "./manifest.js";
import { parseNatsAddress } from "./nats-connection.js";
import { layOut, objectMetadata, pieces } from "./object-bytes.js";
import { ObjectReader } from "./object-reader.js";
import { deletable, type StoredObject } from "./retention.js";
import { someTensors } from "./testing.js";
import { Bell, keepDoing, pause, withDeadline } from "./waiting.js";

const DIGEST = "ab".repeat(32);

function manifestOf(version: number, more: Partial<WeightsManifest> = {}): WeightsManifest {
  return {
    run: "r",
    model: "m",
    version,
    digest: DIGEST,
    bytes: 100,
    object: objectName("r", version, DIGEST),
    dtype: "F32",
    parameters: 1,
    createdAt: "2026-01-01T00:00:00.000Z",
    publisher: "p",
    ...more,
  };
}

describe("object reader", () => {
  it("gives back the tensors however the bytes are cut", async () => {
    const tensors = someTensors(3, 5000);
    const layout = layOut(tensors, objectMetadata("r", "m", 4));
    const bytes = Buffer.concat([...pieces(layout, tensors)]);
    const digest = await weightsDigest(tensors);
    const manifest = manifestOf(4, { digest, bytes: bytes.length, parameters: layout.parameters });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1 }), async (sizes) => {
        const reader = new ObjectReader(manifest);
        const scratch = Buffer.alloc(9000); // reused, as the file bus does
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = bytes.copy(scratch, 0, at, at + sizes[i % sizes.length]);
          reader.push(scratch.subarray(0, size));
          at += size;
        }
        const found = await reader.finish();
        for (const [name, { data }] of tensors) assert.deepEqual(found.get(name), data);
      }),
      { numRuns: 50 },
    );
  });

  it("refuses any single flipped bit and any other length", async () => {
    const tensors = someTensors(3);
    const layout = layOut(tensors, objectMetadata("r", "m", 4));
    const bytes = Buffer.concat([...pieces(layout, tensors)]);
    const digest = await weightsDigest(tensors);
    const manifest = manifestOf(4, { digest, bytes: bytes.length, parameters: layout.parameters });
    const refused = async (damaged: Uint8Array) => {
      const reader = new ObjectReader(manifest);
      await assert.rejects(async () => {
        reader.push(damaged);
        await reader.finish();
      }, WeightsCorruptError);
    };
    // spaces that pad the header are the only bytes with no meaning
    const padding = layout.header.length - Buffer.from(layout.header).toString().trimEnd().length;
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (at, bit) => {
        if (at < layout.header.length && at >= layout.header.length - padding) return;
        const damaged = Uint8Array.from(bytes);
        damaged[at] ^= 1 << bit;
        await refused(damaged);
      }),
      { numRuns: 300 },
    );
    await refused(bytes.subarray(0, bytes.length - 1));
    await refused(Buffer.concat([bytes, Buffer.alloc(1)]));
    await refused(Buffer.alloc(0));
    await refused(bytes.subarray(0, 5));
  });

  it("does not believe a header that promises more than the manifest", async () => {
    const reader = new ObjectReader(manifestOf(1));
    const huge = Buffer.alloc(16);
    huge.writeBigUInt64LE(1n << 40n);
    assert.throws(() => reader.push(huge), /header length|header of/);
  });
});

describe("finiteness check", () => {
  it("finds NaN of any sign and payload and both infinities, and nothing else", async () => {
    const bits = new Uint32Array([0x7f7fffff, 0xff7fffff, 0x00000001, 0x80000000, 0, 0]);
    const data = new Float32Array(bits.buffer);
    assert.equal(await findNonFinite(data), -1);
    for (const bad of [0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001]) {
      bits[4] = bad;
      assert.equal(await findNonFinite(data), 4, bad.toString(16));
    }
    assert.equal(await findNonFinite(new Float32Array(0)), -1);
  });

  it("looks past the first block", async () => {
    const data = new Float32Array((4 << 20) + 10);
    data[data.length - 1] = Number.NaN;
    assert.equal(await findNonFinite(data), data.length - 1);
  });
});

describe("manifest", () => {
  it("passes through JSON, ignoring what it does not know", () => {
    const manifest = manifestOf(3, { traceparent: "00-x" });
    assert.deepEqual(parseManifest(JSON.stringify({ ...manifest, later: true }), "key"), manifest);
  });

  it("is refused when it is damaged, saying which field", () => {
    const refuse = (text: string, why: RegExp) =>
      assert.throws(
        () => parseManifest(text, "key r.m"),
        (error) => error instanceof WeightsCorruptError && why.test(error.message),
      );
    refuse("{", /key r\.m.*expected a manifest in JSON/);
    refuse("null", /expected a manifest/);
    refuse(JSON.stringify({ ...manifestOf(1), version: -1 }), /version/);
    refuse(JSON.stringify({ ...manifestOf(1), digest: "xyz" }), /digest/);
    refuse(JSON.stringify({ ...manifestOf(1), object: "r/2-abababababababab" }), /expected object r\/1-abab/);
  });

  it("names objects so that the version can be read back", () => {
    assert.equal(versionOfObject(objectName("a/b", 42, DIGEST)), 42);
    assert.equal(versionOfObject("r/x-abababababababab"), undefined);
  });

  it("makes safe names that differ where the texts differ", () => {
    assert.equal(safeName("run-1_A"), "run-1_A");
    const odd = ["a.b", "a/b", "a b", "../../etc", "", "é".repeat(90), "a".repeat(65)];
    const names = odd.map(safeName);
    assert.equal(new Set(names).size, odd.length);
    for (const name of names) assert.match(name, /^[A-Za-z0-9_-]{1,64}$/);
  });
});

describe("retention", () => {
  const object = (version: number, suffix = ""): StoredObject => ({
    object: `r/${version}-abababababababab${suffix}`,
    version,
    size: 1,
    writtenAt: 0,
  });
  const objects = [1, 2, 3, 4, 5, 6].map((version) => object(version));
  const state = { objects, head: manifestOf(5), statuses: [], keep: 2, graceMs: 100, now: 1000 };
  const versions = (more: object) => deletable({ ...state, ...more }).map(({ version }) => version);

  it("keeps the newest up to the head, and what is newer than the head", () => {
    assert.deepEqual(versions({}), [1, 2, 3]);
    assert.deepEqual(versions({ keep: 1 }), [1, 2, 3, 4]);
    assert.deepEqual(versions({ keep: 99 }), []);
  });

  it("keeps what a live server serves or loads", () => {
    const statuses = [
      { instance: "a", version: 2, state: "loading" as const, tookMs: 0, servingVersion: 1 },
      { instance: "b", version: 5, state: "serving" as const, tookMs: 0 },
    ];
    assert.deepEqual(versions({ statuses }), [3]);
  });

  it("keeps what is young, and everything when there is no head", () => {
    assert.deepEqual(
      versions({ objects: [{ ...object(1), writtenAt: 950 }, object(2), object(5)], keep: 1 }),
      [2],
    );
    assert.deepEqual(versions({ head: undefined }), []);
  });

  it("deletes the orphan of a lost race for the head's version", () => {
    const orphan = object(5, "x");
    assert.deepEqual(deletable({ ...state, objects: [object(5), orphan] }), [orphan]);
  });
});

describe("addresses", () => {
  it("of NATS servers are read with user, password and several hosts", () => {
    assert.deepEqual(parseNatsAddress("nats://joe:p%40ss@a:4222,b.example,[::1]:5"), {
      servers: ["a:4222", "b.example", "[::1]:5"],
      user: "joe",
      password: "p@ss",
      tls: false,
      shown: "nats://a:4222,b.example,[::1]:5",
    });
    assert.equal(parseNatsAddress("tls://h/").tls, true);
    for (const bad of ["nats://", "nats://a b", "nats://a:port", "nats://joe:hunter2@"]) {
      assert.throws(
        () => parseNatsAddress(bad),
        (error) => error instanceof BusAddressError && !error.message.includes("hunter2"),
      );
    }
  });

  it("of no known kind, and empty names, are refused", async () => {
    await assert.rejects(
      openWeightsBus("redis://h", { run: "r", model: "m" }),
      /weights: "redis:\/\/h" → nats:\/\/host:port/,
    );
    await assert.rejects(openWeightsBus("file:", { run: "r", model: "m" }), /file:<folder>/);
    await assert.rejects(
      openWeightsBus("file:/tmp/x", { run: "", model: "m" }),
      /run: "" → a name that is not empty/,
    );
  });
});

describe("waiting", () => {
  it("with a deadline ends by result, time or signal, and keeps late failures quiet", async () => {
    const late = () => new Error("late");
    assert.equal(await withDeadline(Promise.resolve(1), 1000, late), 1);
    await assert.rejects(withDeadline(new Promise(() => {}), 5, late), /late/);
    await assert.rejects(
      withDeadline(
        pause(20).then(() => Promise.reject(new Error("unheard"))),
        5,
        late,
      ),
      /late/,
    );
    await assert.rejects(
      withDeadline(new Promise(() => {}), 1000, late, AbortSignal.abort(), () => new Error("gone")),
      /gone/,
    );
  });

  it("for a bell hears a ring before, during and never", async () => {
    const bell = new Bell();
    bell.ring();
    await bell.next(60_000);
    setTimeout(() => bell.ring(), 5);
    await bell.next(60_000);
    await bell.next(5);
    await bell.next(60_000, AbortSignal.abort());
  });

  it("by keeping on doing survives failures until it is told to stop", async () => {
    const stop = new AbortController();
    let attempts = 0;
    const heard: string[] = [];
    await keepDoing(
      async () => {
        attempts++;
        if (attempts === 2) stop.abort();
        else throw new Error("once");
      },
      stop.signal,
      (error) => heard.push(error.message),
    );
    assert.equal(attempts, 2);
    assert.deepEqual(heard, ["once"]);
  });
});

describe("lib/weights/README.md", () => {
  it("opens with an example that runs", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weights-readme-"));
    process.env.WEIGHTS_DIR = folder;
    try {
      const { served } = await runReadmeExample("lib/weights");
      assert.deepEqual(served, { version: 1, first: 0.5 });
    } finally {
      delete process.env.WEIGHTS_DIR;
      rmSync(folder, { recursive: true });
    }
  });
});
