/** @file Publishing to a bus that is away for a while, or loses its answers. */
import assert from "node:assert/strict";
import { weightsDigest } from "../../../lib/checkpoint/index.js";
import { BusUnavailableError, type WeightsBus, WeightsConflictError } from "../../../lib/weights/index.js";
import type { WeightsManifest } from "../../../lib/weights/manifest.js";
import type { PolicyRoster } from "../servers/policy-roster.js";
import { StallWatch } from "../stalls/stall-watch.js";
import { Publisher } from "./publishing.js";

const WEIGHTS = new Map([["w", { shape: [2], data: new Float32Array([1, 2]) }]]);
const DIGEST = await weightsDigest(WEIGHTS);
const manifest = (digest: string) => ({ version: 5, digest }) as WeightsManifest;
const away = () => new BusUnavailableError("nats://bus", "read the head", new Error("timeout"));
const conflict = (digest: string) => new WeightsConflictError("run", 5, manifest(digest));

/** A publisher whose bus answers each publish in turn; the last answer stays. */
function publisherOf(answers: (Error | WeightsManifest)[], timeoutMs = 10_000) {
  const warnings: string[] = [];
  const abort = new AbortController();
  let asked = 0;
  const bus = {
    address: "nats://bus",
    publish: async () => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer;
    },
    prune: async () => [],
  } as unknown as WeightsBus;
  const publisher = new Publisher(
    {
      bus,
      roster: {} as PolicyRoster,
      timeoutMs,
      signal: abort.signal,
      stalls: new StallWatch({ warnMs: 60_000, log: () => {} }),
      warn: (message) => void warnings.push(message),
    },
    { version: 4, digest: "before" },
  );
  return { publisher, warnings, abort, asked: () => asked };
}

describe("a publisher", () => {
  it("waits for a bus that is away, and says so", async () => {
    const { publisher, warnings } = publisherOf([away(), away(), manifest(DIGEST)]);
    assert.deepEqual(await publisher.publish(WEIGHTS), { version: 5, digest: DIGEST });
    assert.equal(publisher.version, 5);
    assert.deepEqual(
      warnings.map((line) => line.slice(0, 9)),
      ["attempt 1", "attempt 2"],
    );
  });

  it("takes its own weights at the head for an answer that was lost, never somebody else's", async () => {
    const own = publisherOf([away(), conflict(DIGEST)]);
    assert.deepEqual(await own.publisher.publish(WEIGHTS), { version: 5, digest: DIGEST });
    const others = publisherOf([away(), conflict("of others")]);
    await assert.rejects(others.publisher.publish(WEIGHTS), WeightsConflictError);
    const atOnce = publisherOf([conflict(DIGEST)]);
    await assert.rejects(atOnce.publisher.publish(WEIGHTS), WeightsConflictError);
    assert.equal(atOnce.publisher.version, 4);
  });

  it("does not wait for room on a full disk", async () => {
    const full = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    const { publisher, asked } = publisherOf([new BusUnavailableError("file:weights", "write", full)]);
    await assert.rejects(publisher.publish(WEIGHTS), BusUnavailableError);
    assert.equal(asked(), 1);
  });

  it("waits no longer than it may, nor than the run", async () => {
    const late = publisherOf([away()], 50);
    await assert.rejects(
      late.publisher.publish(WEIGHTS),
      /publish on nats:\/\/bus was not done within 50 ms/,
    );
    const stopped = publisherOf([away()]);
    const publishing = stopped.publisher.publish(WEIGHTS);
    stopped.abort.abort(new Error("the run was stopped"));
    await assert.rejects(publishing, /the run was stopped/);
  });
});
