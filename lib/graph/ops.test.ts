/**
 * @file What the ops compute, on ONNX Runtime, in numbers a reader can check.
 */
import assert from "node:assert/strict";
import {
  clip,
  concat,
  crossEntropy,
  type DType,
  dimValue,
  entropyFromLogits,
  Graph,
  gather,
  gatherElements,
  gatherNd,
  gelu,
  geluTanh,
  groupQueryAttention,
  layerNorm,
  linear,
  logSumExp,
  maskedMean,
  matmul,
  opNames,
  range,
  scatterElements,
  scatterNd,
  softplus,
  type Tensor,
  tokenLogprobs,
} from "./index.js";
import { runGraph } from "./testing.js";

type Numbers = number | readonly Numbers[];

const seen = new Set<string>();

/** The value of an expression over constants given as nested lists. */
async function value(
  build: (c: (numbers: Numbers, dtype?: DType) => Tensor, graph: Graph) => Tensor,
): Promise<Numbers> {
  const graph = new Graph("value");
  // Inputs rather than constants, so that nothing is folded away before it runs.
  const feeds: Record<string, { dims: number[]; data: number[] }> = {};
  const make = (numbers: Numbers, dtype: DType = "float32"): Tensor => {
    const dims: number[] = [];
    for (let n = numbers; typeof n !== "number"; n = n[0]) dims.push(n.length);
    const name = `x${Object.keys(feeds).length}`;
    feeds[name] = { dims, data: flatten(numbers) };
    return graph.input(name, dtype, dims);
  };
  const result = build(make, graph);
  graph.output("y", result);
  for (const node of graph.schedule()) seen.add(node.op);
  const { y } = await runGraph(graph, feeds);
  assert.deepEqual(y.dims, result.shape);
  return nest(Array.from(y.data), y.dims);
}

function flatten(numbers: Numbers): number[] {
  return typeof numbers === "number" ? [numbers] : numbers.flatMap(flatten);
}

function nest(flat: readonly number[], dims: readonly number[]): Numbers {
  if (dims.length === 0) return flat[0];
  const step = flat.length / dims[0];
  return Array.from({ length: dims[0] }, (_, i) => nest(flat.slice(i * step, (i + 1) * step), dims.slice(1)));
}

function near(actual: Numbers, expected: Numbers, tolerance = 1e-6): void {
  const [a, b] = [actual, expected].map(flatten);
  assert.equal(a.length, b.length);
  for (const [i, x] of a.entries()) {
    assert.ok(
      Math.abs(x - b[i]) <= tolerance * Math.max(1, Math.abs(b[i])),
      `[${i}]: ${x}, expected ${b[i]}`,
    );
  }
}

