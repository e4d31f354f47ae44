/**
 * Numbers from running transformers 4.26, 5.18 and (masked language models) 5.24 on models whose weights follow a rule (testing/known-weights.ts).
 * Tolerance 5e-6: float32 sums in another order.
 */
import assert from "node:assert/strict";
import { Graph, gradients, tokenLogprobs } from "../graph/index.js";
import { classifierGraph } from "./classifier.js";
import { type EncoderConfig, parseEncoderConfig } from "./config.js";
import { encoderGraph, encoderInputs } from "./encoder.js";
import { maskedLmHidden, maskedLmLogits } from "./masked-lm.js";
import { type ModelTask, parameterSpecs } from "./parameters.js";
import { knownTensor, knownWeights } from "./testing/known-weights.js";
import { runEncoder } from "./testing/run-encoder.js";

const SIZE = {
  vocab_size: 17,
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 16,
};
const BERT = parseEncoderConfig({ ...SIZE, model_type: "bert", max_position_embeddings: 16 });
const ROBERTA = parseEncoderConfig({
  ...SIZE,
  model_type: "roberta",
  max_position_embeddings: 18,
  type_vocab_size: 1,
  layer_norm_eps: 1e-5,
});
const DISTILBERT = parseEncoderConfig({
  ...SIZE,
  model_type: "distilbert",
  hidden_dim: 16,
  max_position_embeddings: 16,
});

const weights = (config: EncoderConfig, task: ModelTask) =>
  knownWeights(parameterSpecs(config, task), (name) =>
    config.modelType === "roberta" ? name.replace("roberta.", "") : name,
  );

function assertClose(actual: Float32Array, expected: readonly number[], tolerance = 5e-6): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i] - value) <= tolerance, `[${i}] expected ${value}, got ${actual[i]}`);
  }
}

