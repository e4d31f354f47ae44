/**
 * @file The promises of examples/faq/README.md: sizes, words, subjects apart, labels that say what the text is.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { readRows } from "../../lib/dataset/index.js";

const file = (name: string) => join(packageRoot(), "examples/faq", name);
const QA = { question: "text", answer: "text" } as const;
const words = (text: string) => text.split(" ").length;

describe("the FAQ example", () => {
  it("has questions that differ, in lower case, and answers of every length; test asks what train answers", async () => {
    const [train, test] = [await readRows(file("train.csv"), QA), await readRows(file("test.csv"), QA)];
    const all = [...train, ...test];
    assert.equal(new Set(all.map(({ question }) => question)).size, all.length);
    for (const { question, answer } of all) {
      assert.ok(words(question) >= 3 && words(question) <= 15, question);
      assert.ok(words(answer) >= 1 && words(answer) <= 45, answer);
      assert.equal(question + answer, (question + answer).toLowerCase());
    }
    const known = new Set(train.map(({ answer }) => answer));
    assert.ok(test.every(({ answer }) => known.has(answer)));
  });

  it("labels every response once, about as many good as bad", async () => {
    const rows = await readRows(file("reward_labels.csv"), { response: "text", label: "integer" });
    assert.equal(new Set(rows.map(({ response }) => response)).size, rows.length);
    assert.ok(rows.every(({ label }) => label === 0 || label === 1));
    const good = rows.filter(({ label }) => label === 1).length / rows.length;
    assert.ok(good > 0.4 && good < 0.6, `${good}`);
  });

  it("has as many rows as its README says", async () => {
    const readme = readFileSync(file("README.md"), "utf8");
    for (const [, name, rows] of readme.matchAll(/\| `(\w+\.csv)` \| (\d+) \|/g)) {
      const schema =
        name === "reward_labels.csv" ? ({ response: "text" } as const) : ({ question: "text" } as const);
      assert.equal((await readRows(file(name!), schema as { question: "text" })).length, Number(rows), name);
    }
  });
});
