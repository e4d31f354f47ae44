/**
 * @file Functions of every op whose gradients are checked, on this engine and on others.
 */
import {
  add,
  assumeShape,
  clip,
  concat,
  crossEntropy,
  div,
  entropyFromLogits,
  gather,
  gatherElements,
  gatherNd,
  gelu,
  geluTanh,
  globalNorm,
  layerNorm,
  linear,
  logSumExp,
  maskedMean,
  matmul,
  scatterElements,
  scatterNd,
  silu,
  softplus,
  type Tensor,
  where,
} from "./index.js";
import type { CaseInput, GradientCase } from "./testing.js";

const b2t3: CaseInput = { shape: ["b:2", "t:3"] };
const b2t3d4: CaseInput = { shape: ["b:2", "t:3", 4] };
const positive: CaseInput = { shape: ["b:2", 3], values: [0.5, 1, 1.5, 2, 2.5, 3] };
// Every value is at least 1/4 from 0 and from ±1, so that no difference crosses a kink there.
const kinked: CaseInput = { shape: ["b:2", 3], values: [-1.5, -0.75, -0.5, 0.5, 0.75, 1.5] };

function one(title: string, x: CaseInput, build: (x: Tensor) => Tensor): GradientCase {
  return { title, inputs: { x }, build: ({ x }) => build(x) };
}

function two(
  title: string,
  a: CaseInput,
  b: CaseInput,
  build: (a: Tensor, b: Tensor) => Tensor,
): GradientCase {
  return { title, inputs: { a, b }, build: ({ a, b }) => build(a, b) };
}

/** The same binary op for operands of equal shape, broadcast either way, and against a scalar. */
function broadcasts(op: (a: Tensor, b: Tensor) => Tensor, values?: readonly number[]): GradientCase[] {
  const some = (shape: CaseInput["shape"], count: number): CaseInput =>
    values ? { shape, values: values.slice(0, count) } : { shape };
  return [
    two("equal shapes", some(["b:2", "t:3"], 6), some(["b:2", "t:3"], 6), (a, b) => op(a, b.add(0.125))),
    two("b broadcast along a new axis", some(["b:2", "t:3"], 6), some(["t:3"], 3), (a, b) =>
      op(a, b.add(0.125)),
    ),
    two("a broadcast along an axis of 1", some(["b:2", 1], 2), some(["b:2", "t:3"], 6), (a, b) =>
      op(a, b.add(0.125)),
    ),
    two("both broadcast", some(["b:2", 1], 2), some([1, "t:3"], 3), (a, b) => op(a, b.add(0.125))),
    two("b a scalar", some(["b:2", "t:3"], 6), some([], 1), (a, b) => op(a, b.add(0.125))),
    two("all dimensions 1", some([1, 1], 1), some([1], 1), (a, b) => op(a, b.add(0.125))),
  ];
}

const apart = [-1, -0.6875, -0.375, 0.375, 0.6875, 1]; // + 1/8 never comes within 2h of another value

