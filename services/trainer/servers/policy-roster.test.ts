import assert from "node:assert/strict";
import { PolicyRoster } from "./policy-roster.js";
import type { PolicyMember } from "./servers.js";

const digest = (version: number) => `digest of ${version}`;

/** Servers by address, each a version, a description, or what it fails with; `asked` counts how often each was. */
function meshOf(held: Record<string, number | { version: number; digest: string } | Error>, timeoutMs = 60) {
  const lines: string[] = [];
  const asked: Record<string, number> = {};
  const roster = new PolicyRoster({
    servers: {
      policies: Object.keys(held).map((address) => ({ address }) as PolicyMember),
      describe: async ({ address }) => {
        asked[address] = (asked[address] ?? 0) + 1;
        const what = held[address];
        if (what === undefined || what instanceof Error) throw what;
        const weights = typeof what === "number" ? { version: what, digest: digest(what) } : what;
        return { address, ...weights, vocabSize: 1, maxTokens: 1, instance: address };
      },
    },
    timeoutMs,
    signal: new AbortController().signal,
    say: (level, message, { address }) => void lines.push(`${level} ${address} ${message}`),
  });
  const serving = () => roster.serving.map(({ address }) => address);
  const gather = (version: number) => roster.gather({ version, digest: digest(version) });
  return { held, roster, lines, asked, serving, gather };
}

describe("the roster of policy servers", () => {
  it("holds all of them as long as all serve", async () => {
    const { gather, serving, lines } = meshOf({ a: 3, b: 4 });
    await gather(3);
    assert.deepEqual(serving(), ["a", "b"]);
    assert.deepEqual(lines, []);
  });

  it("does not wait for one that is away while another serves, says so once, and takes it in again", async () => {
    const { held, gather, serving, lines } = meshOf({ a: 1, b: new Error("connection refused") }, 60_000);
    await gather(1);
    assert.deepEqual(serving(), ["a"]);
    await gather(1);
    assert.deepEqual(lines, [
      "warn b policy server b is left out until it serves weight version 1: connection refused",
    ]);
    held.b = 1;
    await gather(1); // asks it
    await gather(1); // and waits for it
    assert.deepEqual(serving(), ["a", "b"]);
    assert.deepEqual(lines.slice(1), ["info b policy server b takes part again"]);
  });

  it("waits for one that loads, but not for ever, and not once more", async () => {
    const { held, gather, serving, lines, asked } = meshOf({ a: 2, b: 1 });
    setTimeout(() => {
      held.b = 2;
    }, 20);
    await gather(2);
    assert.deepEqual(serving(), ["a", "b"]);
    held.a = 3;
    await gather(3);
    assert.deepEqual(serving(), ["a"]);
    assert.deepEqual(lines, [
      "warn b policy server b is left out until it serves weight version 3: serves version 2",
    ]);
    const before = asked.b ?? 0;
    await gather(3);
    assert.equal(asked.b, before + 1, "asked, and not waited for");
  });

  it("leaves out one that serves other weights under the same version", async () => {
    const { gather, serving, lines } = meshOf({ a: 2, b: { version: 2, digest: "another digest" } }, 0);
    await gather(2);
    assert.deepEqual(serving(), ["a"]);
    assert.match(
      lines.join(),
      /serves other weights as version 2 \(digest another dige…, expected digest of/,
    );
  });

  it("fails where none serves in time, and says what each holds", async () => {
    const { gather, roster } = meshOf({ a: 1, b: new Error("connection refused") });
    await assert.rejects(gather(2), {
      reason: "WEIGHTS_NOT_SERVED",
      message:
        "no policy server serves weight version 2 after 60 ms: a: serves version 1; b: connection refused",
    });
    assert.equal(roster.waitedFor, "a: serves version 1; b: connection refused");
  });

  it("describes those that answer, waits for the first, and fails where none does", async () => {
    const { held, roster } = meshOf({ a: new Error("loading"), b: new Error("connection refused") });
    await assert.rejects(roster.describe(), {
      reason: "NO_SERVER",
      message: /a: loading; b: connection refused/,
    });
    setTimeout(() => {
      held.a = 5;
    }, 15);
    assert.deepEqual(
      (await roster.describe()).map(({ address, version }) => [address, version]),
      [["a", 5]],
    );
  });
});
