import assert from "node:assert/strict";
import type { Engine, EngineTensor, Program } from "../../engine/types.js";
import { cacheName, gpt2RolloutGraph, presentName, rolloutAttention } from "../gpt2-rollout.js";
import { assertClose, ruleConfig, ruleModel, type TinyModel } from "./test-support.js";

/** A rollout graph with a cache of its own, driven by plain arrays. */
class Rollout {
  readonly #caches: Record<string, EngineTensor> = {};

  private constructor(
    readonly model: TinyModel,
    readonly program: Program,
    readonly rows: number,
    cacheLength: number,
  ) {
    const { heads, hiddenSize, layers } = model.config;
    for (let layer = 0; layer < layers; layer++) {
      for (const kind of ["key", "value"] as const) {
        const dims = [rows, heads, cacheLength, hiddenSize / heads];
        const cache = model.engine.tensor("float32", dims);
        // what a finished row left behind must not be seen
        cache.data.fill(7 as never);
        this.#caches[cacheName(layer, kind)] = cache;
      }
    }
  }

  static async create(model: TinyModel, attention: "kernel" | "masked", rows: number, cacheLength = 16) {
    const program = await model.engine.compile(gpt2RolloutGraph(model.config, { attention }));
    return new Rollout(model, program, rows, cacheLength);
  }

  /** One run: `ids[r]` are the new tokens of row r after `past[r]` cached ones. Logits of each row's last token. */
  async run(ids: readonly (readonly number[])[], past: readonly number[]): Promise<Float32Array[]> {
    const { engine, config, weights } = this.model;
    const time = Math.max(...ids.map((row) => row.length));
    const inputIds = new BigInt64Array(this.rows * time);
    const positions = new BigInt64Array(this.rows * time);
    for (let r = 0; r < this.rows; r++) {
      for (let t = 0; t < time; t++) {
        inputIds[r * time + t] = BigInt(ids[r][t] ?? 0);
        positions[r * time + t] = BigInt(past[r] + t);
      }
    }
    const feeds: Record<string, EngineTensor> = {
      ...Object.fromEntries(weights),
      ...this.#caches,
      input_ids: engine.tensor("int64", [this.rows, time], inputIds),
      position_ids: engine.tensor("int64", [this.rows, time], positions),
      last: vector(
        engine,
        "int64",
        ids.map((row, r) => r * time + row.length - 1),
      ),
      lengths: vector(
        engine,
        "int32",
        ids.map((row, r) => past[r] + row.length - 1),
      ),
      longest: vector(engine, "int32", [Math.max(...ids.map((row, r) => past[r] + row.length))]),
    };
    delete feeds["v_head.summary.weight"];
    delete feeds["v_head.summary.bias"];
    const into: Record<string, EngineTensor> = {};
    for (let layer = 0; layer < config.layers; layer++) {
      for (const kind of ["key", "value"] as const) {
        into[presentName(layer, kind)] = this.#caches[cacheName(layer, kind)];
      }
    }
    const out = await this.program.run(feeds, into);
    const logits = (await out.logits.read()) as Float32Array;
    const logprobs = (await out.logprobs.read()) as Float32Array;
    for (const name of ["input_ids", "position_ids", "last", "lengths", "longest"]) feeds[name].release();
    out.logits.release();
    out.logprobs.release();
    const v = config.vocabSize;
    const rows = Array.from({ length: this.rows }, (_, r) => logits.slice(r * v, (r + 1) * v));
    for (const [r, z] of rows.entries()) {
      const max = Math.max(...z);
      const lse = max + Math.log(z.reduce((sum, x) => sum + Math.exp(x - max), 0));
      assertClose(
        logprobs.subarray(r * v, (r + 1) * v),
        z.map((x) => x - lse),
        2e-6,
      );
    }
    return rows;
  }

