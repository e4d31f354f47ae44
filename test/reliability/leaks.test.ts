/** @file The detector of leaks detects them: the same tests fail where a leak was put into the servers on purpose. */
import assert from "node:assert/strict";
import { useSandbox } from "../support/sandbox.js";
import { cancelAtRandom } from "./cancellations.js";
import { noteFigure } from "./figures.js";
import { fuzzServices } from "./fuzz-services.js";
import { scale } from "./scale.js";

const COUNT = 100;
const fixture = (name: string) => new URL(`./fixtures/leak-${name}.js`, import.meta.url);

describe("a leak that was put in on purpose", function () {
  this.timeout(scale.full ? 300_000 : 120_000);
  const sandbox = useSandbox("each");
  const test = "leak put in";

  it("of memory, handles or native values fails the test of cancellations", async () => {
    const preload = ["memory", "values", "handles"].map(fixture);
    const message = await failureOf(() => cancelAtRandom(sandbox(), { test, count: COUNT, preload }));
    assert.match(message, /(policy worker|reward|bertscore): live memory grew/);
    assert.match(message, /worker: native values grew/);
    assert.match(message, /(policy|reward|bertscore): handles grew/);
    assert.match(message, /(policy|reward|bertscore): open files grew/);
    noteFigure({ test, load: `${COUNT} cancellations`, measured: `found: ${beginning(message)}` });
  });

  it("of rows of the cache fails the test of cancellations", async () => {
    const preload = [fixture("rows")];
    const message = await failureOf(() =>
      cancelAtRandom(sandbox(), { test, count: COUNT, preload, idleMs: 3000 }),
    );
    assert.match(message, /policy is idle: rlhf_generate_active is \d+/);
    noteFigure({ test, load: `${COUNT} cancellations`, measured: `found: ${beginning(message)}` });
  });

  if (scale.full) {
    it("of memory and handles fails the fuzz", async () => {
      const preload = ["memory", "handles"].map(fixture);
      const message = await failureOf(() => fuzzServices(sandbox(), { test, count: 6000, seed: 1, preload }));
      assert.match(message, /live memory grew/);
      assert.match(message, /handles grew/);
      noteFigure({ test, load: "6000 random requests", measured: `found: ${beginning(message)}` });
    });
  }
});

/** The first things that were found. */
function beginning(message: string): string {
  const problems = message.split("; ");
  const more = problems.length - 3;
  return `${problems.slice(0, 3).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

/** The message of the error that a test must fail with. */
async function failureOf(test: () => Promise<unknown>): Promise<string> {
  const error = await test().then(
    () => undefined,
    (failure: Error) => failure,
  );
  assert.ok(error, "the test passed");
  return error.message;
}
