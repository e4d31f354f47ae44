/**
 * @file Both engines compute the same: every op of lib/graph with its gradient, and training steps.
 */
import assert from "node:assert/strict";
import { formulaCases, gradientCases } from "../../graph/gradient-cases.js";
import {
  type DType,
  dimValue,
  evalShape,
  Graph,
  gradients,
  groupQueryAttention,
  opNames,
  range,
  type Tensor,
} from "../../graph/index.js";
import type { CaseInput, GradientCase } from "../../graph/testing.js";
import { parseModelConfig } from "../../models/config.js";
import { gpt2ScoringGraph } from "../../models/gpt2-scoring.js";
import { initParameters } from "../../models/init.js";
import { parameterSpecs } from "../../models/parameters.js";
import { dtypeInfo } from "../dtypes.js";
import { createEngine, type Engine, type EngineData, type EngineTensor } from "../index.js";
import { createTfjsEngine, type TfjsBackend } from "./engine.js";

/**
 * Largest |a − b| / max(1, |b|) allowed between engines. Both compute in float32; sums of a few dozen numbers near 1 in
 * another order differ by 1e-6, and TensorFlow.js's erf is good to 5e-7. A wrong formula shows as 1e-2 or more.
 */
const TOLERANCE = 1e-5;

/** What is fed to a graph. */
type Feeds = Record<string, { dtype: DType; dims: readonly number[]; data: readonly number[] }>;

/** Cases for ops without gradient, by op name; `b:2` is the symbolic dimension b that is 2 here. */
const plainCases: Record<string, GradientCase> = {
  ...Object.fromEntries(
    (["equal", "less", "lessOrEqual", "greater", "greaterOrEqual"] as const).map((name) => [
      name,
      {
        title: name,
        inputs: { a: { shape: ["b:2", 2], values: [1, 2, 3, 2] }, b: { shape: [2], values: [2, 2] } },
        build: ({ a, b }) => a[name](b).cast("float32"),
      } satisfies GradientCase,
    ]),
  ),
  "logic of truth values": {
    title: "logic",
    inputs: {
      a: { shape: ["n:4"], dtype: "bool", values: [0, 0, 1, 1] },
      b: { shape: ["n:4"], dtype: "bool", values: [0, 1, 0, 1] },
    },
    build: ({ a, b }) => a.and(b).not().or(a).equal(b).expand([2, "n"]).cast("int32"),
  },
  "index of the largest": {
    title: "argMax",
    inputs: { x: { shape: ["b:2", 3], values: [1, 5, 2, 7, 0, 7] } },
    build: ({ x }) => x.argMax(-1),
  },
  "dimensions and positions": {
    title: "dimensions",
    inputs: { x: { shape: ["b:2", "t:3"] } },
    build: ({ x }, graph) => x.shapeOf().reduceSum().add(dimValue(graph, "b*t+1")).add(range(graph, "t")),
  },
  "whole numbers": {
    title: "integers",
    inputs: {
      a: { shape: ["n:4"], dtype: "int64", values: [7, -7, 7, -7] },
      b: { shape: ["n:4"], dtype: "int64", values: [2, 2, -2, -2] },
    },
    build: ({ a, b }) => a.div(b).mul(100).add(a.abs().neg()).sub(b).clip(-350, 1000).maximum(b),
  },
  "casts between all types": {
    title: "casts",
    inputs: { x: { shape: ["n:5"], values: [-1.75, 0, 0.1, 2049, 70000] } },
    build: ({ x }) =>
      x
        .cast("float16")
        .cast("float32")
        .add(x.cast("int64").cast("int32").cast("float32"))
        .add(x.cast("bool").cast("float32").cast("bool").cast("int64").cast("float32")),
  },
  "a barrier to gradients": {
    title: "stopGradient",
    inputs: { x: { shape: ["n:3"] } },
    build: ({ x }) => x.mul(x.stopGradient()),
  },
};

