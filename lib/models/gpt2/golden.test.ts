import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Graph, gradients, tokenLogprobs } from "../../graph/index.js";
import { gpt2Hidden, gpt2Logits } from "../gpt2.js";
import { gpt2ScoringGraph, selectRows } from "../gpt2-scoring.js";
import {
  assertClose,
  goldenFolder,
  goldenModel,
  int64,
  int64Vector,
  type TinyModel,
} from "./test-support.js";

interface Expected {
  input_ids: number[][];
  last_logits16: number[][];
  argmax_last: number[];
  token_logprobs: number[][];
  lm_loss: {
    sequences: number[][];
    loss: number;
    grad_norms: Record<string, number>;
    grad_first8: Record<string, number[]>;
  };
}

const EXPECTED = JSON.parse(readFileSync(join(goldenFolder(), "expected.json"), "utf8")) as Expected;

/** What the project promises for logits and log-probabilities against transformers. */
const LOGIT_TOLERANCE = 2e-4;
/** What the project promises for a gradient, relative to its norm. */
const GRADIENT_TOLERANCE = 1e-4;

describe("GPT-2 against transformers", () => {
  let model: TinyModel;
  before(async () => {
    model = await goldenModel();
  });
  after(() => model.close());

  it("logits of the last position, each prompt alone", async () => {
    const graph = new Graph("logits");
    const inputIds = graph.input("input_ids", "int64", ["batch", "time"]);
    const places = graph.input("places", "int64", ["count"]);
    const hidden = gpt2Hidden(model.config, { inputIds });
    const logits = graph.output("logits", gpt2Logits(model.config, selectRows(model.config, hidden, places)));
    graph.output("best", logits.argMax());
    for (const [i, ids] of EXPECTED.input_ids.entries()) {
      const out = await model.run(graph, { input_ids: int64([ids]), places: int64Vector([ids.length - 1]) });
      assertClose(out.logits.subarray(0, 16), EXPECTED.last_logits16[i], LOGIT_TOLERANCE);
      assert.equal(Number(out.best[0]), EXPECTED.argmax_last[i]);
    }
  });

  it("token log-probabilities, all prompts in one batch padded on the right", async () => {
    const rows = EXPECTED.input_ids;
    const time = Math.max(...rows.map((ids) => ids.length));
    const places = rows.flatMap((ids, r) => ids.slice(1).map((_, t) => r * time + t));
    const out = await model.run(gpt2ScoringGraph(model.config), {
      input_ids: int64(rows.map((ids) => [...ids, ...new Array<number>(time - ids.length).fill(0)])),
      places: int64Vector(places),
      targets: int64Vector(rows.flatMap((ids) => ids.slice(1))),
    });
    assertClose(out.logprobs, EXPECTED.token_logprobs.flat(), LOGIT_TOLERANCE);
  });

  it("next-token loss and every gradient", async () => {
    const { sequences, loss, grad_norms, grad_first8 } = EXPECTED.lm_loss;
    // mean over sequences of each one's mean, so every sequence is its own graph run; gradients add up
    const graph = new Graph("lm-loss");
    const inputIds = graph.input("input_ids", "int64", [1, "time"]);
    const targets = graph.input("targets", "int64", [1, "next"]);
    const places = graph.input("places", "int64", ["next"]);
    const logits = gpt2Logits(
      model.config,
      selectRows(model.config, gpt2Hidden(model.config, { inputIds }), places),
    );
    const mean = tokenLogprobs(logits, targets.reshape(["next"]))
      .reduceMean()
      .neg();
    graph.output("loss", mean);
    const parameters = [...graph.parameters];
    for (const [i, gradient] of gradients(mean, parameters).entries()) {
      graph.output(`grad:${parameters[i].name}`, gradient);
    }
    let total = 0;
    const sums = new Map<string, Float64Array>();
    for (const ids of sequences) {
      const out = await model.run(graph, {
        input_ids: int64([ids]),
        targets: int64([ids.slice(1)]),
        places: int64Vector(ids.slice(1).map((_, t) => t)),
      });
      total += out.loss[0] / sequences.length;
      for (const { name } of parameters) {
        const gradient = out[`grad:${name}`];
        const sum = sums.get(name!) ?? new Float64Array(gradient.length);
        for (let i = 0; i < gradient.length; i++) sum[i] += gradient[i] / sequences.length;
        sums.set(name!, sum);
      }
    }
    assertClose([total], [loss], 1e-5);
    assert.deepEqual([...sums.keys()].sort(), Object.keys(grad_norms).sort());
    for (const [name, sum] of sums) {
      const norm = Math.sqrt(sum.reduce((acc, g) => acc + g * g, 0));
      const tolerance = GRADIENT_TOLERANCE * grad_norms[name];
      assertClose([norm], [grad_norms[name]], tolerance);
      assertClose(sum.subarray(0, 8), grad_first8[name], tolerance);
    }
  });
});
