/** @file Tests of the field checks. */
import assert from "node:assert/strict";
import { InvalidFieldError } from "./errors.js";
import { Validator } from "./validate.js";

function violationsOf(check: (v: Validator) => void): string[] {
  const v = new Validator();
  check(v);
  return v.violations.map(({ field, description }) => `${field} ${description}`);
}

describe("field checks", () => {
  it("say nothing about what is right or absent", () => {
    const found = violationsOf((v) => {
      v.list("texts", ["a"]).minItems(1).maxItems(1).emptyOrAsLongAs("others", 1);
      v.text("text", "ä").notEmpty().maxBytes(2);
      v.text("text", undefined).notEmpty().maxBytes(0);
      v.number("n", 1).atLeast(1).atMost(1).above(0).below(2).finite();
      v.number("n", undefined).atLeast(1);
      v.number("n", 5n).atLeast(1);
      v.field("kind", "a").required().oneOf(["a", "b"]);
      v.field("kind", undefined as string | undefined).oneOf(["a"]);
      v.check();
    });
    assert.deepEqual(found, []);
  });

  it("name field, value and what is accepted", () => {
    const found = violationsOf((v) => {
      v.list("texts", []).minItems(1);
      v.list("texts", [1, 2, 3]).maxItems(2).emptyOrAsLongAs("labels", 2);
      v.text("texts[3]", "äöü").maxBytes(5);
      v.text("texts[4]", "").notEmpty();
      v.number("options.top_p", Number.NaN).finite();
      v.number("options.top_p", 0).above(0);
      v.number("options.top_p", 1.5).atMost(1);
      v.number("n", -1).atLeast(0);
      v.number("n", 9).below(9);
      v.field("prompt", undefined).required();
      v.field("kind", "c" as string).oneOf(["a", "b"]);
    });
    assert.deepEqual(found, [
      "texts has 0 items; accepted: at least 1",
      "texts has 3 items; accepted: at most 2",
      "texts has 3 items; accepted: none, or 2 as labels has",
      "texts[3] has 6 bytes; accepted: at most 5",
      "texts[4] is empty",
      "options.top_p is NaN; accepted: a finite number",
      "options.top_p is 0; accepted: above 0",
      "options.top_p is 1.5; accepted: at most 1",
      "n is -1; accepted: at least 0",
      "n is 9; accepted: below 9",
      "prompt is required",
      'kind is "c"; accepted: "a", "b"',
    ]);
  });

  it("collect everything before they throw, and give the first fact to machines", () => {
    const v = new Validator();
    v.reject("a", "is wrong");
    v.text("b", "xxx").maxBytes(2);
    assert.throws(
      () => v.check(),
      (error) => {
        assert.ok(error instanceof InvalidFieldError);
        assert.equal(error.message, "a: is wrong (and 1 more)");
        assert.equal(error.violations.length, 2);
        assert.deepEqual([error.reason, error.facts], ["INPUT_TOO_LONG", { max: "2", actual: "3" }]);
        return true;
      },
    );
  });

  it("keep no more than 100 violations of a hostile request", () => {
    const v = new Validator();
    for (let i = 0; i < 10_000; i++) v.reject(`texts[${i}]`, "is wrong");
    assert.equal(v.violations.length, 100);
  });
});
