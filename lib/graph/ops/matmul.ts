/**
 * @file Matrix products. Transposition and scale are attributes, so that no transposed copy is made: plain
 * matrices become Gemm or MatMul, batches FusedMatMul.
 */
import { defineOp } from "../define-op.js";
import { broadcastShapes, type Dim, formatShape } from "../dims.js";
import { GraphError } from "../errors.js";
import { float } from "../onnx-form.js";
import type { Tensor } from "../tensor.js";
import { unbroadcast } from "./binary.js";

/** Attributes of "MatMul": y = alpha · op(a) · op(b), op being the transpose of the last two axes if asked. */
export interface MatMulAttrs {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly alpha: number;
}

const matMulOp = defineOp<MatMulAttrs>("MatMul", {
  infer: ([a, b], { transA, transB }) => {
    const [m, k] = lastTwo("MatMul", a, transA);
    const [k2, n] = lastTwo("MatMul", b, transB);
    if (k !== k2 || a.dtype !== b.dtype) throw mismatch("MatMul", a, b, transA, transB);
    return {
      dtype: a.dtype,
      shape: [...broadcastShapes("MatMul", a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n],
    };
  },
  vjp: ({ inputs: [a, b], attrs: { transA, transB, alpha }, dy, needs }) => [
    needs[0]
      ? unbroadcast(
          transA
            ? matmul(b, dy, { transA: transB, transB: true, alpha })
            : matmul(dy, b, { transB: !transB, alpha }),
          a.shape,
        )
      : undefined,
    needs[1]
      ? unbroadcast(
          transB
            ? matmul(dy, a, { transA: true, transB: transA, alpha })
            : matmul(a, dy, { transA: !transA, alpha }),
          b.shape,
        )
      : undefined,
  ],
  onnx: (emit, { transA, transB, alpha }, { outputs: [y] }) => {
    if (!transA && !transB && alpha === 1) emit.node("MatMul");
    else {
      const attrs = { transA: Number(transA), transB: Number(transB), alpha: float(alpha) };
      if (y.rank === 2) emit.node("Gemm", attrs);
      else emit.node("FusedMatMul", attrs, { domain: "com.microsoft" });
    }
  },
});

/**
 * alpha · a · b, with a [..., M, K] and b [..., K, N]; leading axes broadcast. `transA` and `transB` say that the
 * operand is stored with its last two axes swapped.
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<MatMulAttrs> = {}): Tensor {
  const { transA = false, transB = false, alpha = 1 } = options;
  // A batch times one matrix is one product of [batch·M, K], whose gradients are single products as well.
  if (a.rank > 2 && b.rank === 2 && !transA) {
    const y = matMulOp.one([a.reshape([-1, a.dim(-1)]), b], { transA, transB, alpha });
    return y.reshape([...a.shape.slice(0, -1), y.dim(-1)]);
  }
  return matMulOp.one([a, b], { transA, transB, alpha });
}

/** Attributes of "Linear". */
export interface LinearAttrs {
  /** The weight is stored [out, in]. */
  readonly transB: boolean;
}

const linearOp = defineOp<LinearAttrs>("Linear", {
  infer: ([x, w, b], { transB }) => {
    const [m, k] = lastTwo("Linear", x, false);
    const [k2, n] = lastTwo("Linear", w, transB);
    if (k !== k2 || x.rank !== 2 || w.rank !== 2 || x.dtype !== w.dtype) {
      throw mismatch("Linear", x, w, false, transB);
    }
    if (b.rank !== 1 || b.shape[0] !== n || b.dtype !== x.dtype) {
      throw new GraphError(`Linear: bias ${formatShape(b.shape)} does not fit an output of ${n}`);
    }
    return { dtype: x.dtype, shape: [m, n] };
  },
  vjp: ({ inputs: [x, w], attrs: { transB }, dy, needs }) => [
    needs[0] ? matmul(dy, w, { transB: !transB }) : undefined,
    needs[1] ? (transB ? matmul(dy, x, { transA: true }) : matmul(x, dy, { transA: true })) : undefined,
    needs[2] ? dy.reduceSum([0]) : undefined,
  ],
  onnx: (emit, { transB }) => emit.node("Gemm", { transB: Number(transB) }),
});

/**
 * x · w + b, with x [..., in], w [in, out] (PyTorch's Linear stores [out, in]: `transB`) and b [out], which may
 * be left out.
 */
export function linear(
  x: Tensor,
  w: Tensor,
  b?: Tensor,
  { transB = false }: Partial<LinearAttrs> = {},
): Tensor {
  if (!b) return matmul(x, w, { transB });
  if (x.rank === 2) return linearOp.one([x, w, b], { transB });
  const y = linearOp.one([x.reshape([-1, x.dim(-1)]), w, b], { transB });
  return y.reshape([...x.shape.slice(0, -1), y.dim(-1)]);
}

function lastTwo(op: string, t: Tensor, transposed: boolean): [Dim, Dim] {
  if (t.rank < 2)
    throw new GraphError(`${op}: expected a matrix or a batch of them, got ${formatShape(t.shape)}`);
  const [rows, columns] = t.shape.slice(-2);
  return transposed ? [columns, rows] : [rows, columns];
}

function mismatch(op: string, a: Tensor, b: Tensor, transA: boolean, transB: boolean): GraphError {
  const show = (t: Tensor, transposed: boolean): string =>
    `${t.dtype} ${formatShape(t.shape)}${transposed ? " transposed" : ""}`;
  return new GraphError(`${op}: cannot multiply ${show(a, transA)} by ${show(b, transB)}`);
}
