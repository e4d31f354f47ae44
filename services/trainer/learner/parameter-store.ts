/**
 * @file The weights of a model in one flat float32 buffer, each weight a view of it by name. The optimizer walks the flat
 * buffer in chunks, programs are fed the views, and both see the same memory, so an update costs no copy.
 */
import type { Engine, EngineTensor } from "../../../lib/engine/index.js";
import { LearnerStateError } from "./errors.js";

/** Name and shape of a weight. */
export interface ParameterShape {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Where a weight lies in the flat buffer. */
export interface ParameterSlot extends ParameterShape {
  /** First element. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
}

/** A weight on the host. */
export interface HostParameter {
  shape: number[];
  data: Float32Array;
}

/** Weights start at multiples of 64 bytes, which vector instructions like. */
const ALIGNMENT = 16;

/** Lays weights one after another: matrices first, then vectors, so that weight decay can stop at a boundary. */
export class ParameterLayout {
  /** Slots in order of their offset. */
  readonly slots: readonly ParameterSlot[];
  /** Length of the flat buffer; the gaps between slots hold zeros. */
  readonly size: number;
  /** Elements before this belong to matrices, the rest to biases and norms. */
  readonly matrixSize: number;

  constructor(shapes: readonly ParameterShape[]) {
    let offset = 0;
    const place = (parameter: ParameterShape): ParameterSlot => {
      const size = parameter.shape.reduce((product, dim) => product * dim, 1);
      const slot = { ...parameter, offset, size };
      offset += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
      return slot;
    };
    const isMatrix = ({ shape }: ParameterShape) => shape.length > 1;
    const matrices = shapes.filter(isMatrix).map(place);
    this.matrixSize = offset;
    this.slots = [...matrices, ...shapes.filter((shape) => !isMatrix(shape)).map(place)];
    this.size = offset;
  }
}

/** A flat float32 buffer over a layout: weights, gradients or moments. */
export class ParameterBuffer {
  readonly layout: ParameterLayout;
  /** All elements, [layout.size]. */
  readonly flat: EngineTensor;
  readonly #views = new Map<string, EngineTensor>();

  /** Zeros. */
  constructor(engine: Engine, layout: ParameterLayout) {
    this.layout = layout;
    this.flat = engine.tensor("float32", [layout.size]);
    for (const { name, shape, offset } of layout.slots) this.#views.set(name, this.flat.view(shape, offset));
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
  write(tensors: ReadonlyMap<string, Float32Array>, what: string): void {
    this.check(tensors, what);
    for (const { name } of this.layout.slots) this.view(name).write(tensors.get(name)!);
  }

  /** A copy on the host, by name. All weights lie in one ArrayBuffer. */
  async read(): Promise<Map<string, HostParameter>> {
    const flat = (await this.flat.read()) as Float32Array;
    return new Map(
      this.layout.slots.map(({ name, shape, offset, size }) => [
        name,
        { shape: [...shape], data: flat.subarray(offset, offset + size) },
      ]),
    );
  }

  /** Idempotent. */
  release(): void {
    for (const view of this.#views.values()) view.release();
    this.flat.release();
  }
}