describe("ops", () => {
  it("compute arithmetic", async () => {
    assert.deepEqual(await value((c) => c([1, 2]).add(c([[10], [20]]))), [
      [11, 12],
      [21, 22],
    ]);
    assert.deepEqual(await value((c) => c([1, 2]).sub(3)), [-2, -1]);
    assert.deepEqual(await value((c) => c([1, 2]).mul(c([3, 4]))), [3, 8]);
    assert.deepEqual(await value((c) => c([1, 2]).div(4)), [0.25, 0.5]);
    assert.deepEqual(await value((c) => c([7, -7], "int64").div(2)), [3, -3]);
    assert.deepEqual(await value((c) => c([2, 3]).pow(3)), [8, 27]);
    assert.deepEqual(await value((c) => c([1, 5]).minimum(3)), [1, 3]);
    assert.deepEqual(await value((c) => c([1, 5]).maximum(3)), [3, 5]);
    assert.deepEqual(await value((c) => c([1, -2]).neg()), [-1, 2]);
    assert.deepEqual(await value((c) => c([1, -2]).abs()), [1, 2]);
    assert.deepEqual(await value((c) => c([3, 0, -2]).sign()), [1, 0, -1]);
    assert.deepEqual(await value((c) => c([3, 0, -2]).relu()), [3, 0, 0]);
    assert.deepEqual(await value((c) => clip(c([3, 0, -2]), -1, 1)), [1, 0, -1]);
    assert.deepEqual(await value((c) => clip(c([3, 0, -2]), undefined, 1)), [1, 0, -2]);
    assert.deepEqual(await value((c) => clip(c([3, 0, -2]), 0)), [3, 0, 0]);
    assert.deepEqual(await value((c) => c([4, 9]).sqrt()), [2, 3]);
  });

  it("compute comparisons and choices", async () => {
    assert.deepEqual(await value((c) => c([1, 2, 3]).equal(2)), [0, 1, 0]);
    assert.deepEqual(await value((c) => c([1, 2, 3]).less(2)), [1, 0, 0]);
    assert.deepEqual(await value((c) => c([1, 2, 3]).lessOrEqual(2)), [1, 1, 0]);
    assert.deepEqual(await value((c) => c([1, 2, 3]).greater(2)), [0, 0, 1]);
    assert.deepEqual(await value((c) => c([1, 2, 3]).greaterOrEqual(2)), [0, 1, 1]);
    assert.deepEqual(await value((c) => c([1, 1, 0], "bool").and(c([1, 0, 0], "bool"))), [1, 0, 0]);
    assert.deepEqual(await value((c) => c([1, 1, 0], "bool").or(c([1, 0, 0], "bool"))), [1, 1, 0]);
    assert.deepEqual(await value((c) => c([1, 0], "bool").not()), [0, 1]);
    assert.deepEqual(await value((c) => c([1, 0], "bool").where(c([[5], [6]]), -1)), [
      [5, -1],
      [6, -1],
    ]);
    assert.deepEqual(await value((c) => c([1.9, -1.9, 0]).cast("int64")), [1, -1, 0]);
    assert.deepEqual(await value((c) => c([2, 0]).cast("bool")), [1, 0]);
    assert.deepEqual(await value((c) => c([3]).stopGradient().add(1)), [4]);
  });

  it("compute transcendental functions", async () => {
    near(await value((c) => c([0, 1]).exp()), [1, Math.E]);
    near(await value((c) => c([1, Math.E]).log()), [0, 1]);
    near(await value((c) => c([0, 0.5]).tanh()), [0, Math.tanh(0.5)]);
    near(await value((c) => c([0, Math.log(3)]).sigmoid()), [0.5, 0.75]);
    near(await value((c) => c([0, 0.5, 1]).erf()), [0, 0.5204998778, 0.8427007929]); // tables of erf
    near(await value((c) => softplus(c([0, 100, -100]))), [Math.LN2, 100, 0]);
  });

  it("compute gelu by the exact erf and by tanh", async () => {
    // PyTorch 2: gelu(x) and gelu(x, approximate="tanh") of −3, −1, 0, 1, 3
    near(
      await value((c) => gelu(c([-3, -1, 0, 1, 3]))),
      [-0.004049694, -0.1586552539, 0, 0.8413447461, 2.995950306],
    );
    near(
      await value((c) => geluTanh(c([-3, -1, 0, 1, 3]))),
      [-0.003637392, -0.15880799, 0, 0.84119201, 2.996362608],
      2e-6,
    );
  });

  it("multiply matrices, transposed and scaled as asked", async () => {
    const a = [
      [1, 2],
      [3, 4],
    ];
    const b = [
      [5, 6],
      [7, 8],
    ];
    assert.deepEqual(await value((c) => matmul(c(a), c(b))), [
      [19, 22],
      [43, 50],
    ]);
    assert.deepEqual(await value((c) => matmul(c(a), c(b), { transA: true })), [
      [26, 30],
      [38, 44],
    ]);
    assert.deepEqual(await value((c) => matmul(c(a), c(b), { transB: true, alpha: 0.5 })), [
      [8.5, 11.5],
      [19.5, 26.5],
    ]);
    assert.deepEqual(await value((c) => matmul(c([a, b]), c([b, a]), { transB: true })), [
      [
        [17, 23],
        [39, 53],
      ],
      [
        [17, 39],
        [23, 53],
      ],
    ]);
    assert.deepEqual(await value((c) => linear(c([[a]]), c(b), c([1, -1]))), [
      [
        [
          [20, 21],
          [44, 49],
        ],
      ],
    ]);
    assert.deepEqual(await value((c) => linear(c(a), c(b), c([1, -1]), { transB: true })), [
      [18, 22],
      [40, 52],
    ]);
  });

  it("move elements", async () => {
    const x = [
      [1, 2, 3],
      [4, 5, 6],
    ];
    assert.deepEqual(await value((c) => c(x).reshape([3, -1])), [
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    assert.deepEqual(await value((c) => c(x).transpose()), [
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    assert.deepEqual(await value((c) => c([[1], [2]]).expand([2, 2])), [
      [1, 1],
      [2, 2],
    ]);
    assert.deepEqual(await value((c) => c(x).slice(1, { start: -2, end: -1 })), [[2], [5]]);
    assert.deepEqual(await value((c) => c(x).pad(1, 1, 2)), [
      [0, 1, 2, 3, 0, 0],
      [0, 4, 5, 6, 0, 0],
    ]);
    assert.deepEqual(await value((c) => concat([c(x), c([[7], [8]])], 1)), [
      [1, 2, 3, 7],
      [4, 5, 6, 8],
    ]);
    assert.deepEqual(await value((c) => c(x).split(1, 3)[1]), [[2], [5]]);
    assert.deepEqual(await value((c) => c([7]).unsqueeze(0).squeeze(1).assumeShape([1])), [7]);
    assert.deepEqual(await value((c) => c(x).shapeOf()), [2, 3]);
    assert.deepEqual(await value((c) => range(c(x).graph, 4).add(c([1], "int64"))), [1, 2, 3, 4]);
  });

  it("reduce", async () => {
    const x = [
      [1, 2, 3],
      [4, 5, 6],
    ];
    assert.deepEqual(await value((c) => c(x).reduceSum()), 21);
    assert.deepEqual(await value((c) => c(x).reduceSum([0])), [5, 7, 9]);
    assert.deepEqual(await value((c) => c(x).reduceMean([1], { keepDims: true })), [[2], [5]]);
    assert.deepEqual(await value((c) => c(x).reduceMax([-1])), [3, 6]);
    assert.deepEqual(
      await value((c) =>
        c([
          [1, 3, 3],
          [9, 5, 6],
        ]).argMax(),
      ),
      [1, 0],
    );
    assert.deepEqual(await value((c) => c(x).cumSum(1)), [
      [1, 3, 6],
      [4, 9, 15],
    ]);
    assert.deepEqual(await value((c) => c(x).cumSum(1, { reverse: true })), [
      [6, 5, 3],
      [15, 11, 6],
    ]);
    assert.deepEqual(await value((c) => c([1, 1, 0], "int64").cumSum(0)), [1, 2, 2]);
    near(
      await value((c) =>
        logSumExp(
          c([
            [0, Math.log(3)],
            [1000, 1000],
          ]),
          [1],
        ),
      ),
      [Math.log(4), 1000 + Math.LN2],
    );
  });

  it("compute log-sum-exp where logits are huge, far apart or excluded", async () => {
    const rows = [
      [-1e30, 0, 0],
      [3e38, -3e38, 0],
      [-5000, -5000, -6000],
    ];
    near(await value((c) => logSumExp(c(rows), [-1])), [Math.LN2, 3e38, -5000 + Math.LN2]);
    near(await value((c) => logSumExp(c(rows), [1], { keepDims: true })), [
      [Math.LN2],
      [3e38],
      [-5000 + Math.LN2],
    ]);
    near(await value((c) => logSumExp(c(rows).transpose(), [0])), [Math.LN2, 3e38, -5000 + Math.LN2]);
  });

  it("compute softmax at ordinary and extreme logits", async () => {
    near(
      await value((c) =>
        c([
          [0, Math.log(3)],
          [1000, -1000],
        ]).softmax(),
      ),
      [
        [0.25, 0.75],
        [1, 0],
      ],
    );
    near(
      await value((c) =>
        c([
          [0, Math.log(3)],
          [1000, -1000],
        ]).logSoftmax(),
      ),
      [
        [-Math.log(4), Math.log(0.75)],
        [0, -2000],
      ],
    );
    near(
      await value((c) =>
        c([
          [0, 1],
          [0, 1],
        ]).softmax(0),
      ),
      [
        [0.5, 0.5],
        [0.5, 0.5],
      ],
    );
  });

  it("normalise layers with the biased variance", async () => {
    // mean 2.5, variance 1.25, so x̂ = (−1.5, −0.5, 0.5, 1.5) / √1.25
    const expected = [-1.5, -0.5, 0.5, 1.5].map((d, i) => (d / Math.sqrt(1.25)) * (i + 1) + 10);
    near(
      await value((c) => layerNorm(c([[1, 2, 3, 4]]), c([1, 2, 3, 4]), c([10, 10, 10, 10]), { eps: 1e-12 })),
      [expected],
    );
  });

  it("read and write by index", async () => {
    const x = [
      [1, 2],
      [3, 4],
      [5, 6],
    ];
    assert.deepEqual(await value((c) => gather(c(x), c([[2, 0]], "int64"))), [
      [
        [5, 6],
        [1, 2],
      ],
    ]);
    assert.deepEqual(await value((c) => gather(c(x), c([1], "int32"), 1)), [[2], [4], [6]]);
    assert.deepEqual(await value((c) => gatherElements(c(x), c([[1], [0], [1]], "int64"))), [[2], [3], [6]]);
    assert.deepEqual(
      await value((c) =>
        gatherNd(
          c(x),
          c(
            [
              [2, 1],
              [0, 0],
            ],
            "int64",
          ),
        ),
      ),
      [6, 1],
    );
    assert.deepEqual(await value((c) => gatherNd(c([x, x]), c([[[1]], [[2]]], "int64"), { batchDims: 1 })), [
      [[3, 4]],
      [[5, 6]],
    ]);
    assert.deepEqual(
      await value((c) =>
        scatterNd(
          c(x),
          c([[0], [0]], "int64"),
          c([
            [10, 20],
            [1, 2],
          ]),
          "add",
        ),
      ),
      [
        [12, 24],
        [3, 4],
        [5, 6],
      ],
    );
    assert.deepEqual(await value((c) => scatterNd(c(x), c([[0]], "int64"), c([[10, 20]]))), [
      [10, 20],
      [3, 4],
      [5, 6],
    ]);
    assert.deepEqual(
      await value((c) => scatterElements(c(x), c([[1], [1], [0]], "int64"), c([[10], [20], [30]]), 1, "add")),
      [
        [1, 12],
        [3, 24],
        [35, 6],
      ],
    );
  });

  it("know dimensions that are fixed only in the run", async () => {
    const graph = new Graph("symbolic");
    const x = graph.input("x", "float32", ["batch", "time", 2]);
    graph.output("count", dimValue(graph, "batch*time-1", "float32"));
    graph.output("shape", x.shapeOf());
    graph.output("range", range(graph, "2*time"));
    graph.output("assumed", x.assumeShape(["batch", "2*batch-1", 2]).slice(1, { start: "batch" }));
    for (const node of graph.schedule()) seen.add(node.op);
    const result = await runGraph(graph, {
      x: { dims: [2, 3, 2], data: Array.from({ length: 12 }, () => 0) },
    });
    assert.deepEqual(result.count, { dims: [], data: [5] });
    assert.deepEqual(result.shape.data, [2, 3, 2]);
    assert.deepEqual(result.range.data, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(result.assumed.dims, [2, 1, 2]);
  });

  it("move elements of tensors that turn out to be empty", async () => {
    const graph = new Graph("empty");
    const x = graph.input("x", "float32", ["batch", "time", 4]);
    graph.output("rows", x.reshape([-1, 4]).exp());
    graph.output("heads", x.reshape(["batch", "time", 2, 2]).transpose([0, 2, 1, 3]));
    graph.output("swapped", x.reshape(["time", 4, "batch"]));
    graph.output("sum", x.reduceSum([0, 1]));
    graph.output("none", graph.constant([], { shape: [0, 3] }).reshape([3, 0]));
    const result = await runGraph(graph, { x: { dims: [0, 3, 4], data: [] } });
    const dims = Object.values(result).map((t) => t.dims);
    assert.deepEqual(dims, [[0, 4], [0, 2, 3, 2], [3, 4, 0], [4], [3, 0]]);
    assert.deepEqual(result.sum.data, [0, 0, 0, 0]);
  });

  it("compute masked means, log probabilities, entropy and cross entropy", async () => {
    const quarter = [0, Math.log(3)]; // probabilities 1/4 and 3/4
    assert.equal(await value((c) => maskedMean(c([1, 2, 30]), c([1, 1, 0]))), 1.5);
    near(await value((c) => tokenLogprobs(c([quarter, quarter]), c([0, 1], "int64"))), [
      Math.log(0.25),
      Math.log(0.75),
    ]);
    near(await value((c) => entropyFromLogits(c([quarter, [5, 5]]))), [
      -0.25 * Math.log(0.25) - 0.75 * Math.log(0.75),
      Math.LN2,
    ]);
    near(
      await value((c) => crossEntropy(c([quarter, quarter, quarter]), c([0, -100, 1], "int64"))),
      -(Math.log(0.25) + Math.log(0.75)) / 2,
    );
    assert.ok(Number.isNaN(await value((c) => crossEntropy(c([quarter]), c([-100], "int64")))));
  });

  it("attend over a cache as attention over all tokens at once does", async () => {
    // Two sequences of 3 and 2 tokens, prompt of 2 and 1, then one more token each; heads of 8, keys and values shared.
    const [B, H, D] = [2, 2, 8];
    const rows = (seed: number, n: number): number[] =>
      Array.from({ length: n * H * D }, (_, i) => Math.sin(seed + i * i));
    const outcome = async (
      packed: boolean,
      tokens: number[][],
      past: { k: number[]; v: number[] },
      lengths: number[],
    ) => {
      const graph = new Graph("attention");
      const time = tokens[0].length / (3 * H * D);
      const qkv = graph.input("qkv", "float32", ["batch", "time", 3 * H * D]);
      const cache = (name: string): Tensor => graph.input(name, "float32", ["batch", H, "cache", D]);
      const [query, key, value] = packed ? [qkv] : qkv.split(-1, 3);
      const common = {
        pastKey: cache("k"),
        pastValue: cache("v"),
        seqlensK: graph.input("seqlens", "int32", ["batch"]),
        totalSequenceLength: graph.input("total", "int32", [1]),
      };
      const result = groupQueryAttention({ query, key, value, ...common }, { numHeads: H });
      graph.output("o", result.output);
      graph.output("pk", result.presentKey);
      graph.output("pv", result.presentValue);
      for (const node of graph.schedule()) seen.add(node.op);
      return await runGraph(graph, {
        qkv: { dims: [B, time, 3 * H * D], data: tokens.flat() },
        k: { dims: [B, H, 4, D], data: past.k },
        v: { dims: [B, H, 4, D], data: past.v },
        seqlens: { dims: [B], data: lengths.map((n) => n - 1) },
        total: { dims: [1], data: [Math.max(...lengths)] },
      });
    };
    const sequence = [rows(1, 9), rows(2, 9)]; // 3 tokens of q, k, v each
    const token = (b: number, t: number): number[] => sequence[b].slice(t * 3 * H * D, (t + 1) * 3 * H * D);
    const empty = Array.from({ length: B * H * 4 * D }, () => 0);
    for (const packed of [false, true]) {
      const prompt = await outcome(
        packed,
        [
          [...token(0, 0), ...token(0, 1)],
          [...token(1, 0), ...empty.slice(0, 3 * H * D)],
        ],
        { k: empty, v: empty },
        [2, 1],
      );
      const past = { k: Array.from(prompt.pk.data), v: Array.from(prompt.pv.data) };
      const step = await outcome(packed, [token(0, 2), token(1, 1)], past, [3, 2]);
      near(Array.from(step.o.data), [...attend(sequence[0], 3, H, D), ...attend(sequence[1], 2, H, D)], 1e-5);
    }
  });

  it("have all been run above", () => {
    assert.deepEqual(
      opNames().filter((op) => !seen.has(op)),
      [],
    );
  });
});

/** Attention of the last of `count` tokens over all of them, in plain loops; tokens are rows of q, k, v. */
function attend(tokens: readonly number[], count: number, heads: number, width: number): number[] {
  const size = heads * width;
  const at = (t: number, part: number, h: number, i: number): number =>
    tokens[t * 3 * size + part * size + h * width + i];
  const result: number[] = [];
  for (let h = 0; h < heads; h++) {
    const weights = Array.from({ length: count }, (_, t) => {
      let dot = 0;
      for (let i = 0; i < width; i++) dot += at(count - 1, 0, h, i) * at(t, 1, h, i);
      return Math.exp(dot / Math.sqrt(width));
    });
    const total = weights.reduce((a, b) => a + b);
    for (let i = 0; i < width; i++)
      result.push(weights.reduce((sum, w, t) => sum + (w / total) * at(t, 2, h, i), 0));
  }
  return result;
}