/** At least one case for each op with a gradient, by the op's name; a test fails when one is missing. */
export const gradientCases: Readonly<Record<string, readonly GradientCase[]>> = {
  Add: broadcasts(add),
  Sub: broadcasts((a, b) => a.sub(b)),
  Mul: broadcasts((a, b) => a.mul(b)),
  Div: broadcasts((a, b) => div(a, b), [0.5, 0.75, 1, 1.25, 1.5, 2]),
  Pow: [
    ...broadcasts((a, b) => a.pow(b), [0.5, 0.75, 1, 1.25, 1.5, 2]),
    one("a fixed exponent", positive, (x) => x.pow(1.5)),
    one("a square of numbers of both signs", b2t3, (x) => x.pow(2)),
    one("a cube of numbers of both signs", b2t3, (x) => x.pow(3)),
    one("exponent 0", b2t3, (x) => x.pow(0)),
  ],
  Min: broadcasts((a, b) => a.minimum(b), apart),
  Max: broadcasts((a, b) => a.maximum(b), apart),
  Where: [
    {
      title: "all three broadcast",
      inputs: { c: { shape: ["b:2", 1], dtype: "bool", values: [1, 0] }, a: { shape: ["t:3"] }, b: b2t3 },
      build: ({ c, a, b }) => where(c, a, b),
    },
    {
      title: "a number in one branch",
      inputs: { c: { shape: ["b:2", "t:3"], dtype: "bool", values: [1, 0, 1, 0, 0, 1] }, a: { shape: [] } },
      build: ({ c, a }) => where(c, 0, a.expand(c.shape)),
    },
  ],
  Neg: [one("any numbers", b2t3, (x) => x.neg())],
  Sqrt: [one("positive numbers", positive, (x) => x.sqrt())],
  Exp: [one("any numbers", b2t3, (x) => x.exp())],
  Log: [one("positive numbers", positive, (x) => x.log())],
  Tanh: [one("any numbers", b2t3, (x) => x.mul(2).tanh())],
  Sigmoid: [one("any numbers", b2t3, (x) => x.mul(3).sigmoid())],
  Erf: [one("any numbers", b2t3, (x) => x.mul(2).erf())],
  Relu: [one("both signs", kinked, (x) => x.relu())],
  Abs: [one("both signs", kinked, (x) => x.abs())],
  Sign: [one("both signs, where it is flat", kinked, (x) => x.sign().mul(x))],
  Clip: [
    one("both bounds", kinked, (x) => clip(x, -1, 1)),
    one("only from below", kinked, (x) => clip(x, 0)),
    one("only from above", kinked, (x) => clip(x, undefined, 1)),
  ],
  Gelu: [one("any numbers", b2t3, (x) => gelu(x.mul(3)))],
  GeluTanh: [one("any numbers", b2t3, (x) => geluTanh(x.mul(3)))],
  MatMul: [
    ...[false, true].flatMap((transA) =>
      [false, true].flatMap((transB) => {
        const title = `${transA ? "aᵀ" : "a"}·${transB ? "bᵀ" : "b"}`;
        const a = transA ? [4, "t:3"] : ["t:3", 4];
        const b = transB ? [2, 4] : [4, 2];
        return [
          two(`${title} of matrices`, { shape: a }, { shape: b }, (p, q) =>
            matmul(p, q, { transA, transB, alpha: 0.5 }),
          ),
          two(`${title} of batches`, { shape: ["b:2", 2, ...a] }, { shape: ["b:2", 2, ...b] }, (p, q) =>
            matmul(p, q, { transA, transB }),
          ),
          two(`${title} of batches, scaled`, { shape: ["b:2", ...a] }, { shape: ["b:2", ...b] }, (p, q) =>
            matmul(p, q, { transA, transB, alpha: 0.25 }),
          ),
          two(`${title} of a batch and one matrix`, { shape: ["b:2", ...a] }, { shape: b }, (p, q) =>
            matmul(p, q, { transA, transB }),
          ),
          two(`${title} of one matrix and a batch`, { shape: a }, { shape: ["b:2", ...b] }, (p, q) =>
            matmul(p, q, { transA, transB }),
          ),
        ];
      }),
    ),
    two(
      "batches that broadcast against each other",
      { shape: ["b:2", 1, 2, 3] },
      { shape: [2, 3, 2] },
      (p, q) => matmul(p, q),
    ),
    two("a row by a column", { shape: [1, 4] }, { shape: [4, 1] }, (p, q) => matmul(p, q)),
  ],
  Linear: [
    {
      title: "weight stored [in, out]",
      inputs: { x: b2t3d4, w: { shape: [4, 5] }, b: { shape: [5] } },
      build: ({ x, w, b }) => linear(x, w, b),
    },
    {
      title: "weight stored [out, in]",
      inputs: { x: { shape: ["n:3", 4] }, w: { shape: [5, 4] }, b: { shape: [5] } },
      build: ({ x, w, b }) => linear(x, w, b, { transB: true }),
    },
    two("without bias", b2t3d4, { shape: [5, 4] }, (x, w) => linear(x, w, undefined, { transB: true })),
  ],
  Reshape: [
    one("merges symbolic dimensions", b2t3d4, (x) => x.reshape([-1, 4]).exp()),
    one("splits and keeps symbolic dimensions", b2t3d4, (x) =>
      x.reshape(["b", "t", 2, 2].map((d, i) => (i < 2 ? x.dim(i) : d))).exp(),
    ),
    one("moves symbolic dimensions", b2t3d4, (x) => x.reshape([x.dim(1), 2, x.dim(0), 2]).exp()),
    one("to a scalar", { shape: [1, 1] }, (x) => x.reshape([]).exp()),
  ],
  AssumeShape: [one("renames", b2t3, (x) => assumeShape(x.exp(), [2, 3]).mul(2))],
  Transpose: [
    one("by default the last two axes", b2t3d4, (x) => x.transpose().exp()),
    one("a rotation of three axes", b2t3d4, (x) => x.transpose([1, 2, 0]).exp()),
    one("two rotations", b2t3d4, (x) => x.transpose([1, 2, 0]).transpose([1, 0, 2]).exp()),
  ],
  Expand: [
    one("along an axis of 1 and a new axis", { shape: ["b:2", 1] }, (x) => x.exp().expand([3, x.dim(0), 4])),
    two("to another tensor's symbolic shape", { shape: [1, 3] }, { shape: ["b:2", 3] }, (x, like) =>
      concat([x.exp().expand(like.shape), like], 1),
    ),
  ],
  Slice: [
    one("a middle part", b2t3d4, (x) => x.exp().slice(2, { start: 1, end: 3 })),
    one("the last of a symbolic axis", b2t3d4, (x) => x.exp().slice(1, { start: -1 })),
    one("all but the last of a symbolic axis", b2t3d4, (x) => x.exp().slice(1, { end: -1 })),
  ],
  Pad: [one("before and after", b2t3d4, (x) => x.exp().pad(1, 1, 2))],
  Concat: [
    two("along a symbolic axis", { shape: ["b:2", "t:3"] }, { shape: ["b:2", "s:2"] }, (a, b) =>
      concat([a.exp(), b.exp()], 1),
    ),
    two("along the first axis, one of length 1", { shape: ["b:2", 3] }, { shape: [1, 3] }, (a, b) =>
      concat([a, b.exp(), a], 0),
    ),
  ],
  Split: [
    one("three parts, one of them unused", { shape: ["b:2", 6] }, (x) => {
      const [q, , v] = x.exp().split(1, 3);
      return q.mul(v);
    }),
    one("uneven parts of a symbolic axis", { shape: ["t:3", 2] }, (x) => {
      const [head, tail] = x.exp().split(0, [1, typeof x.dim(0) === "string" ? `${x.dim(0)}-1` : 2]);
      return tail.mul(head);
    }),
  ],
  ReduceSum: [
    one("over everything", b2t3d4, (x) => x.exp().reduceSum()),
    one("over symbolic axes", b2t3d4, (x) => x.exp().reduceSum([0, 1])),
    one("kept as 1", b2t3d4, (x) => x.exp().reduceSum([1], { keepDims: true })),
    one("over axes of 1", { shape: ["b:2", 1] }, (x) => x.exp().reduceSum([-1])),
  ],
  ReduceMean: [
    one("over everything", b2t3d4, (x) => x.exp().reduceMean()),
    one("over a symbolic axis", b2t3d4, (x) => x.exp().reduceMean([1])),
    one("over the last axis, kept as 1", b2t3d4, (x) => x.exp().reduceMean([-1], { keepDims: true })),
  ],
  ReduceMax: [
    one("over everything", { shape: ["b:2", 3], values: apart }, (x) => x.reduceMax()),
    one("over the last axis", { shape: ["b:2", 3], values: apart }, (x) => x.exp().reduceMax([-1])),
    one("over a symbolic axis, kept as 1", { shape: ["b:2", 3], values: apart }, (x) =>
      x.reduceMax([0], { keepDims: true }),
    ),
  ],
  ReduceLogSumExp: [
    one("over everything", b2t3, (x) => logSumExp(x)),
    one("over the last axis", b2t3d4, (x) => logSumExp(x.mul(3), [-1])),
    one("over another axis, kept as 1", b2t3d4, (x) => logSumExp(x, [1], { keepDims: true })),
  ],
  Softmax: [
    one("over the last axis", b2t3d4, (x) => x.mul(2).softmax()),
    one("over a symbolic axis", b2t3d4, (x) => x.softmax(1)),
    one("over one element", { shape: ["b:2", 1] }, (x) => x.softmax()),
  ],
  LogSoftmax: [
    one("over the last axis", b2t3d4, (x) => x.mul(2).logSoftmax()),
    one("over a symbolic axis", b2t3d4, (x) => x.logSoftmax(1)),
  ],
  CumSum: [
    one("along a symbolic axis", b2t3, (x) => x.exp().cumSum(1)),
    one("from the end", b2t3, (x) => x.exp().cumSum(0, { reverse: true })),
  ],
  Gather: [
    {
      title: "rows of a table, one of them twice",
      inputs: {
        table: { shape: [4, 3] },
        ids: { shape: ["b:2", "t:2"], dtype: "int64", values: [3, 1, 3, 0] },
      },
      build: ({ table, ids }) => gather(table.exp(), ids),
    },
    {
      title: "columns, one of them twice",
      inputs: { x: { shape: ["b:2", 4, 2] }, ids: { shape: ["n:3"], dtype: "int32", values: [2, 2, 0] } },
      build: ({ x, ids }) => gather(x.exp(), ids, 1),
    },
    {
      title: "by a single index",
      inputs: { x: { shape: [3, 2] }, id: { shape: [], dtype: "int64", values: [1] } },
      build: ({ x, id }) => gather(x.exp(), id),
    },
    {
      title: "a table that is also the output layer",
      inputs: { table: { shape: [4, 3] }, ids: { shape: ["n:3"], dtype: "int64", values: [3, 1, 3] } },
      build: ({ table, ids }) => matmul(gather(table, ids).tanh(), table, { transB: true }),
    },
  ],
  GatherElements: [
    {
      title: "one of each row",
      inputs: { x: b2t3d4, ids: { shape: ["b:2", "t:3", 1], dtype: "int64", values: [0, 3, 1, 1, 2, 0] } },
      build: ({ x, ids }) => gatherElements(x.exp(), ids),
    },
    {
      title: "several of each column, some twice",
      inputs: {
        x: { shape: [3, 2] },
        ids: { shape: ["n:4", 2], dtype: "int64", values: [0, 1, 0, 2, 1, 1, 2, 2] },
      },
      build: ({ x, ids }) => gatherElements(x.exp(), ids, 0),
    },
  ],
  GatherNd: [
    {
      title: "single elements, one of them twice",
      inputs: { x: b2t3, at: { shape: ["n:3", 2], dtype: "int64", values: [0, 2, 1, 0, 0, 2] } },
      build: ({ x, at }) => gatherNd(x.exp(), at),
    },
    {
      title: "rows at positions of each sequence",
      inputs: { x: b2t3d4, at: { shape: ["b:2", "n:2", 1], dtype: "int64", values: [0, 2, 1, 1] } },
      build: ({ x, at }) => gatherNd(x.exp(), at, { batchDims: 1 }),
    },
  ],
  ScatterNd: [
    {
      title: "adding, one index twice",
      inputs: {
        x: b2t3,
        at: { shape: ["n:3", 2], dtype: "int64", values: [0, 2, 1, 0, 0, 2] },
        u: { shape: ["n:3"] },
      },
      build: ({ x, at, u }) => scatterNd(x.exp(), at, u.exp(), "add"),
    },
    {
      title: "replacing rows",
      inputs: {
        x: b2t3d4,
        at: { shape: ["n:1", 1], dtype: "int64", values: [1] },
        u: { shape: ["n:1", "t:3", 4] },
      },
      build: ({ x, at, u }) => scatterNd(x.exp(), at, u.exp()),
    },
  ],
  ScatterElements: [
    {
      title: "adding, one index twice",
      inputs: {
        x: b2t3d4,
        at: { shape: ["b:2", "t:3", 2], dtype: "int64", values: [0, 0, 1, 2, 3, 1, 2, 2, 0, 3, 1, 0] },
        u: { shape: ["b:2", "t:3", 2] },
      },
      build: ({ x, at, u }) => scatterElements(x.exp(), at, u.exp(), 2, "add"),
    },
    {
      title: "replacing",
      inputs: {
        x: b2t3,
        at: { shape: ["b:2", 1], dtype: "int64", values: [2, 0] },
        u: { shape: ["b:2", 1] },
      },
      build: ({ x, at, u }) => scatterElements(x.exp(), at, u.exp(), 1),
    },
  ],
  LayerNorm: [
    {
      title: "over a symbolic batch",
      inputs: { x: b2t3d4, w: { shape: [4] }, b: { shape: [4] } },
      build: ({ x, w, b }) => layerNorm(x, w, b),
    },
    {
      title: "with a large eps, of one row",
      inputs: { x: { shape: [5] }, w: { shape: [5] }, b: { shape: [5] } },
      build: ({ x, w, b }) => layerNorm(x.mul(2), w, b, { eps: 0.5 }),
    },
  ],
};

