/**
 * @file Elementwise ops of two tensors, with NumPy broadcasting. A plain number stands for a constant of the
 * other operand's type. Gradients are summed back over what was broadcast.
 */

import { defineOp, type NoGradient, type Op, type Vjp } from "../define-op.js";
import { broadcastShapes, formatShape, type Shape, sameShape } from "../dims.js";
import { GraphError } from "../errors.js";
import { isFloat, Tensor, type TensorType } from "../tensor.js";

/** A tensor, or a number that becomes a constant of the other operand's type. */
export type Operand = Tensor | number;

type NoAttrs = Record<string, never>;

const addOp = arithmetic("Add", ({ inputs: [a, b], dy, needs }) => [
  needs[0] ? unbroadcast(dy, a.shape) : undefined,
  needs[1] ? unbroadcast(dy, b.shape) : undefined,
]);

/** a + b. */
export function add(a: Operand, b: Operand): Tensor {
  if (isZero(a) && b instanceof Tensor) return b;
  if (isZero(b) && a instanceof Tensor) return a;
  return binary(addOp, a, b, (x, y) => x + y);
}

const subOp = arithmetic("Sub", ({ inputs: [a, b], dy, needs }) => [
  needs[0] ? unbroadcast(dy, a.shape) : undefined,
  needs[1] ? unbroadcast(dy.neg(), b.shape) : undefined,
]);

/** a − b. */
export function sub(a: Operand, b: Operand): Tensor {
  if (isZero(b) && a instanceof Tensor) return a;
  return binary(subOp, a, b, (x, y) => x - y);
}

const mulOp = arithmetic("Mul", ({ inputs: [a, b], dy, needs }) => [
  needs[0] ? unbroadcast(dy.mul(b), a.shape) : undefined,
  needs[1] ? unbroadcast(dy.mul(a), b.shape) : undefined,
]);

/** a · b, elementwise. */
export function mul(a: Operand, b: Operand): Tensor {
  if (isOne(a) && b instanceof Tensor) return b;
  if (isOne(b) && a instanceof Tensor) return a;
  return binary(mulOp, a, b, (x, y) => x * y);
}

const divOp = arithmetic("Div", ({ inputs: [a, b], outputs: [y], dy, needs }) => {
  const da = dy.div(b);
  return [
    needs[0] ? unbroadcast(da, a.shape) : undefined,
    needs[1] ? unbroadcast(da.mul(y).neg(), b.shape) : undefined,
  ];
});

/** a / b. For integers, division that drops the remainder. */
export function div(a: Operand, b: Operand): Tensor {
  if (isOne(b) && a instanceof Tensor) return a;
  return binary(divOp, a, b);
}

const powOp = arithmetic("Pow", ({ inputs: [x, p], outputs: [y], dy, needs }) => {
  // d/dx = p·x^(p−1), which is 0 for p = 0 even at x = 0. d/dp = y·log x, which is 0 at x = 0 (for p ≥ 0).
  const slope = (): Tensor => {
    const exponent = constantScalar(p);
    if (exponent === 2) return x.mul(2);
    if (exponent !== undefined && exponent !== 0) return x.pow(exponent - 1).mul(exponent);
    return p.equal(0).where(0, p.mul(x.pow(p.sub(1))));
  };
  return [
    needs[0] ? unbroadcast(dy.mul(slope()), x.shape) : undefined,
    needs[1] ? unbroadcast(x.equal(0).where(0, dy.mul(y).mul(x.log())), p.shape) : undefined,
  ];
});

/** x to the power p. */
export function pow(x: Operand, p: Operand): Tensor {
  if (isOne(p) && x instanceof Tensor) return x;
  return binary(powOp, x, p);
}

const minOp = arithmetic("Min", ({ inputs: [a, b], dy, needs }) => {
  const shared = a.equal(b).where(dy.mul(0.5), dy); // a tie splits the gradient in half, as in PyTorch
  return [
    needs[0] ? unbroadcast(a.lessOrEqual(b).where(shared, 0), a.shape) : undefined,
    needs[1] ? unbroadcast(b.lessOrEqual(a).where(shared, 0), b.shape) : undefined,
  ];
});