  release(): void {
    this.program.release();
    for (const cache of Object.values(this.#caches)) cache.release();
  }
}

function vector(engine: Engine, dtype: "int64" | "int32", values: readonly number[]): EngineTensor {
  const data = dtype === "int64" ? BigInt64Array.from(values.map(BigInt)) : Int32Array.from(values);
  return engine.tensor(dtype, [values.length], data);
}

const argMax = (row: Float32Array) => row.indexOf(Math.max(...row));

/** Greedy continuation of every prompt, all rows stepping together. */
async function greedy(rollout: Rollout, prompts: readonly (readonly number[])[], count: number) {
  const rows = prompts.map((ids) => [...ids]);
  const logits: Float32Array[][] = rows.map(() => []);
  let next = await rollout.run(
    rows,
    rows.map(() => 0),
  );
  for (let step = 1; ; step++) {
    for (const [r, z] of next.entries()) {
      logits[r].push(z);
      rows[r].push(argMax(z));
    }
    if (step === count) return { rows, logits };
    next = await rollout.run(
      rows.map((ids) => ids.slice(-1)),
      rows.map((ids) => ids.length - 1),
    );
  }
}

/** Every logit row of a greedy run, in one line of numbers. */
const flat = (logits: readonly Float32Array[][]) => logits.flat().flatMap((row) => [...row]);

describe("GPT-2 with a cache", () => {
  it("continues greedily as transformers does", async () => {
    const model = await ruleModel();
    const rollout = await Rollout.create(model, "masked", 1);
    const { rows } = await greedy(rollout, [[1, 5, 7]], 8);
    assert.deepEqual(rows[0], [1, 5, 7, 7, 7, 7, 7, 7, 5, 7, 7]);
    rollout.release();
    await model.close();
  });

  it("rows of different lengths continue as in transformers' left-padded batch", async () => {
    const model = await ruleModel();
    const rollout = await Rollout.create(model, "masked", 2);
    const { rows } = await greedy(
      rollout,
      [
        [1, 5, 7],
        [1, 5, 7, 2, 9],
      ],
      5,
    );
    assert.deepEqual(rows, [
      [1, 5, 7, 7, 7, 7, 7, 7],
      [1, 5, 7, 2, 9, 9, 9, 9, 9, 9],
    ]);
    rollout.release();
    await model.close();
  });

  it("takes the kernel where it exists", () => {
    assert.equal(rolloutAttention(ruleConfig({ n_head: 1 }), "cpu"), "kernel"); // heads of 8
    assert.equal(rolloutAttention(ruleConfig(), "cpu"), "masked"); // heads of 4
    assert.equal(rolloutAttention(ruleConfig({ n_head: 1 }), "cuda"), "masked"); // float32
  });
});

// one head of width 8, which both forms can compute
for (const attention of ["kernel", "masked"] as const) {
  describe(`GPT-2 with a cache, attention: ${attention}`, () => {
    const PROMPTS = [[1, 5, 7], [1, 5, 7, 2, 9], [10], [4, 4]];
    let model: TinyModel;
    before(async () => {
      model = await ruleModel({ n_head: 1 });
    });
    after(() => model.close());

    it("rows of different lengths equal each row alone", async () => {
      const together = await Rollout.create(model, attention, PROMPTS.length);
      const { rows, logits } = await greedy(together, PROMPTS, 6);
      together.release();
      for (const [r, prompt] of PROMPTS.entries()) {
        const alone = await Rollout.create(model, attention, 1);
        const single = await greedy(alone, [prompt], 6);
        assert.deepEqual(rows[r], single.rows[0]);
        assertClose(flat([logits[r]]), flat(single.logits), 1e-6);
        alone.release();
      }
    });

    it("both forms agree", async () => {
      const [one, other] = [
        await Rollout.create(model, attention, PROMPTS.length),
        await Rollout.create(model, "masked", PROMPTS.length),
      ];
      assertClose(
        flat((await greedy(one, PROMPTS, 6)).logits),
        flat((await greedy(other, PROMPTS, 6)).logits),
        1e-6,
      );
      one.release();
      other.release();
    });

    it("steps equal a run over the whole row, whatever the scaling of attention", async () => {
      const changed = await ruleModel({
        n_head: 1,
        scale_attn_by_inverse_layer_idx: true,
        scale_attn_weights: false,
      });
      const [cached, plain] = [
        await Rollout.create(changed, attention, 1),
        await Rollout.create(changed, attention, 1),
      ];
      await cached.run([[1, 5, 7, 2]], [0]);
      const [stepped] = await cached.run([[9]], [4]);
      const [whole] = await plain.run([[1, 5, 7, 2, 9]], [0]);
      assertClose(stepped, whole, 1e-6);
      cached.release();
      plain.release();
      await changed.close();
    });
  });
}
