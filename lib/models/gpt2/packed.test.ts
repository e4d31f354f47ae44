import assert from "node:assert/strict";
import { gradients } from "../../graph/gradients.js";
import { Graph, type Tensor } from "../../graph/index.js";
import { type Gpt2Inputs, gpt2Hidden, packedInputs } from "../gpt2.js";
import { assertClose, type Fed, int64, int64Vector, ruleModel, type TinyModel } from "./test-support.js";

const ROWS = [
  [1, 5, 7, 2, 9],
  [3, 8],
  [4, 4, 11],
];
const TIME = 5;
const WIDTH = 8;

/** Hidden states and the gradients of a weighted sum of them over `places`, for every parameter. */
function graphOf(model: TinyModel, inputs: (graph: Graph) => Gpt2Inputs): Graph {
  const graph = new Graph("hidden");
  const hidden = gpt2Hidden(model.config, inputs(graph)).reshape([-1, WIDTH]);
  const rows = hidden.gather(graph.input("read", "int64", ["tokens"]));
  graph.output("hidden", rows);
  const loss: Tensor = rows.mul(graph.input("weights", "float32", ["tokens", WIDTH])).reduceSum();
  for (const [i, gradient] of gradients(loss, graph.parameters).entries()) {
    graph.output(`d ${graph.parameters[i].name}`, gradient);
  }
  return graph;
}

describe("GPT-2 over packed rows", () => {
  let model: TinyModel;
  before(async () => {
    model = await ruleModel();
  });
  after(() => model.close());

  it("gives the states and gradients of padded rows, to which their padding adds nothing", async () => {
    const tokens = ROWS.flatMap((row, r) => row.map((id, t) => ({ id, t, place: r * TIME + t })));
    const starts = [0, 5, 7];
    // the same weight for every element of a token in both forms
    const weights: Fed = {
      dims: [tokens.length, WIDTH],
      data: Float32Array.from({ length: tokens.length * WIDTH }, (_, i) => Math.sin(i)),
    };
    const padded = await model.run(
      graphOf(model, (graph) => ({ inputIds: graph.input("input_ids", "int64", ["batch", "time"]) })),
      {
        input_ids: int64(ROWS.map((row) => [...row, ...new Array<number>(TIME - row.length).fill(12)])),
        read: int64Vector(tokens.map(({ place }) => place)),
        weights,
      },
    );
    const packed = await model.run(graphOf(model, packedInputs), {
      input_ids: int64Vector(tokens.map(({ id }) => id)),
      position_ids: int64Vector(tokens.map(({ t }) => t)),
      // behind a row's end stands a token of another row, which must not matter
      row_tokens: int64(
        ROWS.map((row, r) => Array.from({ length: TIME }, (_, t) => (t < row.length ? starts[r] + t : 3))),
      ),
      token_places: int64Vector(tokens.map(({ place }) => place)),
      read: int64Vector(tokens.map((_, i) => i)),
      weights,
    });
    assert.deepEqual(Object.keys(packed), Object.keys(padded));
    for (const [name, values] of Object.entries(padded)) assertClose(packed[name], values, 2e-5);
  });
});
