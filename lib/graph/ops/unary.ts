/**
 * @file Elementwise ops of one tensor.
 */
import { defineOp, type Op, type Vjp } from "../define-op.js";
import { GraphError } from "../errors.js";
import { type DType, isFloat, type Tensor } from "../tensor.js";

type NoAttrs = Record<string, never>;

const negOp = unary("Neg", ({ dy }) => [dy.neg()], "number");

/** −x. */
export function neg(x: Tensor): Tensor {
  if (x.node.op === "Neg") return x.node.inputs[0]!;
  return negOp.one([x], {});
}

const sqrtOp = unary("Sqrt", ({ outputs: [y], dy }) => [dy.mul(0.5).div(y)]);

/** √x. Its gradient at 0 is infinite. */
export function sqrt(x: Tensor): Tensor {
  return sqrtOp.one([x], {});
}

const expOp = unary("Exp", ({ outputs: [y], dy }) => [dy.mul(y)]);

/** eˣ. */
export function exp(x: Tensor): Tensor {
  return expOp.one([x], {});
}

const logOp = unary("Log", ({ inputs: [x], dy }) => [dy.div(x)]);

/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return logOp.one([x], {});
}

const tanhOp = unary("Tanh", ({ outputs: [y], dy }) => [dy.mul(y.mul(y).neg().add(1))]);

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return tanhOp.one([x], {});
}

const sigmoidOp = unary("Sigmoid", ({ outputs: [y], dy }) => [dy.mul(y.sub(y.mul(y)))]);

/** 1 / (1 + e⁻ˣ). */
export function sigmoid(x: Tensor): Tensor {
  return sigmoidOp.one([x], {});
}

const erfOp = unary("Erf", ({ inputs: [x], dy }) => [
  dy.mul(
    x
      .mul(x)
      .neg()
      .exp()
      .mul(2 / Math.sqrt(Math.PI)),
  ),
]);

/** The error function. */
export function erf(x: Tensor): Tensor {
  return erfOp.one([x], {});
}

const reluOp = unary("Relu", ({ inputs: [x], dy }) => [x.greater(0).where(dy, 0)]);

/** max(x, 0); the gradient at 0 is 0. */
export function relu(x: Tensor): Tensor {
  return reluOp.one([x], {});
}

const absOp = unary("Abs", ({ inputs: [x], dy }) => [dy.mul(x.sign())], "number");

/** |x|; the gradient at 0 is 0. */
export function abs(x: Tensor): Tensor {
  return absOp.one([x], {});
}

const signOp = unary("Sign", () => [undefined], "number");

/** −1, 0 or 1. Its gradient is 0 everywhere. */
export function sign(x: Tensor): Tensor {
  return signOp.one([x], {});
}

/** Attributes of "Clip": the bounds, either may be absent. */
export interface ClipAttrs {
  readonly min?: number;
  readonly max?: number;
}

const clipOp = defineOp<ClipAttrs>("Clip", {
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  vjp: ({ inputs: [x], attrs: { min, max }, dy }) => {
    // The bounds are inclusive: at a bound the gradient passes, as in PyTorch's clamp.
    const above = min === undefined ? undefined : x.greaterOrEqual(min);
    const below = max === undefined ? undefined : x.lessOrEqual(max);
    const inside = above && below ? above.and(below) : (above ?? below);
    return [inside ? inside.where(dy, 0) : dy];
  },
  onnx: (emit, { min, max }, { inputs: [x] }) => {
    const bound = (value: number | undefined): string =>
      value === undefined ? "" : emit.scalar(value, x!.dtype);
    const inputs = max === undefined ? [bound(min)] : [bound(min), bound(max)];
    emit.node("Clip", {}, { inputs: [emit.inputs[0], ...inputs] });
  },
});

/** x limited to [min, max]; the gradient is 1 inside and at the bounds, 0 outside. */
export function clip(x: Tensor, min?: number, max?: number): Tensor {
  for (const [name, bound] of Object.entries({ min, max })) {
    if (bound !== undefined && !Number.isFinite(bound))
      throw new GraphError(`Clip: ${name} must be finite, got ${bound}`);
  }
  return min === undefined && max === undefined ? x : clipOp.one([x], { min, max });
}