/** The smaller of a and b; at a tie each gets half of the gradient. */
export function minimum(a: Operand, b: Operand): Tensor {
  return binary(minOp, a, b);
}

const maxOp = arithmetic("Max", ({ inputs: [a, b], dy, needs }) => {
  const shared = a.equal(b).where(dy.mul(0.5), dy);
  return [
    needs[0] ? unbroadcast(a.greaterOrEqual(b).where(shared, 0), a.shape) : undefined,
    needs[1] ? unbroadcast(b.greaterOrEqual(a).where(shared, 0), b.shape) : undefined,
  ];
});

/** The larger of a and b; at a tie each gets half of the gradient. */
export function maximum(a: Operand, b: Operand): Tensor {
  return binary(maxOp, a, b);
}

const equalOp = predicate("Equal", "Equal");
const lessOp = predicate("Less", "Less");
const lessOrEqualOp = predicate("LessOrEqual", "LessOrEqual");
const greaterOp = predicate("Greater", "Greater");
const greaterOrEqualOp = predicate("GreaterOrEqual", "GreaterOrEqual");
const andOp = predicate("And", "And", "bool");
const orOp = predicate("Or", "Or", "bool");

/** a = b, elementwise. */
export function equal(a: Operand, b: Operand): Tensor {
  return binary(equalOp, a, b);
}

/** a < b, elementwise. */
export function less(a: Operand, b: Operand): Tensor {
  return binary(lessOp, a, b);
}

/** a ≤ b, elementwise. */
export function lessOrEqual(a: Operand, b: Operand): Tensor {
  return binary(lessOrEqualOp, a, b);
}

/** a > b, elementwise. */
export function greater(a: Operand, b: Operand): Tensor {
  return binary(greaterOp, a, b);
}

/** a ≥ b, elementwise. */
export function greaterOrEqual(a: Operand, b: Operand): Tensor {
  return binary(greaterOrEqualOp, a, b);
}

/** Both, elementwise, of booleans. */
export function and(a: Tensor, b: Tensor): Tensor {
  return binary(andOp, a, b);
}

/** Either, elementwise, of booleans. */
export function or(a: Tensor, b: Tensor): Tensor {
  return binary(orOp, a, b);
}

const whereOp = defineOp("Where", {
  infer: ([condition, a, b]) => {
    if (condition.dtype !== "bool")
      throw new GraphError(`Where: condition must be bool, got ${condition.dtype}`);
    if (a.dtype !== b.dtype) throw new GraphError(`Where: operands are ${a.dtype} and ${b.dtype}`);
    return {
      dtype: a.dtype,
      shape: broadcastShapes("Where", broadcastShapes("Where", condition.shape, a.shape), b.shape),
    };
  },
  vjp: ({ inputs: [condition, a, b], dy, needs }) => [
    undefined,
    needs[1] ? unbroadcast(condition.where(dy, 0), a.shape) : undefined,
    needs[2] ? unbroadcast(condition.where(0, dy), b.shape) : undefined,
  ],
  onnx: "Where",
});

/** a where `condition` holds, else b; all three broadcast. Numbers are float32 unless the other operand says. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const dtype = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : "float32";
  const [x, y] = [a, b].map((t) => (t instanceof Tensor ? t : condition.graph.constant(t, { dtype })));
  const shape = broadcastShapes("Where", broadcastShapes("Where", condition.shape, x.shape), y.shape);
  const [c, p, q] = dropExpands([condition, x, y], shape);
  return whereOp.one([c, p, q], {});
}

/** Sums `dy` over the axes along which a tensor of `shape` was broadcast, so that it has that shape. */
export function unbroadcast(dy: Tensor, shape: Shape): Tensor {
  if (sameShape(dy.shape, shape)) return dy;
  const extra = dy.rank - shape.length;
  const axes: number[] = [];
  for (const [axis, dim] of dy.shape.entries()) {
    if (axis < extra || (shape[axis - extra] === 1 && dim !== 1)) axes.push(axis);
  }
  const summed = dy.reduceSum(axes, { keepDims: true });
  return summed.reshape(shape);
}

