import assert from "node:assert/strict";
import { Graph } from "../../graph/index.js";
import type { Gpt2Config } from "../config.js";
import { gpt2Logits, gpt2States } from "../gpt2.js";
import { gpt2ScoringGraph } from "../gpt2-scoring.js";
import { assertClose, type Fed, int64, int64Vector, ruleModel, type TinyModel } from "./test-support.js";

// Numbers of transformers 4.26.0 and 5.18.0 on weights by rule; they agree to 3e-7, and 5e-6 is the tolerance
// that a float32 computation in another order of summation needs.
const TOLERANCE = 5e-6;
const IDS = [1, 5, 7, 2, 9];

/** Logits and every hidden state of all positions. */
function statesGraph(config: Gpt2Config, { padded = false } = {}): Graph {
  const graph = new Graph("states");
  const states = gpt2States(config, {
    inputIds: graph.input("input_ids", "int64", ["batch", "time"]),
    positionIds: graph.input("position_ids", "int64", ["batch", "time"]),
    attentionBias: padded ? graph.input("attention_bias", "float32", ["batch", 1, 1, "time"]) : undefined,
  });
  for (const [i, state] of states.entries()) graph.output(`hidden.${i}`, state);
  graph.output("logits", gpt2Logits(config, states[config.layers]));
  return graph;
}

function row(values: Float32Array, index: number, width: number): Float32Array {
  return values.subarray(index * width, (index + 1) * width);
}

function maskFed(mask: readonly number[]): Fed {
  const bias = mask.map((m) => (m === 1 ? 0 : -3.4028234663852886e38));
  return { dims: [1, 1, 1, mask.length], data: Float32Array.from(bias) };
}

