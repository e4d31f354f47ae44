/**
 * @file What a compiled program takes and gives, and the check of one run's tensors against it.
 */
import { dimNames, evalDim, type Graph, onnxOutputName } from "../graph/index.js";
import { EngineError } from "./errors.js";
import type { EngineDType, EngineTensor } from "./types.js";

/**
 * A dimension: fixed, unknown (`undefined`), or an expression of names such as `batch` or `past+time`; a name means the
 * same size throughout a run.
 */
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
export type DimBindings = Record<string, number>;

/**
 * A session's signature under the names callers use. ONNX allows each name once, so a graph's output that is called as
 * one of its inputs (an updated weight) has another name in the model.
 */
export function renameOutputs(session: Signature, graph: Graph | Uint8Array): Signature {
  if (graph instanceof Uint8Array) return session;
  const names = new Map(graph.outputs.map(({ name }) => [onnxOutputName(graph, name), name]));
  const outputs = session.outputs.map((spec) => ({ ...spec, name: names.get(spec.name) ?? spec.name }));
  return { inputs: session.inputs, outputs };
}

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

/** A dimension that is a name of its own, and not an expression of names. */
function isName(dim: SignatureDim): dim is string {
  if (typeof dim !== "string") return false;
  try {
    const names = dimNames(dim);
    return names.length === 1 && names[0] === dim;
  } catch {
    return true; // a name of another tool's making
  }
}

/** The size of a dimension in this run, or undefined where it depends on more than the inputs' shapes. */
function sizeOf(dim: SignatureDim, bound: DimBindings): number | undefined {
  if (typeof dim !== "string") return dim;
  const known = bound[dim];
  if (known !== undefined || isName(dim)) return known;
  return dimNames(dim).every((name) => bound[name] !== undefined) ? evalDim(dim, bound) : undefined;
}

function bind(spec: ValueSpec, tensor: EngineTensor, bound: DimBindings): void {
  if (tensor.dims.length !== spec.dims?.length) return; // checkOne will say so
  spec.dims.forEach((dim, axis) => {
    if (isName(dim)) bound[dim] ??= tensor.dims[axis];
  });
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
    const size = sizeOf(dim, bound);
    if (size === undefined || size === tensor.dims[axis]) return;
    fail(typeof dim === "string" ? ` (${dim} is ${size} in this run)` : "");
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
  const bound: DimBindings = {};
  for (const spec of signature.inputs) if (feeds[spec.name]) bind(spec, feeds[spec.name], bound);
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
    const size = sizeOf(dim, bound);
    if (size === undefined) return undefined;
    dims.push(size);
  }
  return dims;
}