/** The number in a constant of one element, else undefined. */
export function constantScalar(t: Tensor): number | undefined {
  if (t.node.op !== "Constant" || t.dtype === "float16") return undefined;
  const { data } = t.node.attrs as { data: ArrayLike<number | bigint> };
  return data.length === 1 ? Number(data[0]) : undefined;
}

/** Operands without their Expand where broadcasting to `shape` does the same. */
function dropExpands(operands: readonly Tensor[], shape: Shape): Tensor[] {
  const kept = [...operands];
  for (const [i, t] of operands.entries()) {
    if (t.node.op !== "Expand") continue;
    const trial = kept.map((k, j) => (j === i ? t.node.inputs[0]! : k));
    if (
      sameShape(
        trial.map((k) => k.shape).reduce((a, b) => broadcastShapes("Expand", a, b)),
        shape,
      )
    ) {
      kept[i] = trial[i];
    }
  }
  return kept;
}

function binary(op: Op<NoAttrs>, a: Operand, b: Operand, fold?: (x: number, y: number) => number): Tensor {
  const known = a instanceof Tensor ? a : b;
  if (!(known instanceof Tensor)) throw new GraphError(`${op.name}: needs at least one tensor`);
  const [x, y] = [a, b].map((t) =>
    t instanceof Tensor ? t : known.graph.constant(t, { dtype: known.dtype }),
  );
  if (fold && x.dtype === "float32" && y.dtype === "float32" && x.rank === 0 && y.rank === 0) {
    const [p, q] = [constantScalar(x), constantScalar(y)];
    if (p !== undefined && q !== undefined) return x.graph.constant(fold(p, q));
  }
  return op.one(dropExpands([x, y], broadcastShapes(op.name, x.shape, y.shape)), {});
}

function sameType(name: string, [a, b]: readonly Tensor[]): void {
  if (a.dtype !== b.dtype) {
    const of = `${formatShape(a.shape)} and ${formatShape(b.shape)}`;
    throw new GraphError(`${name}: operands ${of} are ${a.dtype} and ${b.dtype}`);
  }
}

function arithmetic(name: string, vjp: Vjp<NoAttrs>): Op<NoAttrs> {
  return defineOp(name, {
    infer: ([a, b]): TensorType => {
      sameType(name, [a, b]);
      if (a.dtype === "bool") throw new GraphError(`${name}: bool operands have no arithmetic; cast them`);
      return { dtype: a.dtype, shape: broadcastShapes(name, a.shape, b.shape) };
    },
    vjp,
    onnx: name,
  });
}

function predicate(name: string, onnx: string, dtype?: "bool"): Op<NoAttrs> {
  const vjp: NoGradient = { none: "its result is a truth value" };
  return defineOp(name, {
    infer: ([a, b]): TensorType => {
      sameType(name, [a, b]);
      if (dtype && a.dtype !== dtype)
        throw new GraphError(`${name}: expected ${dtype} operands, got ${a.dtype}`);
      return { dtype: "bool", shape: broadcastShapes(name, a.shape, b.shape) };
    },
    vjp,
    onnx,
  });
}

function isZero(x: Operand): boolean {
  return scalarIs(x, 0);
}

function isOne(x: Operand): boolean {
  return scalarIs(x, 1);
}

/** Whether `x` is this number, as a plain number or a float constant of rank 0 (which changes no shape). */
function scalarIs(x: Operand, value: number): boolean {
  if (typeof x === "number") return x === value;
  return x.rank === 0 && isFloat(x.dtype) && constantScalar(x) === value;
}
