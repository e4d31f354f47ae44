/**
 * @file For tests: runs a graph on ONNX Runtime's stock binding, and compares gradients with central differences.
 */
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { evalShape } from "./dims.js";
import { Graph, gradients, onnxOutputName, type Tensor, toOnnx } from "./index.js";

/** A tensor's numbers on the host. */
export interface HostTensor {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number>;
}

/** A compiled graph. */
export interface Runner {
  /** Feeds every input and parameter by name; returns every output by name. */
  run(feeds: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>>;
  /** Frees the session. */
  release(): Promise<void>;
}

/** Compiles the graph's ONNX bytes, with ONNX Runtime's default optimisations. */
export async function compile(graph: Graph): Promise<Runner> {
  const session = await InferenceSession.create(toOnnx(graph), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  return {
    async run(feeds) {
      const given: Record<string, OrtTensor> = {};
      for (const t of [...graph.inputs, ...graph.parameters]) {
        const { dims, data } = feeds[t.name!];
        given[t.name!] = toOrt(t, dims, data);
      }
      const results = await session.run(given);
      return Object.fromEntries(
        graph.outputs.map(({ name }) => {
          const { dims, data } = results[onnxOutputName(graph, name)];
          return [name, { dims, data: Array.from(data as ArrayLike<number>, Number) }];
        }),
      );
    },
    release: () => session.release(),
  };
}

/** Compiles, runs once and releases. */
export async function runGraph(
  graph: Graph,
  feeds: Readonly<Record<string, HostTensor>> = {},
): Promise<Record<string, HostTensor>> {
  const runner = await compile(graph);
  try {
    return await runner.run(feeds);
  } finally {
    await runner.release();
  }
}

/** An input of a gradient case. */
export interface CaseInput {
  /** Dimensions; `"b:2"` is the symbolic dimension b that is 2 in this case. */
  readonly shape: readonly (number | string)[];
  /** Row-major values; default: a fixed sequence of multiples of 1/64 in (−1, 1) without repeats. */
  readonly values?: readonly number[];
  /** Default float32. Others get no gradient. */
  readonly dtype?: "float32" | "int64" | "int32" | "bool";
}

/** A function whose gradient is checked. */
export interface GradientCase {
  readonly title: string;
  readonly inputs: Readonly<Record<string, CaseInput>>;
  /** Builds the result from the inputs, given by name. */
  build(inputs: Readonly<Record<string, Tensor>>, graph: Graph): Tensor;
}

/** The largest disagreement found, with where it was. */
export interface GradientError {
  /** |analytic − numeric| / max(1, |numeric|). */
  readonly error: number;
  readonly where: string;
}

/**
 * Compares the gradient of Σ y·c, with fixed weights c, by every element of every float32 input with differences.
 * Step: 1/32, a power of two like the grid of the inputs, so that x ± h is exact in float32. Formula: the five-point
 * stencil (8·(f(+h) − f(−h)) − (f(+2h) − f(−2h))) / 12h, whose truncation error is h⁴/30·f⁗′ ≈ 3e-8·f⁗′. The sum
 * runs in float64 over float32 results, so rounding leaves about 6e-8·|y|/h ≈ 2e-6 per element of y. A wrong formula
 * shows as 1e-2 or more; 2e-4 separates the two with room for cubic and exponential ops.
 */
export async function checkGradient(test: GradientCase, symbolic: boolean): Promise<GradientError> {
  const feeds: Record<string, HostTensor> = {};
  const graph = new Graph(test.title);
  const tensors: Record<string, Tensor> = {};
  const sizes: Record<string, number> = {};
  for (const [name, { shape, values, dtype = "float32" }] of Object.entries(test.inputs)) {
    const dims = shape.map((dim) => (typeof dim === "string" ? Number(dim.split(":")[1]) : dim));
    const names = shape.map((dim) => (typeof dim === "string" ? dim.split(":")[0] : dim));
    for (const [i, dim] of names.entries()) if (typeof dim === "string") sizes[dim] = dims[i];
    const count = dims.reduce((a, b) => a * b, 1);
    tensors[name] = graph.input(name, dtype, symbolic ? names : dims);
    feeds[name] = { dims, data: values ?? spread(count, Object.keys(feeds).length) };
  }
  const y = test.build(tensors, graph);
  const wanted = Object.entries(tensors).filter(([, t]) => t.dtype === "float32");
  const yDims = evalShape(y.shape, sizes);
  const weights = spread(
    yDims.reduce((a, b) => a * b, 1),
    99,
  );
  const weighting = graph.input("weights", "float32", y.shape);
  feeds.weights = { dims: yDims, data: weights };
  graph.output("y", y);
  const found = gradients(
    y.mul(weighting).reduceSum(),
    wanted.map(([, t]) => t),
  );
  for (const [i, [name]] of wanted.entries()) graph.output(`gradient of ${name}`, found[i]);
  const runner = await compile(graph);
  try {
    const analytic = await runner.run(feeds);
    let worst: GradientError = { error: 0, where: "nowhere" };
    for (const [name] of wanted) {
      const base = feeds[name];
      const got = analytic[`gradient of ${name}`];
      if (`${got.dims}` !== `${base.dims}`)
        return { error: Number.POSITIVE_INFINITY, where: `${name} [${got.dims}]` };
      for (let i = 0; i < base.data.length; i++) {
        const at = async (offset: number): Promise<number> => {
          const data = Float32Array.from(base.data);
          data[i] += offset;
          const { y: result } = await runner.run({ ...feeds, [name]: { dims: base.dims, data } });
          return weights.reduce((sum, w, k) => sum + w * result.data[k], 0);
        };
        const h = 1 / 32;
        const near = (await at(h)) - (await at(-h));
        const far = (await at(2 * h)) - (await at(-2 * h));
        const numeric = (8 * near - far) / (12 * h);
        const error = Math.abs(got.data[i] - numeric) / Math.max(1, Math.abs(numeric));
        // NaN must count as the worst error, so the comparison is written the other way round.
        if (!(error <= worst.error)) {
          worst = { error, where: `${name}[${i}]: gradient ${got.data[i]}, differences ${numeric}` };
        }
      }
    }
    return worst;
  } finally {
    await runner.release();
  }
}

/** `count` different multiples of 1/64 in (−1, 1), in a fixed scattered order that differs by `stream`. */
export function spread(count: number, stream = 0): number[] {
  if (count > 127) throw new RangeError(`spread: at most 127 values, asked for ${count}`);
  return Array.from({ length: count }, (_, i) => (((i + 1 + stream * 13) * 47) % 127) / 64 - 63 / 64);
}

function toOrt(t: Tensor, dims: readonly number[], data: ArrayLike<number>): OrtTensor {
  switch (t.dtype) {
    case "float32":
      return new OrtTensor("float32", Float32Array.from(data), dims);
    case "int32":
      return new OrtTensor("int32", Int32Array.from(data), dims);
    case "int64":
      return new OrtTensor("int64", BigInt64Array.from(Array.from(data), BigInt), dims);
    case "bool":
      return new OrtTensor("bool", Uint8Array.from(data), dims);
    case "float16":
      return new OrtTensor("float16", Uint16Array.from(data), dims);
  }
}
