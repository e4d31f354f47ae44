import assert from "node:assert/strict";
import { parseConfig } from "../../../lib/config/index.js";
import { PPO_PROFILES, ppoOptionsSchema } from "./options.js";

/** The problems that loading these options reports. */
function problems(given: object): readonly string[] {
  try {
    parseConfig(ppoOptionsSchema, given, "run.yaml");
  } catch (error) {
    return (error as { problems: readonly string[] }).problems;
  }
  return [];
}

describe("PPO options", () => {
  it("start from the default profile", () => {
    assert.deepEqual(ppoOptionsSchema.parse({}), PPO_PROFILES.default);
  });

  it("start from the named profile, and what is given wins", () => {
    const options = ppoOptionsSchema.parse({ profile: "notebook", epochs: 2 });
    assert.deepEqual(options, { ...PPO_PROFILES.notebook, epochs: 2 });
    assert.equal(options.valueIndexShift, -1);
    assert.equal(options.responseIncludesQuery, true);
  });

  it("of every profile pass their own checks", () => {
    for (const options of Object.values(PPO_PROFILES)) {
      assert.deepEqual(ppoOptionsSchema.parse(options), options);
    }
  });

  it("name a minibatch size that does not divide the batch", () => {
    assert.deepEqual(problems({ minibatchSize: 24 }), [
      "minibatchSize: 24 does not divide batchSize 64 (run.yaml)",
    ]);
  });

  it("name accumulation that does not divide the minibatches", () => {
    assert.deepEqual(problems({ gradientAccumulationSteps: 3 }), [
      "gradientAccumulationSteps: 3 does not divide the 8 minibatches of a batch (run.yaml)",
    ]);
  });

  it("name options without effect and those that exclude each other", () => {
    assert.match(problems({ scoreNorm: true })[0], /^scoreNorm: true has no effect without scoreScaling/);
    assert.match(problems({ profile: "trl-0.2.1", klPenalty: "full" })[0], /^klPenalty: full does not go/);
  });

  it("name unknown keys, and values out of range with what is accepted", () => {
    assert.match(problems({ clipRagne: 0.1 })[0], /clipRagne: unknown key → did you mean "clipRange"/);
    assert.match(problems({ gamma: 1.5 })[0], /^gamma: 1.5 → a number from 0 to 1/);
    assert.match(problems({ klPenalty: "k2" })[0], /^klPenalty: "k2" → one of "k1", "abs", "mse", "full"/);
    assert.match(problems({ valueIndexShift: 1 })[0], /^valueIndexShift: 1 → one of 0, -1/);
  });
});
