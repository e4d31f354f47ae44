/**
 * @file Attention over a key/value cache, for generating text. One fused node without gradient; training graphs
 * write attention with matmul and softmax.
 */
import { defineOp } from "../define-op.js";
import { type Dim, formatShape, normalizeDim } from "../dims.js";
import { GraphError } from "../errors.js";
import { float } from "../onnx-form.js";
import type { Tensor } from "../tensor.js";

/** Attributes of "GroupQueryAttention". */
export interface GroupQueryAttentionAttrs {
  readonly numHeads: number;
  readonly kvNumHeads: number;
  /** Factor on query · key. */
  readonly scale: number;
  /** Length of the cache that comes out. */
  readonly presentLength: Dim;
}

/** Operands of `groupQueryAttention`; H heads of width d, K of them for keys and values. */
export interface GroupQueryAttentionInputs {
  /** [batch, time, H·d]; or [batch, time, (H + 2K)·d] with query, key and value side by side. */
  query: Tensor;
  /** [batch, time, K·d]; left out when the query holds it. */
  key?: Tensor;
  /** [batch, time, K·d]; left out when the query holds it. */
  value?: Tensor;
  /** [batch, K, cache, d]: keys so far; rows beyond what is filled are ignored. */
  pastKey: Tensor;
  /** [batch, K, cache, d]. */
  pastValue: Tensor;
  /** [batch] int32: for each sequence, its length including the new tokens, minus one. */
  seqlensK: Tensor;
  /** [] or [1] int32: the longest of these lengths. */
  totalSequenceLength: Tensor;
}

/** Results of `groupQueryAttention`. */
export interface GroupQueryAttentionOutputs {
  /** [batch, time, H·d]. */
  output: Tensor;
  /** [batch, K, cache, d]: the past with the new keys written after it. The engine may bind it to the past's buffer. */
  presentKey: Tensor;
  /** [batch, K, cache, d]. */
  presentValue: Tensor;
}

const groupQueryAttentionOp = defineOp<GroupQueryAttentionAttrs>("GroupQueryAttention", {
  infer: (
    [query, key, value, pastKey, pastValue, seqlensK, total],
    { numHeads, kvNumHeads, presentLength },
  ) => {
    const [batch, time, width] = query.shape;
    const packed = key === undefined && value === undefined;
    const headSize =
      typeof width === "number" ? width / (packed ? numHeads + 2 * kvNumHeads : numHeads) : Number.NaN;
    if (query.rank !== 3 || !Number.isInteger(headSize) || numHeads % kvNumHeads !== 0) {
      throw new GraphError(
        `GroupQueryAttention: query ${formatShape(query.shape)} does not split into ${numHeads} heads (${kvNumHeads} for keys)`,
      );
    }
    if (headSize % 8 !== 0) {
      throw new GraphError(`GroupQueryAttention: its kernels need heads of a multiple of 8, got ${headSize}`);
    }
    const separate: [string, Tensor, string, readonly Dim[]][] = [
      ["key", key, query.dtype, [batch, time, kvNumHeads * headSize]],
      ["value", value, query.dtype, [batch, time, kvNumHeads * headSize]],
    ];
    const operands: typeof separate = [
      ...(packed ? [] : separate),
      ["pastKey", pastKey, query.dtype, [batch, kvNumHeads, pastKey.shape[2], headSize]],
      ["pastValue", pastValue, query.dtype, [batch, kvNumHeads, pastKey.shape[2], headSize]],
      ["seqlensK", seqlensK, "int32", [batch]],
      ["totalSequenceLength", total, "int32", total.rank === 0 ? [] : [1]],
    ];
    for (const [name, t, dtype, shape] of operands) {
      if (t?.dtype !== dtype || formatShape(t.shape) !== formatShape(shape)) {
        throw new GraphError(
          `GroupQueryAttention: ${name} must be ${dtype} ${formatShape(shape)}, got ${t ? `${t.dtype} ${formatShape(t.shape)}` : "nothing"}`,
        );
      }
    }
    const present = { dtype: query.dtype, shape: [batch, kvNumHeads, presentLength, headSize] };
    return [{ dtype: query.dtype, shape: [batch, time, numHeads * headSize] }, present, present];
  },
  vjp: { none: "it is for generating; write attention with matmul and softmax to train" },
  onnx: (emit, { numHeads, kvNumHeads, scale }) =>
    emit.node(
      "GroupQueryAttention",
      { num_heads: numHeads, kv_num_heads: kvNumHeads, scale: float(scale) },
      { domain: "com.microsoft" },
    ),
});

/**
 * Causal attention of new tokens over cached and new keys. Lengths may differ between sequences: `seqlensK` says
 * how far each is filled, and padding is on the right. `presentLength` is the cache's length afterwards; by default
 * that of the past, which must then have room for the new tokens. `scale` is 1/√d by default.
 *
 * ONNX Runtime's kernel knows two situations: a prompt (time = totalSequenceLength, nothing in the past counts) and
 * one token per sequence (time = 1); several tokens after a past only for a batch of one.
 */
export function groupQueryAttention(
  inputs: GroupQueryAttentionInputs,
  options: { numHeads: number; kvNumHeads?: number; scale?: number; presentLength?: Dim },
): GroupQueryAttentionOutputs {
  const { query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength } = inputs;
  const { numHeads, kvNumHeads = numHeads, presentLength = pastKey.dim(2) } = options;
  const scale = options.scale ?? 1 / Math.sqrt(Number(pastKey.dim(3)));
  const [output, presentKey, presentValue] = groupQueryAttentionOp.many(
    [query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength],
    { numHeads, kvNumHeads, scale, presentLength: normalizeDim(presentLength) },
  );
  return { output, presentKey, presentValue };
}
