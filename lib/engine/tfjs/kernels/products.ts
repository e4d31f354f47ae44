/**
 * @file Matrix products, and attention over a cache.
 */
import type { GroupQueryAttentionAttrs, LinearAttrs, MatMulAttrs } from "../../../graph/index.js";
import type { Tfjs } from "../host-data.js";
import type { Kernel, KernelTable, Tensor } from "./kernel.js";

const matMul: Kernel<MatMulAttrs> = ({ tf, attrs: { transA, transB, alpha }, outputs: [y] }, a, b) => {
  if (a.size === 0) return tf.zeros(y.shape);
  // TensorFlow.js multiplies the wrong matrices where both batches broadcast
  const batch = y.shape.slice(0, -2);
  const [p, q] = [a, b].map((t) => t.broadcastTo([...batch, ...t.shape.slice(-2)]));
  const product = tf.matMul(p, q, transA, transB);
  return alpha === 1 ? product : product.mul(alpha);
};

const linear: Kernel<LinearAttrs> = ({ tf, attrs: { transB }, outputs: [y] }, x, w, b) =>
  x.size === 0 ? b.broadcastTo(y.shape) : tf.matMul(x, w, false, transB).add(b);

/** [B, T, heads·d] → [B, heads, T, d]. */
function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, time, width] = x.shape;
  return x.reshape([batch, time, heads, width / heads]).transpose([0, 2, 1, 3]);
}

/** The cache grown to `length` with zeros, or cut to it. */
function resize(tf: Tfjs, cache: Tensor, length: number): Tensor {
  const [batch, heads, held, size] = cache.shape;
  if (held >= length) return cache.slice([0, 0, 0, 0], [batch, heads, length, size]);
  const room = tf.zeros([batch, heads, length - held, size]);
  return held === 0 ? room : tf.concat([cache, room], 2);
}

/**
 * Causal attention of new tokens over cached and new keys; see `groupQueryAttention` of lib/graph. Where query i of a
 * sequence stands at position p, it sees the keys at positions 0..p.
 */
const groupQueryAttention: Kernel<GroupQueryAttentionAttrs> = (
  { tf, attrs: { numHeads, kvNumHeads, scale, presentLength }, dim },
  query,
  key,
  value,
  pastKey,
  pastValue,
  seqlensK,
  total,
): Tensor[] => {
  const [batch, time, width] = query.shape;
  const headSize = pastKey.shape[3] as number; // of rank 4, as the graph has checked
  const length = dim(presentLength);
  const kvWidth = kvNumHeads * headSize;
  const part = (start: number, size: number): Tensor => query.slice([0, 0, start], [batch, time, size]);
  const packed = key === undefined;
  const q = splitHeads(packed ? part(0, width - 2 * kvWidth) : query, numHeads);
  const k = splitHeads(packed ? part(width - 2 * kvWidth, kvWidth) : key, kvNumHeads);
  const v = splitHeads(packed ? part(width - kvWidth, kvWidth) : value, kvNumHeads);

  // where the new tokens stand: a prompt starts at 0, later tokens end at the sequence's length
  const isPrompt = time === total.dataSync()[0];
  const first = Array.from(seqlensK.dataSync(), (last) => (isPrompt ? 0 : last + 1 - time));
  const place = (cache: Tensor, rows: Tensor): Tensor => {
    const at: number[] = [];
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < kvNumHeads; h++) {
        for (let t = 0; t < time; t++) at.push(b, h, first[b] + t);
      }
    }
    const indices = tf.tensor2d(at, [batch * kvNumHeads * time, 3], "int32");
    const updates = rows.reshape([-1, headSize]);
    const shape = [batch, kvNumHeads, length, headSize];
    const written = tf.scatterND(indices, tf.onesLike(updates), shape);
    return tf.where(tf.greater(written, 0), tf.scatterND(indices, updates, shape), resize(tf, cache, length));
  };
  const presentKey = place(pastKey, k);
  const presentValue = place(pastValue, v);

  const shared = (cache: Tensor): Tensor =>
    numHeads === kvNumHeads
      ? cache
      : cache
          .expandDims(2)
          .broadcastTo([batch, kvNumHeads, numHeads / kvNumHeads, length, headSize])
          .reshape([batch, numHeads, length, headSize]);
  const visible = first.flatMap((start) =>
    Array.from({ length: time * length }, (_, i) =>
      i % length <= start + Math.floor(i / length) ? 0 : -1e30,
    ),
  );
  const scores = tf
    .matMul(q, shared(presentKey), false, true)
    .mul(scale)
    .add(tf.tensor4d(visible, [batch, 1, time, length]));
  const attended = tf.matMul(tf.softmax(scores), shared(presentValue));
  const output = attended.transpose([0, 2, 1, 3]).reshape([batch, time, numHeads * headSize]);
  return [output, presentKey, presentValue];
};

/** Kernels of products. */
export const productKernels: KernelTable = {
  MatMul: matMul,
  Linear: linear,
  GroupQueryAttention: groupQueryAttention,
};
