import assert from "node:assert/strict";
import { createEngine, type Engine } from "../engine/index.js";
import { Graph, gradients, tokenLogprobs } from "../graph/index.js";
import { type EncoderConfig, parseEncoderConfig } from "./config.js";
import { encoderInputs } from "./encoder.js";
import { maskedLmHidden, maskedLmLogits } from "./masked-lm.js";
import { parameterSpecs } from "./parameters.js";
import { knownWeights } from "./testing/known-weights.js";
import { rowFeeds, weightFeeds } from "./testing/run-encoder.js";

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
  parseEncoderConfig({
    ...SIZE,
    model_type: "bert",
    max_position_embeddings: 9,
    tie_word_embeddings: false,
  }),
];
const ROWS = [{ ids: [2, 5, 4, 4, 3] }, { ids: [2, 4, 3] }];
/** Rows of the hidden states [2 · 5, D] to find a token at, and the tokens. */
const PLACES = [2, 3, 6];
const LABELS = [9, 7, 6];

describe("masked language models", () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
  });
  after(() => engine.close());

  for (const config of CONFIGS) {
    const untied = config.json.tie_word_embeddings === false;
    const name = `${config.modelType}${untied ? ", untied," : ""}`;
    it(`${name} has the gradient of the loss that central differences give, for every parameter`, async () => {
      const specs = parameterSpecs(config, "masked-lm");
      const weights = knownWeights(specs);
      const graph = new Graph("loss");
      const hidden = maskedLmHidden(config, encoderInputs(graph, config)).reshape([-1, config.hiddenSize]);
      const places = graph.input("places", "int64", ["tokens"]);
      const labels = graph.input("labels", "int64", ["tokens"]);
      const logits = maskedLmLogits(config, hidden.gather(places));
      const loss = graph.output("loss", tokenLogprobs(logits, labels).reduceMean().neg());
      for (const [i, gradient] of gradients(loss, graph.parameters).entries()) {
        graph.output(`d.${graph.parameters[i].name}`, gradient);
      }
      assert.deepEqual(graph.parameters.map((p) => p.name).sort(), specs.map((s) => s.name).sort());

      const program = await engine.compile(graph);
      const int64 = (values: number[]) =>
        engine.tensor("int64", [values.length], BigInt64Array.from(values, BigInt));
      const feeds = {
        ...weightFeeds(engine, graph, weights),
        ...rowFeeds(engine, config, ROWS),
        places: int64(PLACES),
        labels: int64(LABELS),
      };
      const outputs = await program.run(feeds);
      const lossAt = async (): Promise<number> => Number((await program.run(feeds)).loss.data[0]);
      for (const { name: parameter } of specs) {
        const analytic = outputs[`d.${parameter}`].data as Float32Array;
        const values = feeds[parameter as keyof typeof feeds].data as Float32Array;
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
            `${parameter}[${i}]: ${analytic[i]} against ${numeric}`,
          );
        }
      }
    });
  }

  it("put their output layer on the word embedding, unless the config unties it", () => {
    const names = (config: EncoderConfig) => parameterSpecs(config, "masked-lm").map(({ name }) => name);
    for (const config of CONFIGS.slice(0, 3)) {
      assert.deepEqual(
        names(config).filter((name) => /decoder|vocab_projector\.weight/.test(name)),
        [],
      );
    }
    assert.ok(names(CONFIGS[3] as EncoderConfig).includes("cls.predictions.decoder.weight"));
  });
});
