/**
 * @file What a compiled program takes and gives, and the check of one run's tensors against it.
 */
import { EngineError } from "./errors.js";
import type { EngineDType, EngineTensor } from "./types.js";

/** A dimension: fixed, named (the same name means the same size throughout a run), or unknown (`undefined`). */
export type SignatureDim = number | string | undefined;

/** One input or output of a program. `dims` is undefined where even the rank is unknown. */
export interface ValueSpec {
  readonly name: string;
  readonly dtype: EngineDType;
  readonly dims: readonly SignatureDim[] | undefined;
}

/** All inputs and outputs of a program, in its own order. */
export interface Signature {
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
}

/** Sizes that one run gives to the named dimensions. */
export type DimBindings = Map<string, number>;

function describe(dtype: string, dims: readonly SignatureDim[] | undefined): string {
  return `${dtype}[${dims === undefined ? "…" : dims.map((dim) => dim ?? "?").join(", ")}]`;
}

function checkNames(
  role: "feed" | "into",
  specs: readonly ValueSpec[],
  given: Record<string, EngineTensor>,
): void {
  for (const name in given) {
    if (specs.some((spec) => spec.name === name)) continue;
    const expected = specs.map((spec) => spec.name).join(", ");
    throw new EngineError("INVALID_FEED", `${role} ${name}: unknown name, expected one of ${expected}`, {
      name,
      expected,
      got: name,
    });
  }
}

function checkOne(role: "feed" | "into", spec: ValueSpec, tensor: EngineTensor, bound: DimBindings): void {
  const fail = (why: string): never => {
    const expected = describe(spec.dtype, spec.dims);
    const got = describe(tensor.dtype, tensor.dims);
    const message = `${role} ${spec.name}: expected ${expected}, got ${got}${why}`;
    throw new EngineError("INVALID_FEED", message, { name: spec.name, expected, got });
  };
  if (tensor.dtype !== spec.dtype) fail("");
  if (spec.dims === undefined) return;
  if (tensor.dims.length !== spec.dims.length) fail("");
  spec.dims.forEach((dim, axis) => {
    const size = tensor.dims[axis];
    if (typeof dim === "number" && dim !== size) fail("");
    if (typeof dim !== "string") return;
    const known = bound.get(dim);
    if (known === undefined) {
      // an output's own dimension name does not bind anything: only inputs say how large a dimension is
      if (role === "feed") bound.set(dim, size);
    } else if (known !== size) fail(` (${dim} is ${known} in this run)`);
  });
}

/**
 * Checks the tensors of one run. Returns the sizes of the named dimensions.
 * Throws EngineError (INVALID_FEED) that names the first tensor at fault, what was expected and what was given.
 */
export function checkRun(
  signature: Signature,
  feeds: Record<string, EngineTensor>,
  into: Record<string, EngineTensor>,
): DimBindings {
  const bound: DimBindings = new Map();
  if (Object.keys(feeds).length > signature.inputs.length) checkNames("feed", signature.inputs, feeds);
  for (const spec of signature.inputs) {
    const tensor = feeds[spec.name];
    if (tensor === undefined) {
      checkNames("feed", signature.inputs, feeds);
      const expected = describe(spec.dtype, spec.dims);
      throw new EngineError("INVALID_FEED", `feed ${spec.name}: missing, expected ${expected}`, {
        name: spec.name,
        expected,
        got: "nothing",
      });
    }
    checkOne("feed", spec, tensor, bound);
  }
  let used = 0;
  for (const spec of signature.outputs) {
    const tensor = into[spec.name];
    if (tensor === undefined) continue;
    used += 1;
    checkOne("into", spec, tensor, bound);
  }
  if (Object.keys(into).length > used) checkNames("into", signature.outputs, into);
  return bound;
}

/** The shape an output will have in a run with these bindings, or undefined where it is only known afterwards. */
export function resolveDims(spec: ValueSpec, bound: DimBindings): number[] | undefined {
  if (spec.dims === undefined) return undefined;
  const dims: number[] = [];
  for (const dim of spec.dims) {
    const size = typeof dim === "string" ? bound.get(dim) : dim;
    if (size === undefined) return undefined;
    dims.push(size);
  }
  return dims;
}