describe("GPT-2 on weights by rule", () => {
  let model: TinyModel;
  before(async () => {
    model = await ruleModel();
  });
  after(() => model.close());

  it("the weights follow the rule", () => {
    const wte = model.weights.get("transformer.wte.weight")!.data as Float32Array;
    assertClose(
      wte.subarray(0, 8),
      [-0.3304713, 0.01325171, 0.3863783, -0.2068432, -0.3331942, -0.2133366, 0.03824852, 0.2143118],
      1e-7,
    );
  });

  it("gives the known logits and hidden states", async () => {
    const out = await model.run(statesGraph(model.config), {
      input_ids: int64([IDS]),
      position_ids: int64([[0, 1, 2, 3, 4]]),
    });
    assertClose(
      row(out.logits, 4, 13),
      [
        -0.361333, 0.613662, -0.180781, -0.582354, -0.225591, -1.032939, 0.308581, -1.213319, -0.542746,
        1.570885, -0.943163, 0.385415, 0.702418,
      ],
      TOLERANCE,
    );
    assertClose(
      row(out.logits, 0, 13),
      [
        -0.018798, 0.525503, -0.377738, -0.779519, -0.537131, -1.092129, 0.38098, -0.966605, -0.020212,
        1.751548, -0.823691, 0.565815, 0.529713,
      ],
      TOLERANCE,
    );
    assertClose(
      row(out["hidden.1"], 4, 8),
      [1.306161, -1.681235, -0.059575, 1.089847, -0.50898, -0.536713, 0.057299, -0.203707],
      TOLERANCE,
    );
    assertClose(
      row(out["hidden.2"], 4, 8),
      [0.932448, -1.674928, 0.346165, 1.744863, -0.86655, -0.102214, -0.320549, -0.476419],
      TOLERANCE,
    );
  });

  it("scores tokens given their prefixes", async () => {
    const out = await model.run(
      gpt2ScoringGraph(model.config, { values: true, entropy: true, distribution: true }),
      {
        input_ids: int64([IDS]),
        places: int64Vector([0, 1, 2, 3]),
        targets: int64Vector([5, 7, 2, 9]),
      },
    );
    const expected = [-3.938339, -2.776487, -2.733894, -1.251641];
    assertClose(out.logprobs, expected, TOLERANCE);
    assertClose(
      [5, 7, 2, 9].map((id, i) => row(out.distribution, i, 13)[id]),
      expected,
      TOLERANCE,
    );
    for (let i = 0; i < 4; i++) {
      const p = row(out.distribution, i, 13);
      const entropy = -p.reduce((sum, logp) => sum + Math.exp(logp) * logp, 0);
      assertClose([out.entropy[i]], [entropy], TOLERANCE);
    }
    // the value head is linear in the last hidden state, which the test above pins
    const states = await model.run(statesGraph(model.config), {
      input_ids: int64([IDS]),
      position_ids: int64([[0, 1, 2, 3, 4]]),
    });
    const weight = model.weights.get("v_head.summary.weight")!.data as Float32Array;
    const bias = model.weights.get("v_head.summary.bias")!.data as Float32Array;
    const value = row(states["hidden.2"], 3, 8).reduce((sum, x, i) => sum + x * weight[i], bias[0]);
    assertClose([out.values[3]], [value], TOLERANCE);
  });

  it("left padding with mask and positions equals the row alone; without positions it differs", async () => {
    const alone = [
      -0.57006, -0.116806, 0.128916, 1.110393, 0.712453, 0.672377, -1.355378, 1.13514, 0.399076, -1.391251,
      0.329123, -0.662921, -0.138541,
    ];
    const plain = await model.run(statesGraph(model.config), {
      input_ids: int64([[1, 5, 7]]),
      position_ids: int64([[0, 1, 2]]),
    });
    assertClose(row(plain.logits, 2, 13), alone, TOLERANCE);
    const padded = statesGraph(model.config, { padded: true });
    const left = { input_ids: int64([[0, 0, 1, 5, 7]]), attention_bias: maskFed([0, 0, 1, 1, 1]) };
    const right = await model.run(padded, { ...left, position_ids: int64([[1, 1, 0, 1, 2]]) });
    assertClose(row(right.logits, 4, 13), alone, TOLERANCE);
    const wrong = await model.run(padded, { ...left, position_ids: int64([[0, 1, 2, 3, 4]]) });
    assertClose(
      row(wrong.logits, 4, 13),
      [
        -0.671948, 0.331928, -0.097318, 0.049479, 0.407136, 0.501956, -0.895739, 1.479831, -0.183717,
        -0.84781, 0.559932, 0.185854, 0.525368,
      ],
      TOLERANCE,
    );
  });

  it("obeys the switches of attention scaling", async () => {
    const inputs = { input_ids: int64([IDS]), position_ids: int64([[0, 1, 2, 3, 4]]) };
    const cases: [Record<string, unknown>, number[]][] = [
      [
        { scale_attn_by_inverse_layer_idx: true },
        [
          -0.366121, 0.619814, -0.180189, -0.573491, -0.226096, -1.025709, 0.307272, -1.207816, -0.55394,
          1.570428, -0.946506, 0.387146, 0.710025,
        ],
      ],
      [
        { scale_attn_weights: false },
        [
          -0.398806, 0.616792, -0.199349, -0.563824, -0.174433, -1.066762, 0.241088, -1.203836, -0.539957,
          1.546967, -0.970229, 0.370387, 0.720341,
        ],
      ],
      // only the precision of attention, which is float32 here anyway
      [
        { reorder_and_upcast_attn: true },
        [
          -0.361333, 0.613662, -0.180781, -0.582354, -0.225591, -1.032939, 0.308581, -1.213319, -0.542746,
          1.570885, -0.943163, 0.385415, 0.702418,
        ],
      ],
    ];
    for (const [overrides, expected] of cases) {
      const changed = await ruleModel(overrides);
      const out = await changed.run(statesGraph(changed.config), inputs);
      assertClose(row(out.logits, 4, 13), expected, TOLERANCE);
      await changed.close();
    }
  });

  it("reads an output layer of its own where the config unties it", async () => {
    const untied = await ruleModel({ tie_word_embeddings: false });
    const inputs = { input_ids: int64([IDS]), position_ids: int64([[0, 1, 2, 3, 4]]) };
    const out = await untied.run(statesGraph(untied.config), inputs);
    const tied = await model.run(statesGraph(model.config), inputs);
    assertClose(out["hidden.2"], tied["hidden.2"], 0);
    const head = untied.weights.get("lm_head.weight")!.data as Float32Array;
    const hidden = row(out["hidden.2"], 4, 8);
    const expected = Array.from({ length: 13 }, (_, id) =>
      row(head, id, 8).reduce((sum, w, i) => sum + w * hidden[i], 0),
    );
    assertClose(row(out.logits, 4, 13), expected, TOLERANCE);
    await untied.close();
  });

  it("leaves nothing alive in the engine", () => {
    const { liveTensors, programs, leaked } = model.engine.stats();
    assert.deepEqual(
      { liveTensors, programs, leaked },
      { liveTensors: model.weights.size, programs: 0, leaked: 0 },
    );
  });
});
