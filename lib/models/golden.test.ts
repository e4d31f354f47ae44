/**
 * Against transformers 5.17 on the tiny models of test/golden. The expected numbers have six decimals; logits agree
 * within 2e-4 (what the project promises) and in fact within 5e-6.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadCheckpoint } from "../checkpoint/index.js";
import { packageRoot } from "../config/package-root.js";
import { createEngine, type Engine, type EngineTensor } from "../engine/index.js";
import { parseEncoderConfig } from "./config.js";
import { EncoderRunner } from "./encoder-runner.js";
import { type ModelTask, parameterSpecs } from "./parameters.js";

interface GoldenClassifier {
  items: { input_ids: number[]; logits: number[]; softmax: number[] }[];
  pair: { input_ids: number[]; logits: number[] };
}

interface GoldenEncoder {
  hidden: { input_ids: number[]; layers_first4_of_first_and_last_token: [number[], number[]][] }[];
}

const folder = (name: string) => join(packageRoot(), "test/golden", name);
const expected = <T>(name: string): T =>
  JSON.parse(readFileSync(join(folder(name), "expected.json"), "utf8"));

async function load(engine: Engine, name: string, task: ModelTask): Promise<EncoderRunner<EngineTensor>> {
  const checkpoint = await loadCheckpoint(folder(name), (json) =>
    parameterSpecs(parseEncoderConfig(json), task),
  );
  return new EncoderRunner(engine, parseEncoderConfig(checkpoint.config), checkpoint.tensors);
}

function assertClose(actual: ArrayLike<number>, wanted: readonly number[], tolerance: number): void {
  assert.equal(actual.length, wanted.length);
  for (const [i, value] of wanted.entries()) {
    assert.ok(Math.abs(actual[i] - value) <= tolerance, `[${i}] expected ${value}, got ${actual[i]}`);
  }
}

describe("golden encoders", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
  });
  after(() => engine.close());

  for (const name of ["bert-tiny-classifier", "distilbert-tiny-classifier"]) {
    it(`${name} gives the reference's logits, in one batch and one by one`, async () => {
      const golden = expected<GoldenClassifier>(name);
      const runner = await load(engine, name, "sequence-classification");
      const rows = golden.items.map(({ input_ids }) => ({ ids: input_ids }));
      const together = await runner.classify(rows);
      for (const [i, { logits }] of golden.items.entries()) {
        assertClose(together[i], logits, 5e-6);
        const [alone] = await runner.classify([rows[i]]);
        assertClose(alone, [...together[i]], 1e-6);
      }
      await runner.release();
    });

    it(`${name} gives the reference's logits for a text pair`, async () => {
      const { pair } = expected<GoldenClassifier>(name);
      const runner = await load(engine, name, "sequence-classification");
      // made with a tokenizer of class TokenizersBackend, which gives ids without segments: all are segment 0
      const [logits] = await runner.classify([{ ids: pair.input_ids }]);
      assertClose(logits, pair.logits, 5e-6);
      await runner.release();
    });
  }

  it("roberta-tiny gives the reference's hidden states of every layer", async () => {
    const golden = expected<GoldenEncoder>("roberta-tiny").hidden;
    const runner = await load(engine, "roberta-tiny", "encoder");
    const states = await runner.hiddenStates(
      golden.map(({ input_ids }) => ({ ids: input_ids })),
      [0, 1, 2, 3],
    );
    for (const [i, { input_ids, layers_first4_of_first_and_last_token: layers }] of golden.entries()) {
      for (const [layer, [first, last]] of layers.entries()) {
        const state = states[i][layer];
        const width = state.length / input_ids.length;
        assertClose(state.slice(0, 4), first, 5e-6);
        const start = (input_ids.length - 1) * width;
        assertClose(state.slice(start, start + 4), last, 5e-6);
      }
    }
    await runner.release();
  });

  it("leaves nothing on the engine after release", async () => {
    const before = engine.stats();
    const runner = await load(engine, "roberta-tiny", "encoder");
    await runner.hiddenStates([{ ids: [0, 5, 2] }, { ids: [0, 2] }, { ids: [0, 5, 2] }], [3]);
    await runner.release();
    assert.deepEqual(engine.stats(), before);
  });
});
