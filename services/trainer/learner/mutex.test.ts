import assert from "node:assert/strict";
import { Mutex } from "./mutex.js";

describe("mutex", () => {
  it("runs work one after another, in order, also after a failure", async () => {
    const mutex = new Mutex();
    const seen: string[] = [];
    const work = (name: string, fails = false) =>
      mutex.run(async () => {
        seen.push(`${name} begins`);
        await new Promise(setImmediate);
        seen.push(`${name} ends`);
        if (fails) throw new Error(name);
        return name;
      });
    const results = await Promise.allSettled([work("a"), work("b", true), work("c")]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual(seen, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  });
});
