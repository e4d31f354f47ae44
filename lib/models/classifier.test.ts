/**
 * Classifiers under `gradients`, as a trainer uses them: every parameter's gradient against central differences of the
 * loss. Step 2e-2 in float32 leaves an error of about 1e-3 of the gradient's norm, so the bound is 5e-3.
 */
import assert from "node:assert/strict";
import { createEngine, type Engine } from "../engine/index.js";
import { Graph, gradients, type Tensor } from "../graph/index.js";
import type { ActivationName } from "./activation-names.js";
import { activation } from "./activations.js";
import { classifierGraph, classifierLogits } from "./classifier.js";
import { type EncoderConfig, parseEncoderConfig } from "./config.js";
import { encoderGraph, encoderInputs } from "./encoder.js";
import { parameterSpecs } from "./parameters.js";
import { knownWeights } from "./testing/known-weights.js";
import { rowFeeds, runEncoder, weightFeeds } from "./testing/run-encoder.js";

const SIZE = {
  vocab_size: 11,
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 12,
};
const CONFIGS: EncoderConfig[] = [
  parseEncoderConfig({ ...SIZE, model_type: "bert", max_position_embeddings: 9 }),
  parseEncoderConfig({ ...SIZE, model_type: "roberta", max_position_embeddings: 11, type_vocab_size: 1 }),
  parseEncoderConfig({ ...SIZE, model_type: "distilbert", hidden_dim: 12, max_position_embeddings: 9 }),
];
const ROWS = [
  { ids: [2, 5, 9, 4, 3], typeIds: [0, 0, 0, 1, 1] },
  { ids: [2, 7, 3], typeIds: [0, 0, 0] },
];

/** Sum of the logits, weighted so that no two count alike. */
function loss(config: EncoderConfig, graph: Graph): Tensor {
  const logits = classifierLogits(config, encoderInputs(graph, config));
  return logits.mul(graph.constant([1, -2])).reduceSum();
}

describe("classifiers", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
  });
  after(() => engine.close());

  for (const config of CONFIGS) {
    it(`${config.modelType} has the gradient that central differences give, for every parameter`, async () => {
      const specs = parameterSpecs(config, "sequence-classification");
      const weights = knownWeights(specs);
      const graph = new Graph("loss");
      const value = graph.output("loss", loss(config, graph));
      for (const [i, gradient] of gradients(value, graph.parameters).entries()) {
        graph.output(`d.${graph.parameters[i].name}`, gradient);
      }
      assert.deepEqual(graph.parameters.map((p) => p.name).sort(), specs.map((s) => s.name).sort());

      const program = await engine.compile(graph);
      const feeds = { ...weightFeeds(engine, graph, weights), ...rowFeeds(engine, config, ROWS) };
      const outputs = await program.run(feeds);
      const lossAt = async (): Promise<number> => Number((await program.run(feeds)).loss.data[0]);

      for (const { name } of specs) {
        const analytic = outputs[`d.${name}`].data as Float32Array;
        const values = feeds[name].data as Float32Array;
        const norm = Math.max(1e-2, Math.hypot(...analytic));
        for (const i of [0, Math.floor(values.length / 2), values.length - 1]) {
          const kept = values[i];
          const step = 2e-2;
          values[i] = kept + step;
          const up = await lossAt();
          values[i] = kept - step;
          const down = await lossAt();
          values[i] = kept;
          const numeric = (up - down) / (2 * step);
          assert.ok(
            Math.abs(numeric - analytic[i]) <= 5e-3 * norm,
            `${name}[${i}]: ${analytic[i]} against ${numeric}`,
          );
        }
      }
    });
  }

  it("roberta reads its head from the first token: out_proj(tanh(dense(x0)))", async () => {
    const [, config] = CONFIGS;
    const weights = knownWeights(parameterSpecs(config, "sequence-classification"));
    const { logits } = await runEncoder(classifierGraph(config), config, weights, ROWS);
    const { "hidden.2": states } = await runEncoder(encoderGraph(config, [2]), config, weights, ROWS);
    const dense = (name: string, x: number[]): number[] => {
      const [weight, bias] = [weights.get(`${name}.weight`)!, weights.get(`${name}.bias`)!];
      return Array.from(bias, (b, i) =>
        x.reduce((sum, value, j) => sum + value * weight[i * x.length + j], b),
      );
    };
    for (const row of [0, 1]) {
      const x0 = [...states.slice(row * 5 * 8, row * 5 * 8 + 8)];
      const expected = dense("classifier.out_proj", dense("classifier.dense", x0).map(Math.tanh));
      for (const [i, value] of expected.entries()) assert.ok(Math.abs(logits[2 * row + i] - value) < 1e-6);
    }
  });
});

describe("activations", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
  });
  after(() => engine.close());

  // x = 1.5: 0.5·x·(1 + erf(x/√2)), its tanh form, x·σ(1.702x), x, x·σ(x), tanh x
  const AT_1_5: Record<ActivationName, number> = {
    gelu: 1.3997892,
    gelu_python: 1.3997892,
    gelu_new: 1.3995716,
    gelu_pytorch_tanh: 1.3995716,
    gelu_fast: 1.3995716,
    quick_gelu: 1.3916622,
    relu: 1.5,
    silu: 1.2263618,
    swish: 1.2263618,
    tanh: 0.9051483,
  };

  it("give the published formulas' values", async () => {
    const graph = new Graph("activations");
    const x = graph.input("x", "float32", [1]);
    const names = Object.keys(AT_1_5) as ActivationName[];
    for (const name of names) graph.output(name, activation(name, x));
    const program = await engine.compile(graph);
    const values = await program.run({ x: engine.tensor("float32", [1], Float32Array.of(1.5)) });
    for (const name of names) {
      assert.ok(
        Math.abs(Number(values[name].data[0]) - AT_1_5[name]) < 2e-6,
        `${name}: ${values[name].data[0]}`,
      );
    }
  });
});