/** A case as a graph with its result and, where `differentiate`, the gradients of a weighted sum of it. */
function caseGraph(
  { title, inputs, build }: GradientCase,
  differentiate: boolean,
): { graph: Graph; feeds: Feeds } {
  const graph = new Graph(title);
  const tensors: Record<string, Tensor> = {};
  const sizes: Record<string, number> = {};
  const feeds: Feeds = {};
  for (const [name, { shape, values, dtype = "float32" }] of Object.entries<CaseInput>(inputs)) {
    const parts = shape.map((dim) => String(dim).split(":"));
    const dims = parts.map((part) => Number(part.at(-1)));
    parts.forEach((part, axis) => {
      if (part.length === 2) sizes[part[0]] = dims[axis];
    });
    tensors[name] = graph.input(
      name,
      dtype,
      parts.map((part) => (part.length === 2 ? part[0] : Number(part[0]))),
    );
    const count = dims.reduce((a, b) => a * b, 1);
    feeds[name] = { dtype, dims, data: values ?? wave(count, 1 + Object.keys(feeds).length) };
  }
  const y = graph.output("result", build(tensors, graph));
  if (!differentiate) return { graph, feeds };
  const dims = evalShape(y.shape, sizes);
  const count = dims.reduce((a, b) => a * b, 1);
  const weights = graph.input("weights", "float32", y.shape);
  feeds.weights = { dtype: "float32", dims, data: wave(count, 5) };
  const wanted = Object.entries(tensors).filter(([, t]) => t.dtype === "float32");
  const found = gradients(
    y.mul(weights).reduceSum(),
    wanted.map(([, t]) => t),
  );
  for (const [i, [name]] of wanted.entries()) graph.output(`gradient of ${name}`, found[i]);
  return { graph, feeds };
}

/** A fixed sequence in (−1, 1), other for every stream. */
function wave(count: number, stream: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.sin(1.7 * (i + 1) + stream));
}

function toTensor(engine: Engine, { dtype, dims, data }: Feeds[string]): EngineTensor {
  return engine.tensor(dtype, dims, toData(dtype, data));
}

function toData(dtype: DType, numbers: readonly number[]): EngineData {
  if (dtype === "int64") return BigInt64Array.from(numbers, BigInt);
  const data = new (dtypeInfo(dtype).array)(numbers.length) as Float32Array;
  data.set(numbers);
  return data;
}

/** Compiles, runs once, and gives the outputs as numbers with their shapes. */
async function runOn(engine: Engine, graph: Graph, feeds: Feeds) {
  const program = await engine.compile(graph);
  const tensors = Object.entries(feeds).map(([name, feed]) => [name, toTensor(engine, feed)] as const);
  const outputs = await program.run(Object.fromEntries(tensors));
  const results: Record<string, { dtype: DType; dims: readonly number[]; data: number[] }> = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    results[name] = { dtype: tensor.dtype, dims: tensor.dims, data: Array.from(await tensor.read(), Number) };
    tensor.release();
  }
  for (const [, tensor] of tensors) tensor.release();
  program.release();
  return results;
}

/** Asserts that both engines give the same for a graph. */
async function compare(reference: Engine, engine: Engine, graph: Graph, feeds: Feeds): Promise<void> {
  const [expected, got] = [await runOn(reference, graph, feeds), await runOn(engine, graph, feeds)];
  assert.deepEqual(Object.keys(got), Object.keys(expected));
  for (const [name, { dtype, dims, data }] of Object.entries(expected)) {
    assert.deepEqual([got[name].dtype, got[name].dims], [dtype, dims], name);
    for (const [i, value] of data.entries()) {
      const error = Math.abs(got[name].data[i] - value) / Math.max(1, Math.abs(value));
      const same = Object.is(got[name].data[i], value) || error <= TOLERANCE;
      assert.ok(same, `${graph.name}: ${name}[${i}]: expected ${value}, got ${got[name].data[i]}`);
    }
  }
}

