/**
 * @file Layer normalisation over the last axis (arXiv:1607.06450).
 */
import { defineOp } from "../define-op.js";
import { formatShape } from "../dims.js";
import { GraphError } from "../errors.js";
import { float } from "../onnx-form.js";
import { isFloat, type Tensor } from "../tensor.js";
import { unbroadcast } from "./binary.js";

/** Attributes of "LayerNorm". */
export interface LayerNormAttrs {
  /** Added to the variance before the root. */
  readonly eps: number;
}

const layerNormOp = defineOp<LayerNormAttrs>("LayerNorm", {
  infer: ([x, weight, bias]) => {
    const width = x.shape.at(-1);
    if (!isFloat(x.dtype) || width === undefined) {
      throw new GraphError(
        `LayerNorm: expected a float tensor with an axis, got ${x.dtype} ${formatShape(x.shape)}`,
      );
    }
    for (const [name, t] of Object.entries({ weight, bias })) {
      if (t.rank !== 1 || t.shape[0] !== width || t.dtype !== x.dtype) {
        throw new GraphError(
          `LayerNorm: ${name} must be ${x.dtype} [${width}], got ${t.dtype} ${formatShape(t.shape)}`,
        );
      }
    }
    const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
    return [{ dtype: x.dtype, shape: x.shape }, statistic, statistic];
  },
  // The kernel's own mean and 1/std are its second and third result, so the gradient does not compute them again:
  // dx = (g − mean(g) − x̂·mean(g·x̂)) / std with g = dy·weight.
  vjp: ({ inputs: [x, weight, bias], outputs: [, mean, inverseStd], dys: [dy, ...statistics], needs }) => {
    if (!dy || statistics.some((s) => s !== undefined)) {
      throw new GraphError("LayerNorm: only its first output has a gradient");
    }
    const normalized = x.sub(mean).mul(inverseStd);
    const input = (): Tensor => {
      const g = dy.mul(weight);
      const along = g.mul(normalized).reduceMean([-1], { keepDims: true });
      return g
        .sub(g.reduceMean([-1], { keepDims: true }))
        .sub(normalized.mul(along))
        .mul(inverseStd);
    };
    return [
      needs[0] ? input() : undefined,
      needs[1] ? unbroadcast(dy.mul(normalized), weight.shape) : undefined,
      needs[2] ? unbroadcast(dy, bias.shape) : undefined,
    ];
  },
  onnx: (emit, { eps }) =>
    emit.node("LayerNormalization", { axis: -1, epsilon: float(eps) }, { omitUnread: true }),
});

/** (x − mean) / √(variance + eps) · weight + bias over the last axis, with the biased variance; eps default 1e-5. */
export function layerNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  { eps = 1e-5 }: Partial<LayerNormAttrs> = {},
): Tensor {
  return layerNormOp.one([x, weight, bias], { eps });
}
