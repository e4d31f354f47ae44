import assert from "node:assert/strict";
import { acceptedLabels, defaultLabel, findLabel } from "./labels.js";

describe("labels", () => {
  it("are found by name, else by index", () => {
    assert.equal(findLabel(["bad", "good"], "good"), 1);
    assert.equal(findLabel(["bad", "good"], "0"), 0);
    assert.equal(findLabel(["1", "0"], "0"), 1); // a name wins over an index
    for (const wanted of ["2", "-1", "1.0", "Good", "", "99999999999999999999"]) {
      assert.equal(findLabel(["bad", "good"], wanted), undefined);
    }
  });

  it("default to the last", () => {
    assert.equal(defaultLabel(["only"]), 0);
    assert.equal(defaultLabel(["bad", "good"]), 1);
  });

  it("are listed in errors, the first ten of them", () => {
    assert.equal(acceptedLabels(["a", "b"]), '"a", "b" or an index from 0 to 1');
    const many = acceptedLabels(Array.from({ length: 12 }, (_, i) => `l${i}`));
    assert.match(many, /"l9", … or an index from 0 to 11$/);
  });
});
