import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveCheckpoint } from "../../../lib/checkpoint/index.js";
import { ruleConfig, ruleWeights } from "../../../lib/models/gpt2/test-support.js";
import { parameterSpecs } from "../../../lib/models/parameters.js";
import { PolicyModel } from "../model/policy-model.js";
import { WeightStore } from "../model/weight-store.js";
import { type RequestedOptions, resolveOptions } from "../sampling/options.js";
import { Decoder } from "./decoder.js";

// Results of transformers 4.26.0 and 5.18.0 on the model with weights by rule (13 tokens, 2 layers of width 8)
describe("generation on weights by rule", () => {
  let dir: string;
  let model: PolicyModel;
  let store: WeightStore;
  let decoder: Decoder;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "rlhf-rule-"));
    const config = ruleConfig();
    const specs = parameterSpecs(config, "causal-lm");
    const weights = ruleWeights(specs);
    const tensors = new Map(specs.map(({ name, shape }) => [name, { shape, data: weights.get(name)! }]));
    await saveCheckpoint(dir, { config: config.json, tensors });
    const loaded = await PolicyModel.load({ model: dir, intraOpThreads: 1 });
    model = loaded.model;
    store = new WeightStore();
    const { digest, tensors: own } = loaded.checkpoint;
    store.swap({ version: 0, digest, tensors: await model.upload(own) });
    const limits = {
      maxRows: 8,
      maxCacheBytes: 2 ** 24,
      maxPromptTokens: 64,
      maxWaiting: 64,
      maxWaitingTokens: 10_000,
    };
    decoder = new Decoder(model.engine, model, store, model.geometry(), limits, () => new Uint8Array());
  });
  after(async () => {
    await decoder.close();
    store.close();
    await model.close();
    await rm(dir, { recursive: true });
  });

  /** Prompt and generated ids of each row. */
  async function rows(prompts: number[][], options: RequestedOptions): Promise<number[][]> {
    const { sequences } = await decoder.generate({
      demand: {},
      sequences: prompts.map((promptIds, promptIndex) => ({
        promptIndex,
        returnIndex: 0,
        promptIds,
        options: resolveOptions(options, {}, promptIds.length, { vocabSize: 13, maxTokens: 32 }),
        seed: 1n,
        ownSeed: false,
      })),
    });
    return sequences.map(({ history }) => history.ids);
  }

  it("greedy, 8 new tokens, no end of sequence", async () => {
    assert.deepEqual(await rows([[1, 5, 7]], { maxNewTokens: 8 }), [[1, 5, 7, 7, 7, 7, 7, 7, 5, 7, 7]]);
  });

  it("repetition penalty 10, greedy and sampling with top_k 1", async () => {
    const expected = [[1, 5, 7, 3, 9, 12, 11, 9, 6, 12, 12]];
    const options = { maxNewTokens: 8, repetitionPenalty: 10 };
    assert.deepEqual(await rows([[1, 5, 7]], options), expected);
    assert.deepEqual(await rows([[1, 5, 7]], { ...options, doSample: true, topK: 1 }), expected);
    // minimum length without an end of sequence changes nothing
    assert.deepEqual(
      await rows([[1, 5, 7]], { ...options, doSample: true, topK: 1, minNewTokens: 8, ignoreEos: true }),
      expected,
    );
  });

  it("no-repeat n-gram of 2", async () => {
    assert.deepEqual(await rows([[1, 5, 7]], { maxNewTokens: 8, noRepeatNgramSize: 2 }), [
      [1, 5, 7, 7, 1, 12, 12, 9, 9, 12, 1],
    ]);
  });

  it("end of sequence stays in the output; of several any ends", async () => {
    assert.deepEqual(await rows([[1, 5, 7]], { maxNewTokens: 6, eosTokenIds: [7] }), [[1, 5, 7, 7]]);
    assert.deepEqual(await rows([[1, 5, 7]], { maxNewTokens: 6, eosTokenIds: [9, 4] }), [
      [1, 5, 7, 7, 7, 7, 7, 7, 5],
    ]);
    assert.deepEqual(
      await rows(
        [
          [10, 0],
          [1, 5],
        ],
        { maxNewTokens: 6, eosTokenIds: [9] },
      ),
      [
        [10, 0, 9],
        [1, 5, 9],
      ],
    );
  });

  it("rows of different lengths in one batch", async () => {
    assert.deepEqual(
      await rows(
        [
          [1, 5, 7],
          [1, 5, 7, 2, 9],
        ],
        { maxNewTokens: 5 },
      ),
      [
        [1, 5, 7, 7, 7, 7, 7, 7],
        [1, 5, 7, 2, 9, 9, 9, 9, 9, 9],
      ],
    );
  });
});
