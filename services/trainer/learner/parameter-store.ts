/**
 * @file The weights of a model in long flat float32 vectors, each weight a view by name. The optimizer walks the vectors, programs are
 * fed the views, and both see the same memory, so an update costs no copy.
 */
import { type Engine, type EngineTensor, longestTogether, VectorMemory } from "../../../lib/engine/index.js";
import { LearnerStateError } from "./errors.js";

/** Name and shape of a weight. */
export interface ParameterShape {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Where a weight lies. */
export interface ParameterSlot extends ParameterShape {
  /** Number of its segment. */
  readonly segment: number;
  /** First element in the segment. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
}

/** A stretch of weights in one vector. */
export interface Segment {
  /** Elements. The gaps between slots hold zeros. */
  readonly size: number;
  /** Elements before this belong to matrices, the rest to biases and norms. */
  readonly matrixSize: number;
}

/** A weight on the host. */
export interface HostParameter {
  shape: number[];
  data: Float32Array;
}

/** Weights start at multiples of 64 bytes, a line of the cache. */
const ALIGNMENT = 16;

/** Weights, gradients, what a further minibatch adds to them, and both moments of Adam: what one optimizer step runs over. */
const BUFFERS = 5;

/** Most elements of a segment: 214 million, 4 GiB for all buffers together. A model below that has one segment. */
const LONGEST = longestTogether(BUFFERS);

/**
 * Lays weights one after another: matrices first, then vectors, so that weight decay can stop at a boundary. Throws LearnerStateError
 * where one weight is longer than `longest` elements.
 */
export class ParameterLayout {
  readonly slots: readonly ParameterSlot[];
  readonly segments: readonly Segment[];

  constructor(shapes: readonly ParameterShape[], longest = LONGEST) {
    const segments = [{ size: 0, matrixSize: 0 }];
    const place = (parameter: ParameterShape): ParameterSlot => {
      const size = parameter.shape.reduce((product, dim) => product * dim, 1);
      const room = Math.ceil(size / ALIGNMENT) * ALIGNMENT;
      if (room > longest) {
        throw new LearnerStateError(`${parameter.name}: expected at most ${longest} elements, got ${size}`);
      }
      if (segments[segments.length - 1].size + room > longest) segments.push({ size: 0, matrixSize: 0 });
      const segment = segments[segments.length - 1];
      const slot = { ...parameter, segment: segments.length - 1, offset: segment.size, size };
      segment.size += room;
      if (isMatrix(parameter)) segment.matrixSize = segment.size;
      return slot;
    };
    const isMatrix = ({ shape }: ParameterShape) => shape.length > 1;
    const matrices = shapes.filter(isMatrix).map(place);
    this.slots = [...matrices, ...shapes.filter((shape) => !isMatrix(shape)).map(place)];
    this.segments = segments;
  }
}

/** Memory for the buffers over one layout, laid out so that elementwise programs run over them together. */
export class ParameterMemory {
  readonly engine: Engine;
  readonly layout: ParameterLayout;
  readonly #segments: readonly VectorMemory[];

  constructor(engine: Engine, layout: ParameterLayout) {
    this.engine = engine;
    this.layout = layout;
    this.#segments = layout.segments.map(({ size }) => new VectorMemory(engine, { size, count: BUFFERS }));
  }

  /** A buffer of zeros; memory has room for five. The caller's to release. */
  buffer(): ParameterBuffer {
    return new ParameterBuffer(
      this.layout,
      this.#segments.map((segment) => segment.take()),
    );
  }
}

/** Flat float32 vectors over a layout: weights, gradients or moments. */
export class ParameterBuffer {
  readonly layout: ParameterLayout;
  /** One vector for each segment of the layout. */
  readonly vectors: readonly EngineTensor[];
  readonly #views = new Map<string, EngineTensor>();

  /** Takes over `vectors`, one for each segment. */
  constructor(layout: ParameterLayout, vectors: readonly EngineTensor[]) {
    this.layout = layout;
    this.vectors = vectors;
    for (const { name, shape, segment, offset } of layout.slots) {
      this.#views.set(name, vectors[segment].view(shape, offset));
    }
  }

  /** The view of one weight. Throws where the layout has no such name. */
  view(name: string): EngineTensor {
    const view = this.#views.get(name);
    if (!view) throw new LearnerStateError(`${name}: no such weight`);
    return view;
  }

  /**
   * Throws LearnerStateError, naming the first weight that is missing from `tensors` or has another size. Other tensors are
   * let be. `what` leads the message.
   */
  check(tensors: ReadonlyMap<string, Float32Array>, what: string): void {
    for (const { name, shape, size } of this.layout.slots) {
      const data = tensors.get(name);
      if (data?.length === size) continue;
      const got = data ? `${data.length} numbers` : "nothing";
      throw new LearnerStateError(`${what} ${name}: expected [${shape.join(", ")}], got ${got}`);
    }
  }

  /** Overwrites all of it with copies of `tensors`, which must pass `check`; otherwise nothing is changed. */
  async write(tensors: ReadonlyMap<string, Float32Array>, what: string): Promise<void> {
    this.check(tensors, what);
    for (const { name } of this.layout.slots) await this.view(name).write(tensors.get(name)!);
  }

  /** A copy on the host, by name. */
  async read(): Promise<Map<string, HostParameter>> {
    const flat = (await Promise.all(this.vectors.map((vector) => vector.read()))) as Float32Array[];
    return new Map(
      this.layout.slots.map(({ name, shape, segment, offset, size }) => [
        name,
        { shape: [...shape], data: flat[segment].subarray(offset, offset + size) },
      ]),
    );
  }

  /** Sets all to zero. */
  async clear(): Promise<void> {
    for (const vector of this.vectors) await vector.write(new Float32Array(vector.size));
  }

  /** Idempotent. */
  release(): void {
    for (const view of this.#views.values()) view.release();
    for (const vector of this.vectors) vector.release();
  }
}