const geluOp = defineOp("Gelu", {
  infer: ([x]) => floatLike("Gelu", x),
  vjp: ({ inputs: [x], dy }) => {
    // d/dx x·Φ(x) = Φ(x) + x·φ(x)
    const cdf = x.mul(Math.SQRT1_2).erf().add(1).mul(0.5);
    const pdf = x
      .mul(x)
      .mul(-0.5)
      .exp()
      .mul(1 / Math.sqrt(2 * Math.PI));
    return [dy.mul(cdf.add(x.mul(pdf)))];
  },
  onnx: (emit) => emit.node("Gelu", {}, { domain: "com.microsoft" }),
});

/** x·Φ(x) with the exact normal distribution function (Hugging Face "gelu"). */
export function gelu(x: Tensor): Tensor {
  return geluOp.one([x], {});
}

const geluTanhOp = defineOp("GeluTanh", {
  infer: ([x]) => floatLike("GeluTanh", x),
  vjp: ({ inputs: [x], outputs: [y], dy }) => {
    // With v = 2·√(2/π)·(x + 0.044715 x³) and s = sigmoid(v) the function is y = x·s, so
    // dy/dx = s + x·s·(1 − s)·v' = s + (y − y·s)·v'. Written so that it takes few passes over memory.
    const c = 2 * Math.sqrt(2 / Math.PI);
    const squared = x.mul(x);
    const s = squared
      .mul(c * 0.044715)
      .add(c)
      .mul(x)
      .sigmoid();
    const slope = squared.mul(3 * c * 0.044715).add(c);
    return [dy.mul(s.add(y.sub(y.mul(s)).mul(slope)))];
  },
  onnx: (emit) => emit.node("FastGelu", {}, { domain: "com.microsoft" }),
});

/** 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hugging Face "gelu_new"). */
export function geluTanh(x: Tensor): Tensor {
  return geluTanhOp.one([x], {});
}

const notOp = defineOp("Not", {
  infer: ([x]) => {
    if (x.dtype !== "bool") throw new GraphError(`Not: expected bool, got ${x.dtype}`);
    return { dtype: "bool", shape: x.shape };
  },
  vjp: { none: "its result is a truth value" },
  onnx: "Not",
});

/** The opposite truth value. */
export function not(x: Tensor): Tensor {
  return notOp.one([x], {});
}

/** Attributes of "Cast". */
export interface CastAttrs {
  readonly to: DType;
}

/** ONNX's numbers for element types (TensorProto.DataType). */
export const ONNX_DTYPES: Readonly<Record<DType, number>> = {
  float32: 1,
  float16: 10,
  int32: 6,
  int64: 7,
  bool: 9,
};

const castOp = defineOp<CastAttrs>("Cast", {
  infer: ([x], { to }) => ({ dtype: to, shape: x.shape }),
  vjp: ({ inputs: [x], dy }) => [isFloat(x.dtype) && isFloat(dy.dtype) ? dy.cast(x.dtype) : undefined],
  onnx: (emit, { to }) => emit.node("Cast", { to: ONNX_DTYPES[to] }),
});

/** x as another element type; true is 1, and a number is true unless it is 0. */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : castOp.one([x], { to });
}

const stopGradientOp = defineOp("StopGradient", {
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  vjp: () => [undefined],
  onnx: (emit) => emit.alias(),
});

/** x itself, but gradients do not pass (PyTorch's detach). */
export function stopGradient(x: Tensor): Tensor {
  return stopGradientOp.one([x], {});
}

function floatLike(name: string, x: Tensor): { dtype: DType; shape: Tensor["shape"] } {
  if (!isFloat(x.dtype)) throw new GraphError(`${name}: expected a float tensor, got ${x.dtype}`);
  return { dtype: x.dtype, shape: x.shape };
}

function unary(name: string, vjp: Vjp<NoAttrs>, accepts: "float" | "number" = "float"): Op<NoAttrs> {
  return defineOp(name, {
    infer: ([x]) => {
      if (accepts === "float") return floatLike(name, x);
      if (x.dtype === "bool") throw new GraphError(`${name}: expected numbers, got bool`);
      return { dtype: x.dtype, shape: x.shape };
    },
    vjp,
    onnx: name,
  });
}
