/**
 * @file The bytes of a published object: one safetensors file, F32, tensors in ascending order of their names. Producer side.
 * In: tensors in memory. Out: header and views on the tensors' own buffers, never one big copy.
 */
import { Breather, digestOrder, encodeHeader, WeightsHasher } from "../checkpoint/index.js";
import { WeightsNotFiniteError } from "./errors.js";
import { findNonFinite } from "./finite.js";

/** A tensor to publish. Its numbers must not change until the publish is done. */
export interface WeightTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Where everything of an object goes. */
export interface ObjectLayout {
  /** Length prefix and JSON of the safetensors file. */
  readonly header: Uint8Array;
  /** Names in the order of their data. */
  readonly order: readonly string[];
  /** Size of the whole object. */
  readonly bytes: number;
  /** Numbers in all tensors. */
  readonly parameters: number;
}

/** Metadata in the header of a version's object. */
export function objectMetadata(run: string, model: string, version: number): Record<string, string> {
  return { format: "pt", run, model, version: String(version) };
}

/** Lays out tensors as one object. Throws RangeError when a tensor's data does not fit its shape. */
export function layOut(
  tensors: ReadonlyMap<string, WeightTensor>,
  metadata: Readonly<Record<string, string>>,
): ObjectLayout {
  const outlines = new Map([...tensors].map(([name, { shape }]) => [name, { dtype: "F32" as const, shape }]));
  const { bytes: header, tensors: places } = encodeHeader(outlines, metadata);
  for (const { name, begin, end } of places) {
    const found = tensors.get(name)!.data.byteLength;
    if (found !== end - begin) {
      throw new RangeError(
        `tensor ${name}: expected ${(end - begin) / 4} elements for its shape, got ${found / 4}`,
      );
    }
  }
  const data = places.at(-1)?.end ?? 0;
  return {
    header,
    order: places.map(({ name }) => name),
    bytes: header.length + data,
    parameters: data / 4,
  };
}

/** The object's bytes as pieces of any size, in order; all but the header are views on the tensors. */
export function* pieces(
  layout: ObjectLayout,
  tensors: ReadonlyMap<string, WeightTensor>,
): Generator<Uint8Array, void, void> {
  yield layout.header;
  for (const name of layout.order) {
    const { buffer, byteOffset, byteLength } = tensors.get(name)!.data;
    yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}

/** Content digest of the tensors; checks on the way that every number is finite, unless told not to. Throws WeightsNotFiniteError. */
export async function digestFinite(
  tensors: ReadonlyMap<string, WeightTensor>,
  version: number,
  allowNonFinite: boolean,
): Promise<string> {
  const hasher = new WeightsHasher();
  const breather = new Breather();
  for (const name of digestOrder(tensors.keys())) {
    const tensor = tensors.get(name)!;
    const bad = allowNonFinite ? -1 : await findNonFinite(tensor.data, breather);
    if (bad >= 0) throw new WeightsNotFiniteError(version, name, bad, tensor.data[bad]);
    await hasher.add(name, tensor);
  }
  return hasher.hex();
}
