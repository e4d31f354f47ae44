import assert from "node:assert/strict";
import { printable, table, toJson } from "./output.js";
import { formatSeconds, plainLine, progressLine } from "./progress.js";

describe("what the command line prints", () => {
  it("aligns columns, numbers to the right", () => {
    assert.equal(
      table([
        ["policy", "F1"],
        ["reference", "0.5"],
        ["tuned", "–"],
      ]),
      "policy      F1\nreference  0.5\ntuned        –",
    );
  });

  it("lets no control sequence of a model reach the terminal", () => {
    assert.equal(printable("a\u001b[31mb\nc\u202e"), "a\\u{1b}[31mb\nc\\u{202e}");
  });

  it("writes 64-bit integers as strings and bytes as base64 in JSON", () => {
    assert.equal(
      toJson({ seed: 2n ** 60n, data: new Uint8Array([1, 2]) }),
      '{"seed":"1152921504606846976","data":"AQI="}',
    );
  });

  it("cuts the progress line to the width of the terminal", () => {
    const progress = {
      step: 10,
      totalSteps: 40,
      phase: "learn",
      figures: [["reward", "0.52"]] as const,
      secondsLeft: 80,
    };
    const whole = progressLine("ppo", progress, 200);
    assert.equal(
      whole,
      `ppo ${"━".repeat(5)}${"─".repeat(15)} 10/40  learn       reward 0.52  1 min 20 s left`,
    );
    assert.equal(progressLine("ppo", progress, 30).length, 29);
    assert.equal(plainLine("ppo", progress), "ppo step 10/40: reward 0.52: 1 min 20 s left");
  });

  it("tells times as people do", () => {
    assert.deepEqual([8.4, 130, 3900].map(formatSeconds), ["8 s", "2 min 10 s", "1 h 5 min"]);
  });
});
