/**
 * @file Weights that any language can make again: the rule behind the known answers that tests compare with. A
 * linear congruential generator is started from the FNV-1a hash of the tensor's name.
 */
import { fnv1a } from "../init.js";
import type { ParameterSpec } from "../parameters.js";

/** Values of every weight. `stored` turns our name into the one that is hashed, e.g. without the family prefix. */
export function knownWeights(
  specs: readonly ParameterSpec[],
  stored: (name: string) => string = (name) => name,
): Map<string, Float32Array> {
  return new Map(specs.map(({ name, shape }) => [name, knownTensor(stored(name), shape)]));
}

/** One tensor: 0.4 u for matrices, 1 + 0.1 u for LayerNorm weights, 0.1 u for biases, u uniform in [-1, 1). */
export function knownTensor(name: string, shape: readonly number[]): Float32Array {
  let state = fnv1a(name);
  const values = new Float32Array(new ArrayBuffer(4 * shape.reduce((a, b) => a * b, 1)));
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const u = (state / 2 ** 32) * 2 - 1;
    values[i] = shape.length >= 2 ? 0.4 * u : name.endsWith(".weight") ? 1 + 0.1 * u : 0.1 * u;
  }
  return values;
}
