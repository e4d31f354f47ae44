/**
 * @file The promises of examples/faq/README.md: sizes, lower case, test questions apart, labels of both kinds.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { readRows } from "../../lib/dataset/index.js";

const file = (name: string) => join(packageRoot(), "examples/faq", name);
const QA = { question: "text", answer: "text" } as const;

describe("the FAQ example", () => {
  it("is in lower case, and asks nothing in the test that it asked in training", async () => {
    const [train, test] = [await readRows(file("train.csv"), QA), await readRows(file("test.csv"), QA)];
    const known = new Set(train.map(({ question }) => question));
    assert.deepEqual(
      test.filter(({ question }) => known.has(question)),
      [],
    );
    for (const { question, answer } of [...train, ...test]) {
      assert.equal(question + answer, (question + answer).toLowerCase());
      assert.ok(question.split(" ").length <= 20 && answer.split(" ").length <= 45, `${question} ${answer}`);
    }
  });

  it("labels every response once, about as many good as bad", async () => {
    const rows = await readRows(file("reward_labels.csv"), { response: "text", label: "integer" });
    assert.equal(new Set(rows.map(({ response }) => response)).size, rows.length);
    assert.ok(rows.every(({ label }) => label === 0 || label === 1));
    const good = rows.filter(({ label }) => label === 1).length / rows.length;
    assert.ok(good > 0.3 && good < 0.7, `${good}`);
  });

  it("has as many rows as its README says", async () => {
    const readme = readFileSync(file("README.md"), "utf8");
    const lines = [...readme.matchAll(/^\| `(\w+\.csv)` \| (\d+) \|/gm)];
    assert.equal(lines.length, 3);
    for (const [, name, rows] of lines) {
      const column = name === "reward_labels.csv" ? "response" : "question";
      assert.equal((await readRows(file(name!), { [column]: "text" as const })).length, Number(rows), name);
    }
  });
});
