import assert from "node:assert/strict";
import { cutShards, jitteredBackoff, type PoolRule, runShards } from "./pool.js";

const members = [{ address: "a" }, { address: "b" }, { address: "c" }];
const rule = (log: string[] = []): PoolRule => ({
  retries: 2,
  backoff: async () => {},
  mayRetry: (error) => !error.message.includes("fatal"),
  onFailure: (address, attempt) => void log.push(`${address}${attempt}`),
});

describe("a pool of servers", () => {
  it("cuts items into consecutive shards of nearly equal size", () => {
    const sizes = (n: number, count: number) =>
      cutShards([...Array(n).keys()], count).map((s) => s.items.length);
    assert.deepEqual(sizes(32, 3), [11, 11, 10]);
    assert.deepEqual(sizes(2, 3), [1, 1]);
    assert.deepEqual(
      cutShards([1, 2, 3, 4, 5], 2).flatMap((s) => s.items),
      [1, 2, 3, 4, 5],
    );
  });

  it("gives every shard to a server and loses none", async () => {
    const seen: [string, readonly number[]][] = [];
    for await (const { shard, result } of runShards(
      [1, 2, 3, 4, 5, 6],
      members,
      rule(),
      async (m) => m.address,
    )) {
      seen.push([result, shard.items]);
    }
    assert.deepEqual(seen.sort(), [
      ["a", [1, 2]],
      ["b", [3, 4]],
      ["c", [5, 6]],
    ]);
  });

  it("spreads what a failed server should have done over the others, and loses nothing", async () => {
    const log: string[] = [];
    const seen: [number, string, readonly number[]][] = [];
    const work = async (member: { address: string }) => {
      if (member.address === "b") throw new Error("gone");
      return member.address;
    };
    const items = [0, 1, 2, 3, 4, 5];
    for await (const { shard, result } of runShards(items, members, rule(log), work)) {
      seen.push([shard.first, result, shard.items]);
    }
    assert.deepEqual(seen.sort(), [
      [0, "a", [0, 1]],
      [2, "a", [2]],
      [3, "c", [3]],
      [4, "c", [4, 5]],
    ]);
    assert.deepEqual(log, ["b1"]);
  });

  it("waits only where every server has failed, and goes on with the first that is back", async () => {
    let down = new Set(["a", "b", "c"]);
    const waits: number[] = [];
    const back: PoolRule = {
      ...rule(),
      retries: 3,
      backoff: async (attempt) => {
        waits.push(attempt);
        down = new Set(["b", "c"]);
      },
    };
    const work = async ({ address }: { address: string }) => {
      if (down.has(address)) throw new Error("gone");
      return address;
    };
    const results: string[] = [];
    for await (const { result } of runShards([1], members, back, work)) results.push(result);
    assert.deepEqual([results, waits], [["a"], [3]]);
  });

  it("gives up at once where another attempt can't help, and else after the last", async () => {
    const attempts: string[] = [];
    const fail = (message: string) =>
      (async () => {
        for await (const _ of runShards([1], members, rule(attempts), async () => {
          throw new Error(message);
        }));
      })();
    await assert.rejects(fail("fatal"), /fatal/);
    assert.deepEqual(attempts, ["a1"]);
    await assert.rejects(fail("gone"), /gone/);
    assert.deepEqual(attempts, ["a1", "a1", "b2", "c3"]);
  });

  it("stops waiting when the run stops", async () => {
    const controller = new AbortController();
    const waiting = jitteredBackoff(controller.signal, () => 1)(9);
    controller.abort(new Error("stopped"));
    await assert.rejects(waiting, /stopped/);
  });
});
