import assert from "node:assert/strict";
import { runReadmeExample } from "../config/readme-example.js";
import { fillTemplate, PromptDataset, templateColumns } from "./prompt-dataset.js";

const rows = Array.from({ length: 10 }, (_, i) => ({ question: `q${i}`, answer: `a${i}` }));
const options = { template: "question: {question}\nanswer:", batchSize: 4, seed: 7 };
const take = (dataset: PromptDataset<(typeof rows)[0]>, batches: number) =>
  Array.from({ length: batches }, () => dataset.next().rows.map(({ row }) => row));

describe("PromptDataset", () => {
  it("hands out every row once an epoch, in an order of its own each time", () => {
    const dataset = new PromptDataset(rows, { ...options, batchSize: 5 });
    const [first, second] = [take(dataset, 2).flat(), take(dataset, 2).flat()];
    for (const order of [first, second]) assert.deepEqual(order.toSorted(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.notDeepEqual(first, second);
    assert.deepEqual(dataset.cursor, { epoch: 1, index: 10 });
    assert.notDeepEqual(
      take(new PromptDataset(rows, { ...options, batchSize: 5, seed: 8 }), 2).flat(),
      first,
    );
  });

  it("goes on from a cursor with the very batches that were to come", () => {
    const dataset = new PromptDataset(rows, options);
    take(dataset, 3);
    const resumed = new PromptDataset(rows, options);
    resumed.seek(JSON.parse(JSON.stringify(dataset.cursor)));
    assert.deepEqual(take(resumed, 9), take(dataset, 9));
  });

  it("leaves out a batch that is not full, or hands it out short", () => {
    const sizes = (dropLast: boolean) =>
      take(new PromptDataset(rows, { ...options, dropLast }), 4).map((b) => b.length);
    assert.deepEqual(sizes(true), [4, 4, 4, 4]);
    assert.deepEqual(sizes(false), [4, 4, 2, 4]);
    assert.equal(new PromptDataset(rows, options).batchesPerEpoch, 2);
    assert.equal(new PromptDataset(rows, { ...options, dropLast: false }).batchesPerEpoch, 3);
  });

  it("keeps the file's order without shuffling, and fills the template from the row", () => {
    const dataset = new PromptDataset(rows, { ...options, shuffle: false });
    assert.deepEqual(take(dataset, 1), [[0, 1, 2, 3]]);
    const { epoch, rows: batch } = dataset.next();
    assert.equal(epoch, 0);
    assert.deepEqual(batch[0], { row: 4, prompt: "question: q4\nanswer:", data: rows[4] });
    assert.equal(dataset.all().length, 10);
    assert.equal(fillTemplate("{a} {b} {{a}} {", { a: "$&{b}" }), "$&{b} {b} {$&{b}} {");
  });

  it("refuses templates, sizes and cursors that do not fit", () => {
    assert.deepEqual(templateColumns("{a}{b}{a}", ["a", "b"]), ["a", "b"]);
    const make = (change: object) => () => new PromptDataset(rows, { ...options, ...change });
    assert.throws(
      make({ template: "{questoin}" }),
      /template: \{questoin\} is no column; the columns are question, answer/,
    );
    assert.throws(make({ template: "x" }), /template: expected one of \{question\}, \{answer\}, found none/);
    assert.throws(make({ batchSize: 0 }), /batchSize: expected a whole number of at least 1, got 0/);
    assert.throws(make({ batchSize: 11 }), /batchSize: 11 is more than the 10 rows there are/);
    assert.throws(make({ seed: 0.5 }), /seed/);
    assert.throws(() => new PromptDataset([], options), /rows: expected at least one/);
    assert.throws(() => new PromptDataset(rows, options).seek({ epoch: 0, index: 11 }), /cursor/);
  });
});

describe("lib/dataset/README.md", () => {
  it("opens with an example that runs", async () => {
    const { batch, again } = (await runReadmeExample("lib/dataset")) as {
      batch: { epoch: number; rows: { prompt: string; data: { question: string } }[] };
      again: number;
    };
    assert.equal(batch.epoch, 2);
    assert.equal(batch.rows[0]!.prompt, `question: ${batch.rows[0]!.data.question}\nanswer:`);
    assert.equal(again, 60);
  });
});