/** Formulas made of several ops. */
export const formulaCases: readonly GradientCase[] = [
  two("masked mean", b2t3, { shape: ["b:2", "t:3"], values: [1, 0, 1, 1, 1, 0] }, (x, mask) =>
    maskedMean(x.exp(), mask.add(0.5)),
  ),
  one("entropy", b2t3d4, (x) => entropyFromLogits(x.mul(2))),
  one("softplus", kinked, (x) => softplus(x)),
  one("silu", b2t3, (x) => silu(x.mul(2))),
  two("global norm", b2t3, { shape: [4] }, (a, b) => globalNorm([a, b])),
  {
    title: "cross entropy with ignored labels",
    inputs: {
      x: b2t3d4,
      labels: { shape: ["b:2", "t:3"], dtype: "int64", values: [0, -100, 3, 2, 1, -100] },
    },
    build: ({ x, labels }) => crossEntropy(x.mul(2), labels),
  },
  {
    title: "causal attention over symbolic batch and time",
    inputs: { x: { shape: ["b:2", "t:3", 4] }, w: { shape: [4, 12] } },
    build: ({ x, w }) => {
      const heads = (p: Tensor): Tensor => p.reshape([...x.shape.slice(0, 2), 2, 2]).transpose([0, 2, 1, 3]);
      const [q, k, v] = matmul(x, w).split(-1, 3).map(heads);
      const scores = matmul(q, k, { transB: true, alpha: Math.SQRT1_2 });
      const position = x.reduceSum([0, 2]).mul(0).add(1).cumSum(0).stopGradient();
      const allowed = position.unsqueeze(1).greaterOrEqual(position.unsqueeze(0));
      return matmul(allowed.where(scores, -1e30).softmax(), v).transpose([0, 2, 1, 3]).reshape(x.shape);
    },
  },
];
