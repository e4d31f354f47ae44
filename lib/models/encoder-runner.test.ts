import assert from "node:assert/strict";
import type { Graph } from "../graph/index.js";
import { parseEncoderConfig } from "./config.js";
import { type Compute, EncoderRunner } from "./encoder-runner.js";
import { parameterSpecs } from "./parameters.js";
import { knownWeights } from "./testing/known-weights.js";

class FakeTensor {
  static live = 0;
  constructor(
    readonly dims: readonly number[],
    readonly data: Float32Array | BigInt64Array,
  ) {
    FakeTensor.live++;
  }
  async read() {
    return this.data;
  }
  release() {
    FakeTensor.live--;
  }
}

/** Says which shapes were run; its "logits" are each row's second id and its length. */
class FakeCompute implements Compute<FakeTensor> {
  readonly runs: (readonly number[])[] = [];
  failures = 0;

  tensor(_dtype: string, dims: readonly number[], data: Float32Array | BigInt64Array): FakeTensor {
    return new FakeTensor(dims, data);
  }

  async compile(_graph: Graph) {
    if (this.failures-- > 0) throw new Error("no memory");
    return {
      run: async ({ input_ids: ids, attention_bias: bias }: Record<string, FakeTensor>) => {
        this.runs.push(ids.dims);
        const [batch, time] = ids.dims;
        const logits = new Float32Array(2 * batch);
        for (let row = 0; row < batch; row++) {
          logits[2 * row] = Number(ids.data[row * time + 1]);
          logits[2 * row + 1] = [...bias.data.slice(row * time, (row + 1) * time)].filter(
            (x) => x === 0,
          ).length;
        }
        return { logits: new FakeTensor([batch, 2], logits) };
      },
      release() {},
    };
  }
}

const CONFIG_JSON = {
  model_type: "bert",
  vocab_size: 99,
  hidden_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 8,
  max_position_embeddings: 32,
};
const CONFIG = parseEncoderConfig(CONFIG_JSON);
const WEIGHTS = knownWeights(parameterSpecs(CONFIG, "sequence-classification"));
const row = (length: number, mark: number) => ({
  ids: Array.from({ length }, (_, t) => (t === 1 ? mark : 7)),
});

describe("EncoderRunner", () => {
  it("gives results in the order asked, whatever order it runs rows in", async () => {
    const compute = new FakeCompute();
    const runner = new EncoderRunner(compute, CONFIG, WEIGHTS, { maxTokens: 100, maxPadding: 0 });
    const rows = [row(3, 10), row(6, 11), row(3, 12), row(2, 13)];
    const logits = await runner.classify(rows);
    assert.deepEqual(
      logits.map((values) => [...values]),
      [
        [10, 3],
        [11, 6],
        [12, 3],
        [13, 2],
      ],
    );
    assert.deepEqual(compute.runs, [
      [1, 6],
      [2, 3],
      [1, 2],
    ]);
  });

  it("invariant: runs rows of one padded length together, and none alone", async () => {
    const compute = new FakeCompute();
    const grouping = { maxTokens: 100, maxPadding: 0.5, invariant: true };
    const runner = new EncoderRunner(compute, CONFIG, WEIGHTS, grouping);
    const logits = await runner.classify([row(3, 10), row(8, 11), row(9, 12), row(31, 13)]);
    assert.deepEqual(
      logits.map((values) => [...values]),
      [
        [10, 3],
        [11, 8],
        [12, 9],
        [13, 31],
      ],
    );
    assert.deepEqual(compute.runs, [
      [2, 32],
      [2, 16],
      [2, 8],
    ]);
    const short = parseEncoderConfig({ ...CONFIG_JSON, max_position_embeddings: 30 });
    const few = new FakeCompute();
    const weights = knownWeights(parameterSpecs(short, "sequence-classification"));
    await new EncoderRunner(few, short, weights, grouping).classify([row(28, 1), row(30, 2)]);
    assert.deepEqual(few.runs, [[2, 30]], "a model has no more positions than it has");
  });

  it("runs identical rows once, but not rows that differ in their segments", async () => {
    const compute = new FakeCompute();
    const runner = new EncoderRunner(compute, CONFIG, WEIGHTS);
    const pair = { ...row(4, 5), typeIds: [0, 0, 1, 1] };
    const logits = await runner.classify([row(4, 5), pair, row(4, 5), pair]);
    assert.equal(logits.length, 4);
    assert.deepEqual(compute.runs, [[2, 4]]);
  });

  it("runs nothing for no rows", async () => {
    const compute = new FakeCompute();
    assert.deepEqual(await new EncoderRunner(compute, CONFIG, WEIGHTS).classify([]), []);
    assert.deepEqual(compute.runs, []);
  });

  it("releases the tensors of each run at once, and the weights at the end", async () => {
    const before = FakeTensor.live;
    const runner = new EncoderRunner(new FakeCompute(), CONFIG, WEIGHTS);
    await runner.classify([]); // compiles, and wraps the weights
    const loaded = FakeTensor.live;
    await runner.classify([row(3, 1), row(9, 1)]);
    assert.equal(FakeTensor.live, loaded);
    await runner.release();
    assert.equal(FakeTensor.live, before);
  });

  it("compiles again after a failure to compile", async () => {
    const compute = new FakeCompute();
    compute.failures = 1;
    const runner = new EncoderRunner(compute, CONFIG, WEIGHTS);
    await assert.rejects(runner.classify([row(3, 1)]), /no memory/);
    assert.equal((await runner.classify([row(3, 1)])).length, 1);
  });

  it("says which weight is missing", async () => {
    const runner = new EncoderRunner(new FakeCompute(), CONFIG, new Map());
    await assert.rejects(
      runner.classify([]),
      /weight bert\.embeddings\.word_embeddings\.weight is not loaded/,
    );
  });
});
