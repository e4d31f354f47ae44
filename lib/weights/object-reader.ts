/**
 * @file Takes the bytes of a published object as they arrive and turns them into float32 arrays, each on an ArrayBuffer of its
 * own. Consumer side; holds nothing but the arrays. Checks length, header, names, shapes, types, digest and finiteness, and
 * gives nothing out before all of it holds.
 */
import {
  Breather,
  CheckpointError,
  type TensorInfo,
  type TensorSpec,
  WeightsHasher,
} from "../checkpoint/index.js";
import { parseHeader, readHeaderLength, type SafetensorsHeader } from "../checkpoint/safetensors-header.js";
import { WeightsCorruptError } from "./errors.js";
import { findNonFinite } from "./finite.js";
import type { WeightsManifest } from "./manifest.js";
import { objectMetadata } from "./object-bytes.js";

/** Reads one object. Call push for every chunk in order, then finish. */
export class ObjectReader {
  readonly #manifest: WeightsManifest;
  readonly #expected: readonly TensorSpec[] | undefined;
  readonly #hasher = new WeightsHasher();
  readonly #tensors = new Map<string, Float32Array>();
  #head: Uint8Array | undefined = new Uint8Array(8); // length prefix, then the whole header
  #headFilled = 0;
  #order: readonly TensorInfo[] = [];
  #next = 0; // index in #order of the tensor being filled
  #target: Uint8Array = new Uint8Array(0); // its bytes
  #filled = 0;
  #received = 0;
  readonly #breather = new Breather();
  #checks: Promise<void> = Promise.resolve();
  #notFinite: { tensor: string; index: number; value: number } | undefined;

  /** `expected`: the parameters that the model has; without it, whatever the object holds is taken. */
  constructor(manifest: WeightsManifest, expected?: readonly TensorSpec[]) {
    this.#manifest = manifest;
    this.#expected = expected;
  }

  /** Bytes taken so far. */
  get received(): number {
    return this.#received;
  }

  /** Takes the next bytes; they are copied, the caller may reuse its buffer. Throws WeightsCorruptError. */
  push(chunk: Uint8Array): void {
    this.#received += chunk.length;
    if (this.#received > this.#manifest.bytes) {
      throw this.#corrupt(`${this.#manifest.bytes} bytes`, `${this.#received} bytes or more`);
    }
    let rest = chunk;
    while (this.#head && rest.length > 0) rest = this.#takeHeader(this.#head, rest);
    while (rest.length > 0) {
      const part = rest.subarray(0, this.#target.length - this.#filled);
      this.#target.set(part, this.#filled);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled === this.#target.length) this.#completeTensor();
    }
  }

  /** The tensors, when everything was received and is sound. Throws WeightsCorruptError. */
  async finish(): Promise<Map<string, Float32Array>> {
    const { bytes, digest } = this.#manifest;
    if (this.#received !== bytes || this.#head)
      throw this.#corrupt(`${bytes} bytes`, `${this.#received} bytes`);
    await this.#checks;
    const found = this.#hasher.hex();
    if (found !== digest) throw this.#corrupt(`sha256 ${digest}`, found);
    // only now: a number that is not finite because bits were flipped on the way is a wrong digest first of all
    if (this.#notFinite) {
      const { tensor, index, value } = this.#notFinite;
      throw this.#corrupt("finite numbers", `${value} at element ${index}`, tensor);
    }
    return this.#tensors;
  }

  /** Fills the header; returns what follows it. */
  #takeHeader(head: Uint8Array, chunk: Uint8Array): Uint8Array {
    const part = chunk.subarray(0, head.length - this.#headFilled);
    head.set(part, this.#headFilled);
    this.#headFilled += part.length;
    if (this.#headFilled === head.length) {
      if (head.length === 8) {
        this.#head = new Uint8Array(
          8 + this.#checked(() => readHeaderLength(head, this.#manifest.bytes, "object")),
        );
        this.#head.set(head);
        if (this.#head.length === 8) throw this.#corrupt("a header", "none");
      } else {
        this.#head = undefined;
        const header = this.#checked(() => parseHeader(head.subarray(8), this.#manifest.bytes, "object"));
        this.#checkHeader(header);
        this.#order = [...header.tensors.values()];
        this.#beginTensor();
      }
    }
    return chunk.subarray(part.length);
  }

  #checkHeader(header: SafetensorsHeader): void {
    const { run, model, version, parameters } = this.#manifest;
    for (const [key, value] of Object.entries(objectMetadata(run, model, version))) {
      if (header.metadata[key] !== value) {
        throw this.#corrupt(`${key} ${value} in its metadata`, String(header.metadata[key]));
      }
    }
    let count = 0;
    for (const { name, dtype, begin, end } of header.tensors.values()) {
      if (dtype !== "F32") throw this.#corrupt("dtype F32", dtype, name);
      count += (end - begin) / 4;
    }
    if (count !== parameters) throw this.#corrupt(`${parameters} parameters`, `${count}`);
    if (!this.#expected) return;
    const names = new Set<string>();
    for (const { name, shape, optional } of this.#expected) {
      names.add(name);
      const info = header.tensors.get(name);
      if (!info && !optional) throw this.#corrupt(`shape [${shape}]`, "no such tensor", name);
      if (info && (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i]))) {
        throw this.#corrupt(`shape [${shape}]`, `[${info.shape}]`, name);
      }
    }
    for (const name of header.tensors.keys()) {
      if (!names.has(name)) throw this.#corrupt("no tensor of that name in this model", "one", name);
    }
  }

  /** Makes room for the next tensor that has any bytes. */
  #beginTensor(): void {
    const info = this.#order[this.#next];
    if (!info) return;
    const values = new Float32Array(new ArrayBuffer(info.end - info.begin));
    this.#tensors.set(info.name, values);
    this.#target = new Uint8Array(values.buffer);
    this.#filled = 0;
    if (values.length > 0) return;
    this.#completeTensor();
  }

  /** Checks a tensor that is whole while the next ones arrive. */
  #completeTensor(): void {
    const { name, shape } = this.#order[this.#next];
    const data = this.#tensors.get(name)!;
    this.#checks = this.#checks.then(async () => {
      await this.#hasher.add(name, { shape, data });
      const index = this.#notFinite ? -1 : await findNonFinite(data, this.#breather);
      if (index >= 0) this.#notFinite = { tensor: name, index, value: data[index] };
    });
    this.#next++;
    this.#beginTensor();
  }

  #checked<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      const { tensor, expected, found } = error;
      throw this.#corrupt(expected, found, tensor, error);
    }
  }

  #corrupt(expected: string, found: string, tensor?: string, cause?: unknown): WeightsCorruptError {
    const { object, version } = this.#manifest;
    return new WeightsCorruptError({ object, version, tensor, expected, found }, { cause });
  }
}
