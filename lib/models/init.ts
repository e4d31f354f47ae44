/**
 * @file Random weights for a model that is trained from nothing. Every tensor has its own stream, made from the seed
 * and its name, so the same seed gives the same weights whatever else the model holds.
 */
import type { ParameterSpec } from "./parameters.js";

/** Initial values of every weight, by name. `seed` is any whole number. */
export function initParameters(specs: readonly ParameterSpec[], seed: number): Map<string, Float32Array> {
  return new Map(specs.map((spec) => [spec.name, initTensor(spec, seed)]));
}

function initTensor({ name, shape, init }: ParameterSpec, seed: number): Float32Array {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = new Float32Array(new ArrayBuffer(4 * size));
  if (init.kind === "ones") return values.fill(1);
  if (init.kind === "sinusoidal") return fillSinusoids(values, shape[1]);
  if (init.kind === "uniform") {
    const uniform = uniformStream(seed, name);
    return values.map(() => (2 * uniform() - 1) * init.bound);
  }
  if (init.kind === "normal") {
    fillNormal(values, init.std, uniformStream(seed, name));
    if (init.zeroRow !== undefined) values.fill(0, init.zeroRow * shape[1], (init.zeroRow + 1) * shape[1]);
  }
  return values;
}

/** Box-Muller: two normals from two uniforms. */
function fillNormal(values: Float32Array, std: number, uniform: () => number): void {
  for (let i = 0; i < values.length; i += 2) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - uniform())); // 1 - u is never 0
    const angle = 2 * Math.PI * uniform();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
  }
}

/** DistilBERT's table: sines in the even columns, cosines in the odd ones. */
function fillSinusoids(values: Float32Array, width: number): Float32Array {
  for (let i = 0; i < values.length; i++) {
    const position = Math.floor(i / width);
    const column = i % width;
    const angle = position / 10000 ** ((2 * Math.floor(column / 2)) / width);
    values[i] = column % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  }
  return values;
}

/** Uniform numbers in [0, 1): the sfc32 generator (PractRand), seeded with an FNV-1a hash of seed and name. */
function uniformStream(seed: number, name: string): () => number {
  let a = fnv1a(`${seed}`);
  let b = fnv1a(name);
  let c = fnv1a(`${name}/${seed}`);
  let counter = 1;
  const next = () => {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** 32-bit FNV-1a of a text's UTF-8 bytes. */
export function fnv1a(text: string): number {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 16777619);
  return hash >>> 0;
}