/** Prompt, one more token for each sequence, or several for one, over grouped heads. */
function attentionCase(title: string, batch: number, time: number, lengths: number[], packed: boolean) {
  const graph = new Graph(title);
  const [heads, kvHeads, size, cache] = [4, 2, 8, 6];
  const width = packed ? (heads + 2 * kvHeads) * size : heads * size;
  const input = (name: string, dims: number[], stream: number) => {
    const count = dims.reduce((a, b) => a * b, 1);
    feeds[name] = { dtype: "float32", dims, data: wave(count, stream) };
    return graph.input(name, "float32", dims);
  };
  const feeds: Feeds = {
    seqlens: { dtype: "int32", dims: [batch], data: lengths.map((length) => length - 1) },
    total: { dtype: "int32", dims: [1], data: [Math.max(...lengths)] },
  };
  const { output, presentKey, presentValue } = groupQueryAttention(
    {
      query: input("query", [batch, time, width], 1),
      ...(packed
        ? {}
        : {
            key: input("key", [batch, time, kvHeads * size], 2),
            value: input("value", [batch, time, kvHeads * size], 3),
          }),
      pastKey: input("pastKey", [batch, kvHeads, cache, size], 4),
      pastValue: input("pastValue", [batch, kvHeads, cache, size], 5),
      seqlensK: graph.input("seqlens", "int32", [batch]),
      totalSequenceLength: graph.input("total", "int32", [1]),
    },
    { numHeads: heads, kvNumHeads: kvHeads },
  );
  // what lies behind a sequence's length is nobody's business: ONNX Runtime leaves it as it was or not
  const filled = lengths.flatMap((length) => Array.from({ length: cache }, (_, i) => Number(i < length)));
  feeds.filled = { dtype: "float32", dims: [batch, 1, cache, 1], data: filled };
  const kept = graph.input("filled", "float32", [batch, 1, cache, 1]);
  graph.output("output", output);
  graph.output("presentKey", presentKey.mul(kept));
  graph.output("presentValue", presentValue.mul(kept));
  return { graph, feeds };
}

const attentionCases = [
  attentionCase("a prompt", 2, 3, [3, 3], false),
  attentionCase("a packed prompt", 1, 4, [4], true),
  attentionCase("one more token for sequences of different lengths", 3, 1, [2, 5, 4], true),
  attentionCase("several more tokens of one sequence", 1, 2, [5], false),
];

for (const backend of ["wasm", "cpu"] satisfies TfjsBackend[]) {
  describe(`TensorFlow.js (${backend}) against ONNX Runtime`, () => {
    let reference: Engine;
    let engine: Engine;
    before(async () => {
      reference = await createEngine({ intraOpThreads: 1 });
      engine = await createTfjsEngine({ backend });
    });
    after(async () => {
      await reference.close();
      await engine.close();
    });

    for (const [op, cases] of Object.entries({ ...gradientCases, formulas: formulaCases })) {
      it(`agrees on ${op} and its gradient`, async () => {
        for (const test of cases) {
          const { graph, feeds } = caseGraph(test, true);
          await compare(reference, engine, graph, feeds);
        }
      });
    }

    for (const [title, test] of Object.entries(plainCases)) {
      it(`agrees on ${title}`, async () => {
        const { graph, feeds } = caseGraph(test, false);
        await compare(reference, engine, graph, feeds);
      });
    }

    for (const { graph, feeds } of attentionCases) {
      it(`agrees on attention over a cache: ${graph.name}`, () => compare(reference, engine, graph, feeds));
    }

    it("agrees on tensors without elements", async () => {
      const graph = new Graph("empty");
      const x = graph.input("x", "float32", ["n", 3]);
      const w = graph.input("w", "float32", [3, 2]);
      const y = x.matmul(w).tanh();
      graph.output("sum", y.reduceSum());
      for (const [i, gradient] of gradients(y.reduceSum(), [x, w]).entries()) graph.output(`d${i}`, gradient);
      await compare(reference, engine, graph, {
        x: { dtype: "float32", dims: [0, 3], data: [] },
        w: { dtype: "float32", dims: [3, 2], data: wave(6, 1) },
      });
    });

    it("trains a small network to the same weights", async () => {
      const graph = mlpStep();
      const data = {
        x: { dtype: "float32" as const, dims: [8, 4], data: wave(32, 1) },
        labels: { dtype: "int64" as const, dims: [8], data: [0, 1, 2, 0, 1, 2, 0, 1] },
      };
      const weights = { w1: wave(4 * 16, 2), b1: wave(16, 3), w2: wave(16 * 3, 4), b2: wave(3, 5) };
      const [expected, got] = [
        await train(reference, graph, data, weights),
        await train(engine, graph, data, weights),
      ];
      assert.ok(expected.losses[9] < expected.losses[0] / 2, `it must learn: ${expected.losses}`);
      assertClose(got.losses, expected.losses, "losses");
      for (const name of Object.keys(weights)) assertClose(got.weights[name], expected.weights[name], name);
    });

    it("agrees on GPT-2's log-probabilities and the gradient of every weight", async () => {
      const config = parseModelConfig({
        model_type: "gpt2",
        vocab_size: 40,
        n_positions: 16,
        n_ctx: 16,
        n_embd: 16,
        n_layer: 2,
        n_head: 2,
        activation_function: "gelu_new",
        layer_norm_epsilon: 1e-5,
      });
      assert.equal(config.modelType, "gpt2");
      const graph = gpt2ScoringGraph(config as Parameters<typeof gpt2ScoringGraph>[0]);
      const { parameters } = graph;
      const found = gradients(graph.outputs[0].tensor.reduceMean(), [...parameters]);
      for (const [i, { name }] of parameters.entries()) graph.output(`gradient of ${name}`, found[i]);
      const specs = parameterSpecs(config, "causal-lm");
      const weights = initParameters(specs, 3);
      const feeds: Feeds = {
        input_ids: { dtype: "int64", dims: [2, 5], data: [1, 7, 3, 9, 22, 4, 4, 39, 0, 11] },
        places: { dtype: "int64", dims: [3], data: [1, 3, 7] },
        targets: { dtype: "int64", dims: [3], data: [3, 22, 0] },
      };
      for (const { name, shape } of parameters) {
        feeds[name as string] = {
          dtype: "float32",
          dims: shape as number[],
          data: Array.from(weights.get(name as string) as Float32Array),
        };
      }
      await compare(reference, engine, graph, feeds);
    });
  });
}