describe("encoders, against known answers", () => {
  it("the rule for weights is the one the answers were made with", () => {
    const expected = [
      -0.3304713, 0.01325171, 0.3863783, -0.2068432, -0.3331942, -0.2133366, 0.03824852, 0.2143118,
    ];
    assertClose(knownTensor("transformer.wte.weight", [13, 8]).slice(0, 8), expected, 1e-7);
  });

  it("BERT gives the reference's hidden states after each layer", async () => {
    const graph = encoderGraph(BERT, [0, 1, 2]);
    const states = await runEncoder(graph, BERT, weights(BERT, "encoder"), [{ ids: [2, 5, 9, 11, 3] }]);
    const firstRows = [
      [1.193475, 0.311013, -0.460545, 1.213478, -1.53007, 0.801687, -0.557291, -0.953227],
      [0.431729, -0.353623, 0.081345, 1.956656, -1.64663, 0.635998, -0.354982, -0.695483],
      [0.785611, -0.663894, -0.185313, 2.064832, -1.722799, 0.449636, -0.514487, -0.168854],
    ];
    for (const [layer, row] of firstRows.entries()) assertClose(states[`hidden.${layer}`].slice(0, 8), row);
  });

  it("a BERT classifier gives the reference's logits, alone and beside a longer row", async () => {
    const rows = [{ ids: [2, 5, 9, 11, 3] }, { ids: [2, 7, 3] }];
    const expected = [0.4366993, -0.125325, 0.4350766, -0.0908638];
    const graph = classifierGraph(BERT);
    const classifier = weights(BERT, "sequence-classification");
    assertClose((await runEncoder(graph, BERT, classifier, rows)).logits, expected);
    assertClose((await runEncoder(graph, BERT, classifier, rows.slice(1))).logits, expected.slice(2));
  });

  it("a DistilBERT classifier gives the reference's logits", async () => {
    const rows = [{ ids: [2, 5, 9, 11, 3] }];
    const classifier = weights(DISTILBERT, "sequence-classification");
    assertClose(
      (await runEncoder(classifierGraph(DISTILBERT), DISTILBERT, classifier, rows)).logits,
      [-0.143541, 0.260647],
    );
    const { "hidden.2": last } = await runEncoder(
      encoderGraph(DISTILBERT, [2]),
      DISTILBERT,
      classifier,
      rows,
    );
    assertClose(
      last.slice(0, 8),
      [0.517101, 2.236783, -0.86824, -0.049603, -0.318856, -0.763014, 0.094031, -0.737739],
    );
  });

  it("RoBERTa gives the reference's hidden states, counting positions from the ids", async () => {
    const rows = [{ ids: [0, 5, 9, 11, 2] }, { ids: [0, 7, 2] }];
    const states = await runEncoder(
      encoderGraph(ROBERTA, [0, 1, 2]),
      ROBERTA,
      weights(ROBERTA, "encoder"),
      rows,
    );
    const expected = [
      [
        [-1.025236, 0.601759, -1.143025, 0.15722, -0.729836, 2.021931, -0.024664, 0.016802],
        [-0.361232, -1.354027, -0.549583, 1.325524, 0.448255, 1.446727, -0.741909, -0.090417],
      ],
      [
        [-1.332834, 0.495423, -0.75938, -0.483311, 0.000236, 2.467191, -0.014042, -0.188604],
        [-0.248903, -1.186363, -0.192725, 0.44077, 1.421432, 1.403062, -1.740533, 0.035816],
      ],
      [
        [-1.018557, 0.83361, -0.976059, 0.163083, 0.001365, 2.018533, -0.007614, -0.903881],
        [0.130096, -0.874389, -1.012007, 0.21824, 1.344924, 1.669646, -1.053437, -0.380107],
      ],
    ];
    for (const [layer, [first, second]] of expected.entries()) {
      const state = states[`hidden.${layer}`];
      assertClose(state.slice(0, 8), first); // row 0 of the first text
      assertClose(state.slice(6 * 8, 7 * 8), second); // row 1 of the second, which is padded to 5
    }
  });

  const MASKED: [EncoderConfig, number[], number, number[], Record<string, [number, number[]]>][] = [
    [
      BERT,
      [2, 4, 9, 4, 3],
      2.8210278,
      [0.776128, -0.596998, -0.249847, 0.020719, -0.58159, 1.274684, -0.625786, -0.510315],
      {
        "bert.embeddings.word_embeddings.weight": [2.102768, [0.118256, -0.032993, -0.021714]],
        "bert.encoder.layer.0.attention.self.query.weight": [0.053007, [-0.001116, 0.001265, -0.003539]],
        "cls.predictions.bias": [0.629573, [0.062264, 0.02856, 0.027715]],
        "cls.predictions.transform.dense.weight": [2.326909, [0.142023, -0.085081, -0.094802]],
        "cls.predictions.transform.LayerNorm.weight": [0.504647, [-0.284709, -0.02618, 0.044269]],
      },
    ],
    [
      ROBERTA,
      [0, 16, 9, 16, 2],
      3.0060582,
      [0.847101, 1.249743, -0.317248, 0.468241, -0.22056, -0.418536, -1.204969, 0.202326],
      {
        "roberta.embeddings.word_embeddings.weight": [1.935408, [-0.048924, 0.168235, -0.151313]],
        "roberta.encoder.layer.0.attention.self.query.weight": [0.022002, [-0.001806, 0.002209, 0.002335]],
        "lm_head.bias": [0.661763, [0.10327, 0.116508, 0.03383]],
        "lm_head.dense.weight": [2.861221, [0.27692, 0.133441, -0.217801]],
        "lm_head.layer_norm.weight": [0.443692, [-0.10671, 0.307752, -0.102546]],
      },
    ],
    [
      DISTILBERT,
      [2, 4, 9, 4, 3],
      2.5428858,
      [0.528848, -0.114523, 0.248388, -0.286329, -0.757966, 1.143031, 0.225418, 0.633408],
      {
        "distilbert.embeddings.word_embeddings.weight": [2.293741, [-0.002212, 0.005215, -0.007178]],
        "distilbert.transformer.layer.0.attention.q_lin.weight": [
          0.141732,
          [-0.007862, -0.017521, -0.013145],
        ],
        "vocab_projector.bias": [0.642538, [0.057771, 0.032812, 0.041833]],
        "vocab_transform.weight": [1.70557, [0.139909, 0.425482, 0.084364]],
        "vocab_layer_norm.weight": [0.198723, [-0.083654, -0.01853, -0.029784]],
      },
    ],
  ];
  for (const [config, ids, loss, logits, grads] of MASKED) {
    it(`a masked ${config.modelType} gives the reference's logits, loss and gradients`, async () => {
      const graph = new Graph("masked");
      const hidden = maskedLmHidden(config, encoderInputs(graph, config));
      const all = graph.output("logits", maskedLmLogits(config, hidden)); // [1, 5, V]
      // tokens 5 and 11 stood at places 1 and 3
      const asked = all.reshape([-1, config.vocabSize]).gather(graph.constant(BigInt64Array.of(1n, 3n)));
      const found = tokenLogprobs(asked, graph.constant(BigInt64Array.of(5n, 11n)));
      const value = graph.output("loss", found.reduceMean().neg());
      for (const [i, gradient] of gradients(value, graph.parameters).entries()) {
        graph.output(`d.${graph.parameters[i].name}`, gradient);
      }
      const outputs = await runEncoder(graph, config, weights(config, "masked-lm"), [{ ids }]);
      const { vocabSize } = config;
      assertClose(outputs.logits.slice(vocabSize, vocabSize + logits.length), logits);
      assertClose(outputs.loss, [loss]);
      for (const [name, [norm, first]] of Object.entries(grads)) {
        const gradient = outputs[`d.${name}`];
        assert.ok(Math.abs(Math.hypot(...gradient) - norm) <= 1e-4 * norm, `norm of ${name}`);
        assertClose(gradient.slice(0, 3), first);
      }
    });
  }

  it("a layer outside the model is refused", () => {
    assert.throws(() => encoderGraph(BERT, [3]), /layer: expected 0 to 2, got 3/);
  });
});