/** One step of gradient descent of a classifier with one hidden layer; weights come out under their own names. */
function mlpStep(): Graph {
  const graph = new Graph("mlp");
  const x = graph.input("x", "float32", ["batch", 4]);
  const labels = graph.input("labels", "int64", ["batch"]);
  const weights = [
    graph.parameter("w1", [4, 16]),
    graph.parameter("b1", [16]),
    graph.parameter("w2", [16, 3]),
    graph.parameter("b2", [3]),
  ];
  const [w1, b1, w2, b2] = weights;
  const logits = x.matmul(w1).add(b1).tanh().matmul(w2).add(b2);
  const loss = logits.logSoftmax(-1).gatherElements(labels.unsqueeze(-1), -1).reduceMean().neg();
  graph.output("loss", loss);
  for (const [i, gradient] of gradients(loss, weights).entries()) {
    graph.output(weights[i].name as string, weights[i].sub(gradient.mul(0.5)));
  }
  return graph;
}

/** Ten steps, updating the weights in place. */
async function train(engine: Engine, graph: Graph, data: Feeds, initial: Record<string, number[]>) {
  const program = await engine.compile(graph);
  const inputs = Object.entries(data).map(([name, feed]) => [name, toTensor(engine, feed)] as const);
  const weights = Object.fromEntries(
    graph.parameters.map(({ name, shape }) => {
      const dims = shape as number[];
      return [name as string, engine.tensor("float32", dims, Float32Array.from(initial[name as string]))];
    }),
  );
  const losses: number[] = [];
  for (let step = 0; step < 10; step++) {
    const { loss } = await program.run({ ...Object.fromEntries(inputs), ...weights }, weights);
    losses.push(Number(loss.data[0]));
    loss.release();
  }
  const trained = Object.entries(weights).map(
    ([name, tensor]) => [name, Array.from(tensor.data, Number)] as const,
  );
  for (const [, tensor] of [...inputs, ...Object.entries(weights)]) tensor.release();
  program.release();
  return { losses, weights: Object.fromEntries(trained) };
}

function assertClose(got: readonly number[], expected: readonly number[], name: string): void {
  const worst = Math.max(
    ...expected.map((value, i) => Math.abs(got[i] - value) / Math.max(1, Math.abs(value))),
  );
  assert.ok(worst <= 10 * TOLERANCE, `${name}: engines differ by ${worst} after ten steps`);
}

describe("the cases of this contract", () => {
  it("use every op of lib/graph", () => {
    const graphs = [
      ...Object.values({ ...gradientCases, formulas: formulaCases }).flatMap((cases) =>
        cases.map((test) => caseGraph(test, true).graph),
      ),
      ...Object.values(plainCases).map((test) => caseGraph(test, false).graph),
      ...attentionCases.map(({ graph }) => graph),
    ];
    const used = new Set(graphs.flatMap((graph) => graph.schedule().map((node) => node.op)));
    assert.deepEqual(
      opNames().filter((op) => !used.has(op)),
      [],
    );
  });
});
